//! Salience.
pub mod actor;

use crate::protocol::{Observe, Salience, SalienceReport};

/// The salience assessor.
#[derive(Clone, Debug, Default)]
pub struct Assessor {
    episodes: u32,
}

impl Assessor {
    /// Without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Assesses one step.
    pub fn step(&mut self, observe: &Observe) -> SalienceReport {
        let alarm = observe.alarm
            || observe.sensors.iter().any(|s| {
                s.range
                    .is_some_and(|(lo, hi)| !(lo <= s.value && s.value <= hi))
            });
        self.episodes += u32::from(observe.segment.is_some());
        SalienceReport {
            salience: Salience {
                arousal: observe.urgency,
                reward: 0.5,
                ..Salience::default()
            },
            salience_t: 0.1,
            surprise_t: 0.0,
            urgency: observe.urgency,
            threat: if alarm { 1.0 } else { 0.0 },
        }
    }

    /// Feedback on the last turn, in [-1, 1].
    pub fn feedback(&mut self, _feedback: f32) {}

    /// Episodes that entered memory and were not consolidated.
    pub fn unconsolidated_episodes(&self) -> u32 {
        self.episodes
    }
}
