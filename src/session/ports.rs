//! What a host supplies: sensors and effectors; and what effectors hear of.

use std::fmt;
use std::sync::Arc;

use sage_actors::protocol::{Cause, SensorReading, State, Tick};

use crate::core::core_loop::Observation;
use crate::events::{Ended, SpeechEnded};

/// What a sensor read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SensorValue {
    /// In the sensor's own unit.
    pub value: f64,
    /// The noise floor of its surprise, in the same unit; above 0.
    pub resolution: f64,
    /// The healthy range, inclusive; a value outside is a threat.
    pub range: Option<(f64, f64)>,
    /// Of a reserve (a battery, a quota): what is left, in [0, 1]. The least reserve bounds the energy.
    pub level: Option<f64>,
}

impl SensorValue {
    /// A reading with a resolution of one unit, no range and no reserve.
    pub fn new(value: f64) -> Self {
        Self {
            value,
            resolution: 1.0,
            range: None,
            level: None,
        }
    }

    pub(super) fn of(self, name: &str) -> Observation {
        Observation::Sensor(SensorReading {
            name: name.to_owned(),
            value: self.value,
            range: self.range,
            resolution: self.resolution,
            level: self.level,
        })
    }
}

/// Something that the host measures. It is read on the loop's thread, at the beginning of a tick: what takes long belongs
/// on a thread of its own, whose last value is returned here.
pub trait Sensor: Send {
    /// Its name; readings of one name continue one another.
    fn name(&self) -> &str;

    /// Ticks from one reading to the next.
    fn every_ticks(&self) -> u32 {
        32
    }

    /// What it reads at `tick`; none if there is nothing to read now. It becomes an observation like any other, so that a
    /// recorded run needs no sensor.
    fn read(&mut self, tick: Tick) -> Option<SensorValue>;
}

/// Something through which the loop acts. It hears of every action, in order, on the loop's thread; nothing is dropped.
pub trait Effector: Send {
    /// Does it. What comes of it at once may be returned: it is observed at the next tick.
    fn act(&mut self, action: &Action) -> Vec<Observation>;
}

/// A function as an effector that observes nothing.
pub(super) struct Listener<F>(pub(super) F);

impl<F: FnMut(&Action) + Send> Effector for Listener<F> {
    fn act(&mut self, action: &Action) -> Vec<Observation> {
        (self.0)(action);
        Vec::new()
    }
}

/// What the loop does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It answers.
    Say {
        /// When the answer was complete.
        tick: Tick,
        /// Of the question, as [`observe`](super::Handle::observe) returned it.
        id: u64,
        /// Who asked.
        source: String,
        /// What was asked.
        question: String,
        /// The answer.
        text: String,
        /// Why it ended.
        ended: Ended,
    },
    /// A piece of an answer that it speaks: 24 000 samples a second, one channel, 16 bits.
    Sound {
        /// When.
        tick: Tick,
        /// Of the question.
        id: u64,
        /// The samples.
        samples: Arc<[i16]>,
    },
    /// It has spoken an answer to its end.
    Spoken {
        /// When.
        tick: Tick,
        /// Of the question.
        id: u64,
        /// Samples in all.
        samples: usize,
        /// Why it ended.
        ended: SpeechEnded,
    },
    /// It changes its state.
    State {
        /// When.
        tick: Tick,
        /// Left.
        from: State,
        /// Entered.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// It will not answer a request that it had taken on: so every one of them ends in this or in [`Action::Say`].
    Unanswered {
        /// When.
        tick: Tick,
        /// Of the request.
        id: u64,
        /// Who asked.
        source: String,
        /// Why not.
        why: String,
    },
    /// Only in a stream whose reader was too slow: so many actions are missing here. Effectors have heard of all.
    Missed {
        /// How many.
        actions: u64,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say { id, text, .. } => write!(f, "answer to {id}: {text}"),
            Self::Sound { id, samples, .. } => {
                write!(f, "{} samples of the answer to {id}", samples.len())
            }
            Self::Spoken { id, samples, .. } => {
                write!(f, "the answer to {id} is spoken: {samples} samples")
            }
            Self::State {
                from, to, cause, ..
            } => write!(f, "{from:?} → {to:?} ({cause:?})"),
            Self::Unanswered { id, why, .. } => write!(f, "no answer to {id}: {why}"),
            Self::Missed { actions } => write!(f, "{actions} actions are missing here"),
        }
    }
}
