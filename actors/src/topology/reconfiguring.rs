//! Other numbers for a mind that runs.

use super::{ActorName, Mind, MindError, ask, never};
use crate::config::MindConfig;
use crate::memory::actor::ReconfigureMemory;
use crate::metabolic::actor::Reconfigure;
use crate::snarc::actor::ReconfigureSalience;

impl Mind {
    /// Puts budgets, thresholds, energy, and the numbers of salience and memory of `config` in force. What is fixed when a
    /// mind is spawned (shapes, routing, eviction, windows, shares of the pool, holding) stays as it is: see
    /// [`MindConfig::changes_only_numbers`]. No witness hears of it: a recording of such a run is no recording of one
    /// configuration.
    ///
    /// # Errors
    /// A number out of its bounds; [`MindError::Stopped`].
    pub async fn reconfigure(&self, config: &MindConfig) -> Result<(), MindError> {
        config.validate()?;
        let numbers = Reconfigure(config.clone());
        ask(&self.metabolic, numbers, ActorName::Metabolic)
            .await?
            .map_err(never)?;
        let salience = ReconfigureSalience(config.salience);
        ask(&self.salience, salience, ActorName::Salience)
            .await?
            .map_err(never)?;
        let memory = ReconfigureMemory(config.memory, config.salience);
        ask(&self.memory, memory, ActorName::Memory)
            .await?
            .map_err(never)
    }
}
