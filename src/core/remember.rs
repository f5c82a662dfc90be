//! What is learned outlives the process: every outcome is logged once the ledger has learned it, epochs are committed.
//!
//! The trust ledger's actor does no I/O. The engine asks it for its state where an epoch ends, and hands the state on.

use sage_actors::protocol::{Outcome, Tick};
use sage_actors::trust::Ledger;
use sage_actors::trust::store::{Epochs, LedgerStore};

use super::{Engine, EngineError};

/// A store in use.
pub(super) struct Remembering {
    store: Box<dyn LedgerStore>,
    epochs: Epochs,
    /// Ticks of the runs before.
    origin: Tick,
}

impl Engine {
    /// Goes on from `ledger`, which has seen `origin` ticks, and keeps in `store` what is learned from now on. Call before
    /// the first step.
    ///
    /// # Errors
    /// When an actor failed.
    pub async fn remember(
        &mut self,
        ledger: Ledger,
        store: Box<dyn LedgerStore>,
        origin: Tick,
    ) -> Result<(), EngineError> {
        self.mind.resume_trust(ledger).await?;
        self.remembering = Some(Remembering {
            store,
            epochs: Epochs::default(),
            origin,
        });
        Ok(())
    }

    /// The ledger's time goes on where the runs before ended.
    pub(super) fn tick_of_ledger(&self, tick: Tick) -> Tick {
        tick + self.remembering.as_ref().map_or(0, |kept| kept.origin)
    }

    /// Lets the ledger learn, and keeps what it learned.
    pub(super) async fn teach(&mut self, outcome: Outcome) -> Result<(), EngineError> {
        let Some(kept) = &mut self.remembering else {
            return Ok(self.asked.time(1, self.mind.outcome(outcome)).await?);
        };
        // Learned first: what is refused is not logged, so that what is logged can always be learned again.
        let learned = self.mind.outcome(outcome.clone());
        self.asked.time(1, learned).await?;
        kept.store.log(&outcome).map_err(EngineError::Ledger)?;
        if kept.epochs.ends_with(&outcome) {
            let state = self.mind.trust_state().await?;
            kept.store.commit(&state).map_err(EngineError::Ledger)?;
        }
        Ok(())
    }

    /// Ends the last epoch, if a ledger is in use; nothing is kept afterwards.
    ///
    /// # Errors
    /// When it cannot be kept, or the actor failed.
    pub async fn keep(&mut self) -> Result<(), EngineError> {
        let Some(mut kept) = self.remembering.take() else {
            return Ok(());
        };
        let state = self.mind.trust_state().await?;
        kept.store.close(&state).map_err(EngineError::Ledger)
    }
}
