//! The actor around an [`Assessor`].

use std::convert::Infallible;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::Assessor;
use crate::protocol::{Observe, SalienceReport};

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
