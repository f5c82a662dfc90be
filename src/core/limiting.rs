//! Another limit while the model runs.

use sage_actors::cache::state_cliffs;
use sage_actors::config::MindConfig;

use super::engine::Engine;
use super::error::EngineError;
use super::limit::{LimitChange, LimitError, LimitOrigin, check};
use super::memory::MemoryPlan;
use crate::input::Limit;

impl Engine {
    /// Puts a limit in force from the next step on: somebody's wish, who can be told that it cannot be.
    ///
    /// # Errors
    /// [`LimitError`] with the number that would do; nothing changes then.
    pub fn set_limit(&mut self, limit: Limit) -> Result<LimitChange, LimitError> {
        let plan = self.planned_under(limit)?;
        self.limit.origin = LimitOrigin::Changed;
        Ok(self.divide(plan))
    }

    fn planned_under(&self, limit: Limit) -> Result<MemoryPlan, LimitError> {
        if let Some(machine) = self.limit.policy.machine() {
            check(limit, machine, &self.plan)?;
        }
        Ok(self.plan.with_limit(limit)?)
    }

    /// Whether [`Self::set_limit`] would put this limit in force.
    ///
    /// # Errors
    /// As it has them.
    pub fn check_limit(&self, limit: Limit) -> Result<(), LimitError> {
        self.planned_under(limit).map(|_| ())
    }

    /// As [`Self::set_limit`], for a limit that is a fact (the machine has less memory for this process now). Below the
    /// floor it cannot hold: everything that can be given back is, one lease window remains, and the mind is told how much
    /// is missing, which empties its memory level and ends in Depletion.
    pub fn impose_limit(&mut self, limit: Limit) -> LimitChange {
        self.limit.origin = match self.planned_under(limit) {
            Ok(_) => LimitOrigin::Changed,
            Err(_) => LimitOrigin::Imposed,
        };
        self.divide(self.plan.under(limit))
    }

    /// Puts other numbers of the mind in force from the next step on: see [`sage_actors::Mind::reconfigure`].
    ///
    /// # Errors
    /// A number out of its bounds, or an actor that failed.
    pub async fn reconfigure(&mut self, mind: &MindConfig) -> Result<(), EngineError> {
        self.mind.reconfigure(mind).await?;
        self.mind_config = self.mind_config.with_numbers_of(mind);
        self.divide(self.plan);
        Ok(())
    }

    fn divide(&mut self, plan: MemoryPlan) -> LimitChange {
        let before = std::mem::replace(&mut self.plan, plan);
        self.experts.cliffs = state_cliffs(&MindConfig {
            pool_bytes: plan.pool_bytes,
            ..self.mind_config.clone()
        });
        LimitChange {
            before,
            after: plan,
        }
    }
}
