//! Another limit while the model runs.
//!
//! The floor stays as it was measured at the start; the pool changes, and with it the capacity that the next directive
//! gives the cache: experts beyond it leave before the next step, and their memory goes back to the system.

use sage_actors::cache::state_cliffs;
use sage_actors::config::MindConfig;

use super::Engine;
use super::memory::{BelowFloor, Limit, MemoryPlan};

/// How memory was divided, and how it is divided now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitChange {
    /// Until this step.
    pub before: MemoryPlan,
    /// From the next step on.
    pub after: MemoryPlan,
}

impl LimitChange {
    /// Whether what must be in memory fits.
    pub fn holds(&self) -> bool {
        self.after.shortfall_bytes() == 0
    }
}

impl Engine {
    /// Puts a limit in force from the next step on: somebody's wish, who can be told that it cannot be.
    ///
    /// # Errors
    /// [`BelowFloor`] with the number that would do; nothing changes then.
    pub fn set_limit(&mut self, limit: Limit) -> Result<LimitChange, BelowFloor> {
        let plan = self.plan.with_limit(limit)?;
        Ok(self.divide(plan))
    }

    /// As [`Self::set_limit`], for a limit that is a fact (the machine has less memory for this process now). Below the
    /// floor it cannot hold: everything that can be given back is, one lease window remains, and the mind is told how much
    /// is missing, which empties its memory level and ends in Depletion.
    pub fn impose_limit(&mut self, limit: Limit) -> LimitChange {
        self.divide(self.plan.under(limit))
    }

    fn divide(&mut self, plan: MemoryPlan) -> LimitChange {
        let before = std::mem::replace(&mut self.plan, plan);
        self.cliffs = state_cliffs(&MindConfig {
            pool_bytes: plan.pool_bytes,
            ..self.mind_config.clone()
        });
        LimitChange {
            before,
            after: plan,
        }
    }
}
