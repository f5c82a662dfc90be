//! The control group's memory: both versions, limits above the process's own group, and how groups are found.

use super::*;

#[test]
fn the_cgroup_s_memory_depletes_and_recovers() {
    // Version 2, limited above the process's own group; the cache is not in use.
    let two = [
        CGROUP_V2,
        &[
            ("/sys/fs/cgroup/work/memory.max", "1000\n"),
            ("/sys/fs/cgroup/work/memory.high", "max\n"),
            (
                "/sys/fs/cgroup/work/memory.stat",
                "anon 1\ninactive_file 300\nactive_file 100\n",
            ),
            ("/sys/fs/cgroup/work/sage/memory.current", "700\n"),
            ("/sys/fs/cgroup/work/sage/memory.max", "max\n"),
        ],
    ]
    .concat();
    let calm: Files<'_> = &[("/sys/fs/cgroup/work/memory.current", "1000\n")];
    depletes_and_recovers(
        "machine.memory",
        &two,
        calm,
        &[("/sys/fs/cgroup/work/memory.current", "1395\n")],
    );
    depletes_and_recovers(
        "machine.memory",
        &two,
        &[
            ("/sys/fs/cgroup/work/memory.current", "1000\n"),
            ("/sys/fs/cgroup/work/memory.high", "max\n"),
        ],
        &[("/sys/fs/cgroup/work/memory.high", "605\n")],
    );
    // Version 1, limited at the process's own group.
    let one = [
        CGROUP_V1,
        &[(
            "/sys/fs/cgroup/memory/work/sage/memory.limit_in_bytes",
            "1000\n",
        )],
    ]
    .concat();
    depletes_and_recovers(
        "machine.memory",
        &one,
        &[(
            "/sys/fs/cgroup/memory/work/sage/memory.usage_in_bytes",
            "800\n",
        )],
        &[(
            "/sys/fs/cgroup/memory/work/sage/memory.usage_in_bytes",
            "985\n",
        )],
    );
}

#[test]
fn running_into_the_limit_depletes_and_recovers() {
    // The counters rise once: one reading later nothing has happened since.
    let current = "/sys/fs/cgroup/work/sage/memory.current";
    let max = "/sys/fs/cgroup/work/sage/memory.max";
    let events = "/sys/fs/cgroup/work/sage/memory.events";
    let used = "/sys/fs/cgroup/memory/work/sage/memory.usage_in_bytes";
    let limit = "/sys/fs/cgroup/memory/work/sage/memory.limit_in_bytes";
    let failcnt = "/sys/fs/cgroup/memory/work/sage/memory.failcnt";
    let oom = "/sys/fs/cgroup/memory/work/sage/memory.oom_control";
    let two = [CGROUP_V2, &[(current, "0"), (max, "1000")]].concat();
    let one = [CGROUP_V1, &[(used, "0"), (limit, "1000")]].concat();
    let none = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
    for (name, base, file, before, after) in [
        (
            "machine.oom",
            &two,
            events,
            "low 0\nhigh 0\nmax 0\noom 1\noom_kill 0\n",
            "low 0\nhigh 0\nmax 0\noom 2\noom_kill 0\n",
        ),
        (
            "machine.oom",
            &one,
            oom,
            none,
            "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        ),
        (
            "machine.oom",
            &one,
            oom,
            none,
            "oom_kill_disable 1\nunder_oom 1\noom_kill 3\n",
        ),
    ] {
        depletes_and_recovers(name, base, &[(file, before)], &[(file, after)]);
    }
    // Limit hits count where memory is short; 190 of 1000 free are nearly enough by themselves.
    for (base, usage, counter, before, after) in [
        (
            &two,
            current,
            events,
            "high 5\nmax 7\noom 0\noom_kill 0\n",
            "high 45\nmax 67\noom 0\noom_kill 0\n",
        ),
        (&one, used, failcnt, "5\n", "105\n"),
    ] {
        let root = machine(base);
        write(root.path(), &[(usage, "810"), (counter, before)]);
        let mut body = Body::new(root.path());
        assert_ne!(body.live(20), State::Depletion);
        assert!(body.levels["machine.memory"] > 0.9);
        write(root.path(), &[(counter, after)]);
        assert!((0..8).any(|_| body.live(1) == State::Depletion));
        assert_eq!(body.levels["machine.limit_hits"], 0.0);
        assert_ne!(body.live(20), State::Depletion);
        // With enough free they are the page cache's doing.
        write(root.path(), &[(usage, "100"), (counter, before)]);
        body.live(10);
        write(root.path(), &[(counter, after)]);
        body.live(10);
        assert_eq!(body.lacking(), Vec::<&str>::new());
    }
}

#[test]
fn groups_are_found_through_the_mounts() {
    let own = "/sys/fs/cgroup/memory.current";
    let limited = |cgroup: &str, mounts: &str, list: &str| {
        let root = machine(&[
            ("/proc/self/cgroup", cgroup),
            (list, mounts),
            (own, "0"),
            ("/sys/fs/cgroup/memory.max", "100"),
            ("/elsewhere/a b/memory.current", "50"),
            ("/elsewhere/a b/memory.max", "100"),
        ]);
        values(root.path()).0.get("machine.memory").copied()
    };
    let info = "/proc/self/mountinfo";
    // In a container the group's path is that of the host, and so is the top of what is mounted.
    let container = "31 23 0:28 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(limited("0::/docker/abc\n", container, info), Some(100.0));
    assert_eq!(limited("0::/docker/abcdef\n", container, info), Some(100.0));
    assert_eq!(limited("0::/../..\n", container, info), Some(100.0));
    let elsewhere = "31 23 0:28 / /elsewhere/a\\040b rw shared:9 - cgroup2 cgroup2 rw\n";
    assert_eq!(limited("0::/\n", elsewhere, info), Some(50.0));
    let mounts = "cgroup2 /elsewhere/a\\040b cgroup2 rw,relatime 0 0\n";
    assert_eq!(limited("0::/\n", mounts, "/proc/mounts"), Some(50.0));
    // Without a list of mounts, where they usually stand.
    assert_eq!(limited("0::/\n", "", "/none"), Some(100.0));
    // Without a limit there is no reserve: version 1 writes it as a number.
    let used = "/sys/fs/cgroup/memory/work/sage/memory.usage_in_bytes";
    let limit = "/sys/fs/cgroup/memory/work/sage/memory.limit_in_bytes";
    let files = [CGROUP_V1, &[(used, "5"), (limit, "9223372036854771712\n")]].concat();
    assert_eq!(
        values(machine(&files).path()),
        (BTreeMap::new(), Vec::new())
    );
}
