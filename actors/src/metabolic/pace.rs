//! How much a tick of Rest or Dream may do when nothing waits: scores of recorded tokens with experts denied.

use crate::protocol::{CacheStats, State};

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

/// What scoring reads must be saved within so many days like those before.
const REPAID_DAYS: u64 = 7;

/// Of the bytes that were missed, the share that is taken for what habits will save, as long as there are no habits.
const UNKNOWN_SAVING: f64 = 0.05;

/// What Rest and Dream may still read to score: over a run at most seven times what habits have saved, and before there are
/// any, seven times a twentieth of what was missed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadingAccount {
    left_bytes: u64,
    /// Totals when it was credited last.
    missed_bytes: u64,
    saved_bytes: i64,
}

impl ReadingAccount {
    /// Credits what was saved, or missed, since the last time.
    pub fn credit(&mut self, stats: &CacheStats, has_habits: bool) {
        let saved = stats.habits_saved_bytes.saturating_sub(self.saved_bytes);
        let missed = stats.miss_bytes.saturating_sub(self.missed_bytes);
        let saving = match has_habits {
            true => u64::try_from(saved).unwrap_or(0),
            false => (missed as f64 * UNKNOWN_SAVING) as u64,
        };
        self.left_bytes = self
            .left_bytes
            .saturating_add(saving.saturating_mul(REPAID_DAYS));
        (self.missed_bytes, self.saved_bytes) = (stats.miss_bytes, stats.habits_saved_bytes);
    }

    /// So much was read.
    pub fn spend(&mut self, bytes: u64) {
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
    }

    /// Whether nothing may be read.
    pub fn is_empty(&self) -> bool {
        self.left_bytes == 0
    }

    /// What habits had saved when it was credited last, bytes.
    pub fn saved_bytes(&self) -> i64 {
        self.saved_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(miss_bytes: u64, habits_saved_bytes: i64) -> CacheStats {
        CacheStats {
            miss_bytes,
            habits_saved_bytes,
            ..CacheStats::default()
        }
    }

    #[test]
    fn what_is_read_is_repaid_in_a_week_by_what_was_saved() {
        let mut account = ReadingAccount::default();
        assert!(account.is_empty());
        account.credit(&totals(2_000, 0), false);
        account.credit(&totals(2_000, 0), false);
        assert_eq!(account.left_bytes, 700, "a twentieth, for seven days");
        account.spend(650);
        account.credit(&totals(9_000, 40), true);
        assert_eq!(account.left_bytes, 50 + 280);
        account.spend(1_000);
        assert!(account.is_empty());
        // Where habits cost, nothing is credited, and what they save later counts from there.
        account.credit(&totals(10_000, 10), true);
        assert!(account.is_empty());
        account.credit(&totals(11_000, 20), true);
        assert_eq!((account.left_bytes, account.saved_bytes()), (70, 20));
    }
}
