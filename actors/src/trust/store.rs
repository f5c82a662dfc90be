//! What the ledger needs of the body to outlive its process: a log of outcomes, and epochs.
//!
//! Learning is a function of the ledger and the outcome, so an epoch (everything that the ledger knows) and the outcomes
//! since are as good as the ledger itself.

use super::state::LedgerState;
use crate::protocol::{Outcome, State, Tick};

/// Why a store could not keep something, in the body's own words.
pub type StoreFailure = Box<dyn std::error::Error + Send + Sync>;

/// Where a ledger is kept.
pub trait LedgerStore: Send {
    /// Keeps an outcome that the ledger has learned. Once this has returned, no end of the process loses it.
    ///
    /// # Errors
    /// When it could not be kept. Nothing is kept after that.
    fn log(&mut self, outcome: &Outcome) -> Result<(), StoreFailure>;

    /// Ends an epoch with what the ledger knows after the last logged outcome. Once this has returned, a failure of the
    /// machine's power does not lose it either.
    ///
    /// # Errors
    /// When it could not be kept. Nothing is kept after that.
    fn commit(&mut self, state: &LedgerState) -> Result<(), StoreFailure>;

    /// The last epoch: nothing will be logged any more.
    ///
    /// # Errors
    /// As [`LedgerStore::commit`].
    fn close(&mut self, state: &LedgerState) -> Result<(), StoreFailure>;
}

/// Ticks of an epoch.
pub const EPOCH_TICKS: Tick = 256;

/// When epochs end: with the first outcome of another state, and at the latest after [`EPOCH_TICKS`].
#[derive(Clone, Debug, Default)]
pub struct Epochs {
    state: Option<State>,
    ticks: Tick,
}

impl Epochs {
    /// Whether an epoch ends with this outcome.
    pub fn ends_with(&mut self, outcome: &Outcome) -> bool {
        let changed = self.state.is_some_and(|state| state != outcome.state);
        self.state = Some(outcome.state);
        self.ticks += Tick::from(outcome.ticks);
        let ends = changed || self.ticks >= EPOCH_TICKS;
        if ends {
            self.ticks = 0;
        }
        ends
    }
}
