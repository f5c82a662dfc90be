//! How much memory this process may take of the machine: what a default limit is chosen from.
//!
//! Read once, when a model is opened. Unlike the sensors it never becomes an observation: what is chosen is recorded, and a
//! replay takes it from the recording.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::{Garbled, Root, text};
use super::{Sample, cgroup};
use crate::input::human_bytes;

/// The variable that names a folder with `proc` and `sys` which stands for the machine.
pub(super) const VARIABLE: &str = "SAGE_SYSFS";

/// Something that bounds the memory of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryBound {
    /// What bounds it, with its verb: `control group /x allows`, `the machine has`.
    pub what: String,
    /// What the process could have if nothing else were there.
    pub total_bytes: u64,
    /// What the process can have now, what it holds already included: what others hold is taken off, page cache is not.
    pub available_bytes: u64,
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, available) = (self.total_bytes, self.available_bytes);
        write!(
            f,
            "{} {}, {} available",
            self.what,
            human_bytes(total),
            human_bytes(available)
        )
    }
}

/// Every bound on this process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// In no particular order; none where the system does not say.
    pub bounds: Vec<MemoryBound>,
    /// Files that make no sense, and were passed over.
    pub garbled: Vec<Garbled>,
}

impl Machine {
    /// The machine that this process runs on, or the folder that the environment names in its place (`SAGE_SYSFS`).
    pub fn of_process() -> Self {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        Self::read(named.as_deref())
    }

    /// This machine, or a tree that stands for one: `sysfs` holds `proc` and `sys`.
    pub fn read(sysfs: Option<&Path>) -> Self {
        let root = Root::new(sysfs.unwrap_or(Path::new("/")));
        let mut sample = Sample::default();
        let status = read(&root, "/proc/self/status", &mut sample);
        let own_bytes = kibibytes(&status, "RssAnon:")
            .or_else(|| kibibytes(&status, "VmRSS:"))
            .unwrap_or(0);
        let mut bounds = Vec::new();
        let meminfo = read(&root, "/proc/meminfo", &mut sample);
        let free = kibibytes(&meminfo, "MemAvailable:").or_else(|| kibibytes(&meminfo, "MemFree:"));
        if let (Some(total), Some(free)) = (kibibytes(&meminfo, "MemTotal:"), free) {
            bounds.push(bound("the machine has", total, free + own_bytes));
        }
        for group in cgroup::limits(&root, &mut sample) {
            let others = group.held_bytes.saturating_sub(own_bytes);
            bounds.push(bound(
                &format!("control group {} allows", group.path),
                group.limit_bytes,
                group.limit_bytes.saturating_sub(others),
            ));
        }
        let limits = read(&root, "/proc/self/limits", &mut sample);
        for (name, option, taken) in [
            ("Max address space", "-v", "VmSize:"),
            ("Max data size", "-d", "VmData:"),
        ] {
            let Some(limit) = soft_limit(&limits, name) else {
                continue;
            };
            // What is mapped and not in memory counts here all the same.
            let mapped = kibibytes(&status, taken).unwrap_or(0);
            let left = limit.saturating_sub(mapped.saturating_sub(own_bytes));
            bounds.push(bound(&format!("ulimit {option} allows"), limit, left));
        }
        Self {
            bounds,
            garbled: sample.garbled,
        }
    }

    /// The bound that no limit can exceed, whatever else runs; none where the system does not say.
    pub fn most(&self) -> Option<&MemoryBound> {
        self.bounds.iter().min_by_key(|bound| bound.total_bytes)
    }
}

fn bound(what: &str, total_bytes: u64, available_bytes: u64) -> MemoryBound {
    MemoryBound {
        what: what.to_owned(),
        total_bytes,
        available_bytes: available_bytes.min(total_bytes),
    }
}

/// The text of a file; empty where there is none, or it makes no sense.
fn read(root: &Root, path: &str, sample: &mut Sample) -> String {
    sample.keep(text(&root.path(path))).unwrap_or_default()
}

/// The bytes of a line `NAME: 123 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = rest.trim().trim_end_matches("kB").trim();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of a line `NAME  SOFT  HARD  UNITS`; none where it is unlimited.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
