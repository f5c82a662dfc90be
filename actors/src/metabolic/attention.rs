//! How much each modality drives, and which are in use.

use super::urge::urge;
use crate::config::EnergyConfig;
use crate::protocol::{Assess, Modality, Tick};

/// A sense is in use for so long after the last of it was read or answered.
const IN_USE_TICKS: u64 = 64;

/// A moving average of urges whose weight follows the ticks: `1 − (1 − rate)^n`. What takes several steps to read is measured at its
/// end, and then weighs with all of its ticks; until then the average stands, and only more can raise it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriveAverage {
    pub(super) average: f32,
    /// Ticks since it last took what was measured.
    unweighed_ticks: u32,
}

impl DriveAverage {
    pub fn step(&mut self, urge: f32, ticks: u32, unfinished: bool, rate: f32) -> f32 {
        self.unweighed_ticks = self.unweighed_ticks.saturating_add(ticks);
        let kept = libm::powf(1.0 - rate, self.unweighed_ticks as f32);
        let average = (kept * self.average + (1.0 - kept) * urge).clamp(0.0, 1.0);
        if unfinished {
            self.average = self.average.max(average);
        } else {
            self.average = average;
            self.unweighed_ticks = 0;
        }
        self.average
    }
}

/// Drive and use of every modality.
#[derive(Clone, Debug, Default)]
pub(super) struct Attention {
    drives: [DriveAverage; 3],
    last_used: [Option<Tick>; 3],
}

/// What of it the arbiter is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attended {
    /// Drive of the modality, in [0, 1].
    pub drive: f32,
    /// Whether something of it was perceived lately.
    pub in_use: bool,
}

impl Attention {
    /// Of every modality, in the order of the enumeration; none while only words were ever perceived.
    pub fn step(&mut self, assess: &Assess, config: &EnergyConfig) -> Option<[Attended; 3]> {
        for modality in &assess.perceiving {
            self.last_used[*modality as usize] = Some(assess.tick);
        }
        let senses = assess.report.senses?;
        let all = [Modality::Text, Modality::Audio, Modality::Vision];
        Some(all.map(|modality| {
            let at = modality as usize;
            let used = self.last_used[at].is_some_and(|t| assess.tick - t <= IN_USE_TICKS);
            let five = senses.of(modality).unwrap_or_default().salience;
            let urge = urge(&five, config);
            Attended {
                drive: self.drives[at].step(
                    urge,
                    assess.ticks,
                    assess.unfinished,
                    config.drive_rate,
                ),
                in_use: used,
            }
        }))
    }
}
