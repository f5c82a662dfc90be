//! How a machine is set up, as far as it makes a run slow: read once, for whoever asks what limits it. No decision hears of it.

use std::path::{Path, PathBuf};

use super::files::{Root, text};
use super::machine::VARIABLE;

/// Whether the system gives large pages to memory that asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// To all memory.
    Always,
    /// To memory that asks.
    Madvise,
    /// Never.
    Never,
    /// The system does not say.
    Unknown,
}

/// How a machine is set up. What the system does not say is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSetup {
    /// Transparent huge pages.
    pub huge_pages: HugePages,
    /// Swap space, bytes.
    pub swap_bytes: Option<u64>,
    /// Bytes of it that are in use.
    pub swap_used_bytes: Option<u64>,
    /// How the frequency of the first processor is governed.
    pub governor: Option<String>,
    /// `vm.overcommit_memory`: 2 refuses to map more than there is.
    pub overcommit: Option<u64>,
    /// Files that the process may have open.
    pub open_files: Option<u64>,
}

impl HostSetup {
    /// The machine that this process runs on, or the folder that the environment names in its place (`SAGE_SYSFS`).
    pub fn of_process() -> Self {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        Self::read(named.as_deref())
    }

    /// This machine, or a tree that stands for one: `sysfs` holds `proc` and `sys`.
    pub fn read(sysfs: Option<&Path>) -> Self {
        let root = Root::new(sysfs.unwrap_or(Path::new("/")));
        let read = |path: &str| text(&root.path(path)).ok().flatten();
        let kibibytes = |name: &str| {
            let meminfo = read("/proc/meminfo")?;
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            let number = line.split_whitespace().next()?;
            Some(number.parse::<u64>().ok()? * 1024)
        };
        let swap_bytes = kibibytes("SwapTotal:");
        let swap_free = kibibytes("SwapFree:");
        let limits = read("/proc/self/limits").unwrap_or_default();
        let open_files = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Self {
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled")
                .map_or(HugePages::Unknown, |text| huge_pages(&text)),
            swap_bytes,
            swap_used_bytes: swap_bytes
                .zip(swap_free)
                .map(|(all, free)| all.saturating_sub(free)),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .map(|text| text.trim().to_owned()),
            overcommit: read("/proc/sys/vm/overcommit_memory")
                .and_then(|text| text.trim().parse().ok()),
            open_files,
        }
    }
}

/// `always [madvise] never`.
fn huge_pages(text: &str) -> HugePages {
    let mut words = text.split_whitespace();
    match words.find(|word| word.starts_with('[')) {
        Some("[always]") => HugePages::Always,
        Some("[madvise]") => HugePages::Madvise,
        Some("[never]") => HugePages::Never,
        _ => HugePages::Unknown,
    }
}
