//! Where what is learned outlives the process.

use sage_actors::protocol::{Outcome, Tick};
use sage_actors::trust::store::{Epochs, LedgerStore};

use super::error::EngineError;

/// A store in use.
pub(super) struct Remembering {
    /// What is logged, and committed where an epoch ends.
    pub store: Box<dyn LedgerStore>,
    epochs: Epochs,
    /// Ticks of the runs before.
    pub origin: Tick,
}

impl Remembering {
    pub fn new(store: Box<dyn LedgerStore>, origin: Tick) -> Self {
        Self {
            store,
            epochs: Epochs::default(),
            origin,
        }
    }

    /// Logs what was learned; whether an epoch ends with it.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn log(&mut self, outcome: &Outcome) -> Result<bool, EngineError> {
        self.store.log(outcome).map_err(EngineError::Ledger)?;
        Ok(self.epochs.ends_with(outcome))
    }
}
