//! What the machine says of itself: memory pressure, the control group's memory, temperature, battery.
//!
//! A reading enters the mind only as an observation at a tick, like everything else from outside. None of these
//! sensors declares a healthy range, so that none of them is a threat: a machine that runs short wants less, and
//! Threat spends more. Each says what is left of a reserve, and the least reserve bounds the energy.
//!
//! A sensor that is not there is normal. A file that makes no sense is a reading that is skipped, and said.

mod battery;
mod cgroup;
mod files;
mod host;
mod kinds;
mod live;
mod machine;
mod pressure;
mod sample;
mod temperature;
#[cfg(test)]
mod tests;

use std::path::Path;

use cgroup::Counters;
use files::Root;

pub use files::Garbled;
pub use host::{HostSetup, HugePages};
pub use kinds::{KINDS, SensorKind, reserve_level};
pub use live::{Live, SensorSettings};
pub use machine::{Machine, MemoryBound};
pub use sample::Sample;

/// The sensors of a machine.
#[derive(Debug)]
pub struct Sensors {
    root: Root,
    counters: Counters,
}

impl Sensors {
    /// Of this machine, or of a tree that stands for one: `sysfs` holds `proc` and `sys`.
    pub fn new(sysfs: Option<&Path>) -> Self {
        Self {
            root: Root::new(sysfs.unwrap_or(Path::new("/"))),
            counters: Counters::default(),
        }
    }

    /// Reads every kind once, in the order of [`KINDS`].
    pub fn read(&mut self) -> Vec<(&'static SensorKind, Sample)> {
        let root = &self.root;
        let memory = cgroup::memory(root);
        let (limit_hits, oom) = cgroup::events(root, &mut self.counters, memory.value);
        let samples: [Sample; KINDS.len()] = [
            pressure::of_machine(root),
            pressure::of_cgroup(root),
            memory,
            limit_hits,
            oom,
            temperature::read(root),
            battery::read(root),
        ];
        KINDS.iter().zip(samples).collect()
    }
}
