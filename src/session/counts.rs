//! What became of the observations, in numbers.

use std::collections::BTreeMap;

use crate::events::ShedReason;

/// Pairs of reason and source that are counted apart.
const MOST_PAIRS: usize = 128;

/// What the sources beyond are counted as.
const OTHERS: &str = "others";

/// Where the observations went: `submitted` is always `taken`, `waiting` and all of `shed` together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservationCounts {
    /// Observations that came.
    pub submitted: u64,
    /// Those that the loop was given.
    pub taken: u64,
    /// Of those: refused (empty, too long for the context, on an answer that is no longer the last).
    pub refused: u64,
    /// Of those: not read or not answered yet.
    pub open: u64,
    /// Those that wait to be given.
    pub waiting: u64,
    /// Those that were let go. Beyond 128 pairs of reason and source the source is counted as `others`.
    pub shed: Vec<ShedCount>,
}

/// Observations that were shed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShedCount {
    /// Why.
    pub reason: ShedReason,
    /// Whose.
    pub source: String,
    /// How many.
    pub observations: u64,
}

impl ObservationCounts {
    /// All that were let go.
    pub fn shed_total(&self) -> u64 {
        self.shed.iter().map(|count| count.observations).sum()
    }
}

/// The counters while they run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) submitted: u64,
    pub(super) taken: u64,
    pub(super) refused: u64,
    shed: BTreeMap<(ShedReason, String), u64>,
}

impl Tally {
    pub(super) fn shed(&mut self, reason: ShedReason, source: &str) {
        let key = (reason, source.to_owned());
        let key = if self.shed.len() < MOST_PAIRS || self.shed.contains_key(&key) {
            key
        } else {
            (reason, OTHERS.to_owned())
        };
        *self.shed.entry(key).or_default() += 1;
    }

    pub(super) fn counts(&self, waiting: u64, open: u64) -> ObservationCounts {
        let shed = self.shed.iter();
        let shed = shed.map(|((reason, source), observations)| ShedCount {
            reason: *reason,
            source: source.clone(),
            observations: *observations,
        });
        ObservationCounts {
            submitted: self.submitted,
            taken: self.taken,
            refused: self.refused,
            open,
            waiting,
            shed: shed.collect(),
        }
    }
}
