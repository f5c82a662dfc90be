//! The machine's sensors as observations: every so many ticks, each with what is left of its reserve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sage_actors::protocol::{SensorReading, Tick};
use serde::{Deserialize, Serialize};

use super::{KINDS, Sample, SensorKind, Sensors};

/// How the machine's sensors are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorSettings {
    /// Ticks from one reading to the next.
    pub every_ticks: u32,
}

impl Default for SensorSettings {
    fn default() -> Self {
        Self { every_ticks: 32 }
    }
}

/// A sensor that gave no sound reading this many times in a row is lost: what it last said bounds the energy no more.
const LOST_AFTER: u32 = 4;

/// What is known of a sensor that was found.
#[derive(Clone, Copy, Debug)]
struct Known {
    value: f64,
    /// Readings in a row that could not be had.
    missed: u32,
}

/// Reads sensors at tick boundaries.
#[derive(Debug)]
pub struct Live {
    sensors: Sensors,
    every_ticks: Tick,
    next: Tick,
    known: BTreeMap<&'static str, Known>,
    /// Files that were said to make no sense.
    told: BTreeSet<PathBuf>,
    notes: Vec<String>,
    skipped: u64,
}

impl Live {
    /// Sensors of this machine, or of a tree that stands for one; the first reading is due at once.
    pub fn new(sysfs: Option<&Path>, settings: SensorSettings) -> Self {
        Self {
            sensors: Sensors::new(sysfs),
            every_ticks: settings.every_ticks.max(1).into(),
            next: 0,
            known: BTreeMap::new(),
            told: BTreeSet::new(),
            notes: Vec::new(),
            skipped: 0,
        }
    }

    /// The readings to observe at `tick`: none unless one is due.
    pub fn due(&mut self, tick: Tick) -> Vec<SensorReading> {
        if tick < self.next {
            return Vec::new();
        }
        let first = self.next == 0;
        self.next = tick + self.every_ticks;
        let samples = self.sensors.read();
        let readings = samples
            .into_iter()
            .filter_map(|(kind, sample)| self.reading(kind, sample))
            .collect();
        if first {
            self.notes.insert(0, self.found());
        }
        readings
    }

    /// What there is to say since it was last asked: what was found, files that make no sense, sensors that were lost.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Files that were to be read and made no sense, counted each time.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn found(&self) -> String {
        let (here, not): (Vec<&SensorKind>, Vec<&SensorKind>) = KINDS
            .iter()
            .partition(|kind| self.known.contains_key(kind.name));
        let names = |kinds: Vec<&SensorKind>| match kinds.is_empty() {
            true => "none".to_owned(),
            false => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
                names.join(", ")
            }
        };
        format!(
            "sensors, read every {} ticks: {}; not here: {}",
            self.every_ticks,
            names(here),
            names(not)
        )
    }

    fn reading(&mut self, kind: &'static SensorKind, sample: Sample) -> Option<SensorReading> {
        self.skipped += sample.garbled.len() as u64;
        for garbled in &sample.garbled {
            if self.told.insert(garbled.file.clone()) {
                self.notes.push(format!("a reading is skipped: {garbled}"));
            }
        }
        let (value, level) = match sample.value {
            Some(value) => {
                self.known.insert(kind.name, Known { value, missed: 0 });
                (value, kind.level(value))
            }
            None => {
                let known = self.known.get_mut(kind.name)?;
                known.missed = known.missed.saturating_add(1);
                if known.missed != LOST_AFTER {
                    return None;
                }
                self.notes.push(format!(
                    "{} is lost: its reserve counts as full until it reads again",
                    kind.name
                ));
                (known.value, 1.0)
            }
        };
        Some(SensorReading {
            name: kind.name.to_owned(),
            value,
            range: None,
            resolution: kind.resolution,
            level: Some(level),
        })
    }
}
