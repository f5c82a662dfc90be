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
mod kinds;
mod live;
mod machine;
mod pressure;
mod temperature;
#[cfg(test)]
mod tests;

use std::path::Path;

use cgroup::Counters;
use files::Root;

pub use files::Garbled;
pub use kinds::{KINDS, Kind, reserve_level};
pub use live::{Live, SensorSettings};
pub use machine::{Machine, MemoryBound};

/// What reading one kind of sensor came to.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the kind's unit; none where there is no such sensor, or nothing that makes sense.
    pub value: Option<f64>,
    /// Where it comes from, with what it says there.
    pub from: Vec<String>,
    /// Files that make no sense.
    pub garbled: Vec<Garbled>,
}

impl Sample {
    /// Takes what a file said, or that it makes no sense; none if there is no such file.
    fn keep<T>(&mut self, read: Result<Option<T>, Garbled>) -> Option<T> {
        match read {
            Ok(found) => found,
            Err(garbled) => {
                self.garbled.push(garbled);
                None
            }
        }
    }

    /// Takes a value if it is the least so far.
    fn least(&mut self, value: f64) {
        self.value = Some(self.value.map_or(value, |least| least.min(value)));
    }
}

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
    pub fn read(&mut self) -> Vec<(&'static Kind, Sample)> {
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
