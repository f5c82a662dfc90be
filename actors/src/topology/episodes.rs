//! Asking about episodes: how many wait for Dream, and what becomes of them.

use super::{ActorName, Mind, MindError, ask, never};
use crate::protocol::Pruned;
use crate::snarc::actor::{CountEpisodes, EpisodesConsolidated, PruneEpisodes};
use crate::witness::Exchange;

impl Mind {
    /// Episodes that entered memory and were not consolidated.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn unconsolidated_episodes(&self) -> Result<u32, MindError> {
        ask(&self.salience, CountEpisodes, ActorName::Salience)
            .await?
            .map_err(never)
    }

    /// The oldest `episodes` that were not consolidated now are.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn episodes_consolidated(&self, episodes: u32) -> Result<(), MindError> {
        let message = EpisodesConsolidated(episodes);
        ask(&self.salience, message, ActorName::Salience)
            .await?
            .map_err(never)?;
        if let Some(witness) = &self.witness {
            witness.saw(Exchange::Consolidated(episodes));
        }
        Ok(())
    }

    /// Merges episodes that are nearly alike.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn prune_episodes(&self) -> Result<Pruned, MindError> {
        let pruned = ask(&self.salience, PruneEpisodes, ActorName::Salience)
            .await?
            .map_err(never)?;
        if let Some(witness) = &self.witness {
            witness.saw(Exchange::Pruned(&pruned));
        }
        Ok(pruned)
    }
}
