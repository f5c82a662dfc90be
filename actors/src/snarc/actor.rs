//! The actor around an [`Assessor`].

use std::convert::Infallible;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::Assessor;
use crate::config::SalienceConfig;
use crate::protocol::{Observe, Pruned, SalienceReport};

/// The salience assessor as an actor.
#[derive(Actor)]
pub struct SalienceAssessor(pub Assessor);

/// Asks for the number of episodes that are not consolidated.
pub struct CountEpisodes;

impl Message<Observe> for SalienceAssessor {
    type Reply = Result<SalienceReport, Infallible>;

    async fn handle(&mut self, msg: Observe, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.step(&msg))
    }
}

impl Message<CountEpisodes> for SalienceAssessor {
    type Reply = Result<u32, Infallible>;

    async fn handle(
        &mut self,
        _: CountEpisodes,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        Ok(self.0.unconsolidated_episodes())
    }
}

/// The oldest episodes that were not consolidated now are.
pub struct EpisodesConsolidated(pub u32);

impl Message<EpisodesConsolidated> for SalienceAssessor {
    type Reply = Result<(), Infallible>;

    async fn handle(
        &mut self,
        msg: EpisodesConsolidated,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.consolidate(msg.0);
        Ok(())
    }
}

/// Other numbers are in force from now on.
pub struct ReconfigureSalience(pub SalienceConfig);

impl Message<ReconfigureSalience> for SalienceAssessor {
    type Reply = Result<(), Infallible>;

    async fn handle(
        &mut self,
        msg: ReconfigureSalience,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.reconfigure(msg.0);
        Ok(())
    }
}

/// Merges episodes that are nearly alike.
pub struct PruneEpisodes;

impl Message<PruneEpisodes> for SalienceAssessor {
    type Reply = Result<Pruned, Infallible>;

    async fn handle(
        &mut self,
        _: PruneEpisodes,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        Ok(self.0.prune())
    }
}
