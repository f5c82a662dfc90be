//! What a default limit is chosen from: both versions of control groups, what others hold, and what the system does not say.

use super::*;
use crate::sensors::Machine;

const MIB: u64 = 1 << 20;

const MEMORY: Files<'_> = &[(
    "/proc/meminfo",
    "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\nSwapTotal: 99999 kB\n",
)];

/// Total and available of every bound, by what it is.
fn bounds(files: &[Files<'_>]) -> BTreeMap<String, (u64, u64)> {
    let found = Machine::read(Some(machine(&files.concat()).path()));
    assert_eq!(found.garbled, Vec::new());
    let bounds = found.bounds.into_iter();
    bounds
        .map(|bound| (bound.what, (bound.total_bytes, bound.available_bytes)))
        .collect()
}

#[test]
fn swap_is_no_memory_and_what_the_process_holds_is_its_own() {
    let status: Files<'_> = &[(
        "/proc/self/status",
        "VmRSS:\t 3072 kB\nRssAnon:\t 2048 kB\n",
    )];
    let of = |more: &[Files<'_>]| bounds(&[&[MEMORY], more].concat())["the machine has"];
    assert_eq!(of(&[]), (16 * MIB, 8 * MIB));
    assert_eq!(of(&[status]), (16 * MIB, 10 * MIB));
    let old: Files<'_> = &[("/proc/meminfo", "MemTotal: 2048 kB\nMemFree: 1024 kB\n")];
    assert_eq!(bounds(&[old])["the machine has"], (2 * MIB, MIB));
}

#[test]
fn every_group_above_counts_in_both_versions() {
    let two: Files<'_> = &[
        ("/sys/fs/cgroup/work/sage/memory.max", "max\n"),
        ("/sys/fs/cgroup/work/sage/memory.high", "9000\n"),
        ("/sys/fs/cgroup/work/sage/memory.current", "100\n"),
        ("/sys/fs/cgroup/work/memory.max", "5000\n"),
        ("/sys/fs/cgroup/work/memory.current", "3000\n"),
        (
            "/sys/fs/cgroup/work/memory.stat",
            "anon 1\ninactive_file 400\nactive_file 600\n",
        ),
    ];
    let found = bounds(&[CGROUP_V2, two]);
    assert_eq!(found["control group /work/sage allows"], (9000, 8900));
    // Others hold 2000 there, and the cache gives way.
    assert_eq!(found["control group /work allows"], (5000, 3000));

    let one: Files<'_> = &[
        (
            "/sys/fs/cgroup/memory/work/sage/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        (
            "/sys/fs/cgroup/memory/work/sage/memory.stat",
            "total_inactive_file 7\nhierarchical_memory_limit 3000\n",
        ),
        (
            "/sys/fs/cgroup/memory/work/sage/memory.usage_in_bytes",
            "107\n",
        ),
        ("/sys/fs/cgroup/memory/work/memory.limit_in_bytes", "6000\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8000\n"),
    ];
    let found = bounds(&[CGROUP_V1, one]);
    // One that cannot be seen from here is said by the group's own account.
    assert_eq!(found["control group /work/sage allows"], (3000, 2900));
    assert_eq!(found["control group /work allows"], (6000, 6000));
    assert_eq!(found["control group / allows"], (8000, 8000));
}

#[test]
fn what_is_mapped_and_not_in_memory_counts_where_the_shell_limits_it() {
    let limits: Files<'_> = &[
        (
            "/proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max data size             unlimited            unlimited            bytes\n\
             Max address space         4096000              unlimited            bytes\n",
        ),
        (
            "/proc/self/status",
            "VmSize: 1000 kB\nRssAnon: 400 kB\nVmData: 500 kB\n",
        ),
    ];
    let found = bounds(&[limits]);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found["ulimit -v allows"],
        (4_096_000, 4_096_000 - 600 * 1024)
    );
}

#[test]
fn what_is_not_there_bounds_nothing_and_what_makes_no_sense_is_said() {
    let nothing = Machine::read(Some(machine(&[]).path()));
    assert_eq!(nothing, Machine::default());
    assert_eq!(nothing.most(), None);
    let garbled: Files<'_> = &[
        ("/sys/fs/cgroup/work/memory.max", "lots\n"),
        ("/proc/meminfo", "MemTotal: many kB\nMemAvailable: 1 kB\n"),
    ];
    let found = Machine::read(Some(machine(&[CGROUP_V2, garbled].concat()).path()));
    assert_eq!(found.bounds, Vec::new());
    assert_eq!(found.garbled.len(), 1);
    // This machine says something, whatever it is.
    if cfg!(target_os = "linux") {
        let here = Machine::of_process();
        assert!(here.most().expect("a bound").total_bytes > MIB);
    }
}
