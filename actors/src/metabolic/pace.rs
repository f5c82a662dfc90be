//! How much a tick of Rest or Dream may do when nothing waits: scores of recorded tokens with experts denied.

use crate::protocol::State;

/// Capacity of the bucket that this work has for itself, units of one exact token.
pub const CAPACITY_UNITS: f64 = 256.0;

/// Batches of denied experts that a piece of an episode is scored with.
pub const BATCHES: usize = 4;

/// What a tick may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// What the bucket gets.
    pub refill_units: f64,
    /// Strides of one layer at most: an input waits for no more.
    pub strides: usize,
    /// Whether episodes are consolidated as well.
    pub consolidate: bool,
}

/// Rest only scores, and little; other states do not.
pub fn pace(state: State) -> Option<Pace> {
    match state {
        State::Dream => Some(Pace {
            refill_units: 192.0,
            strides: 8,
            consolidate: true,
        }),
        State::Rest => Some(Pace {
            refill_units: 16.0,
            strides: 1,
            consolidate: false,
        }),
        State::Wake | State::Focus | State::Threat | State::Depletion => None,
    }
}
