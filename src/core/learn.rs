//! The last part of a step: the ledger learns from what came of it, and what it learned is kept.
//!
//! The trust ledger's actor does no I/O. The engine asks it for its state where an epoch ends, and hands the state on.

use sage_actors::protocol::{Module, Outcome, Scored, Tick, TokenOutcome, Worked};
use sage_actors::trust::Ledger;
use sage_actors::trust::store::LedgerStore;

use super::engine::Engine;
use super::error::EngineError;
use super::orient::Orientation;
use super::remember::Remembering;

impl Engine {
    /// The last part of a step: what came of its tokens.
    ///
    /// # Errors
    /// When an actor failed, or what was learned cannot be kept.
    pub async fn learn(
        &mut self,
        orientation: &Orientation,
        tokens: Vec<TokenOutcome>,
        denied: Vec<Worked>,
        feedback: Option<f32>,
    ) -> Result<(), EngineError> {
        let outcome = Outcome {
            tokens,
            denied,
            feedback,
            ..self.outcome(orientation)
        };
        self.teach(outcome).await
    }

    /// What came of denying experts to recorded tokens.
    ///
    /// # Errors
    /// As [`Engine::learn`].
    pub async fn learn_scores(
        &mut self,
        orientation: &Orientation,
        scored: Vec<Scored>,
    ) -> Result<(), EngineError> {
        let outcome = Outcome {
            scored,
            ..self.outcome(orientation)
        };
        self.teach(outcome).await
    }

    /// Of a step in which nothing happened.
    fn outcome(&self, orientation: &Orientation) -> Outcome {
        Outcome {
            tick: self.tick_of_ledger(orientation.tick),
            ticks: u32::try_from(self.tick() - orientation.tick).unwrap_or(u32::MAX),
            state: orientation.directives.state,
            module: Module::Thinker,
            tokens: Vec::new(),
            denied: Vec::new(),
            feedback: None,
            scored: Vec::new(),
        }
    }

    /// Goes on from `ledger`, which has seen `origin` ticks, and keeps in `store` what is learned from now on. Call before
    /// the first step.
    ///
    /// # Errors
    /// When an actor failed.
    pub async fn attach_ledger(
        &mut self,
        ledger: Ledger,
        store: Box<dyn LedgerStore>,
        origin: Tick,
    ) -> Result<(), EngineError> {
        self.mind.resume_trust(ledger).await?;
        self.remembering = Some(Remembering::new(store, origin));
        Ok(())
    }

    /// The ledger's time goes on where the runs before ended.
    fn tick_of_ledger(&self, tick: Tick) -> Tick {
        tick + self.remembering.as_ref().map_or(0, |kept| kept.origin)
    }

    /// Lets the ledger learn, and keeps what it learned.
    async fn teach(&mut self, outcome: Outcome) -> Result<(), EngineError> {
        let Some(kept) = &mut self.remembering else {
            return Ok(self.clock.ask(1, self.mind.outcome(outcome)).await?);
        };
        // Learned first: what is refused is not logged, so that what is logged can always be learned again.
        let learned = self.mind.outcome(outcome.clone());
        self.clock.ask(1, learned).await?;
        if kept.log(&outcome)? {
            let state = self.mind.trust_state().await?;
            kept.store.commit(&state).map_err(EngineError::Ledger)?;
        }
        Ok(())
    }

    /// Ends the last epoch, if a ledger is in use; nothing is kept afterwards.
    ///
    /// # Errors
    /// When it cannot be kept, or the actor failed.
    pub async fn flush_ledger(&mut self) -> Result<(), EngineError> {
        let Some(mut kept) = self.remembering.take() else {
            return Ok(());
        };
        let state = self.mind.trust_state().await?;
        kept.store.close(&state).map_err(EngineError::Ledger)
    }
}
