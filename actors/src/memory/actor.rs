//! The actor around a [`Memory`].

use std::convert::Infallible;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::Memory;
use crate::config::{MemoryConfig, SalienceConfig};
use crate::protocol::{Condense, Recall, Remember, Remembered};

/// The memory as an actor.
#[derive(Actor)]
pub struct SegmentMemory(pub Memory);

impl Message<Remember> for SegmentMemory {
    type Reply = Result<Remembered, Infallible>;

    async fn handle(&mut self, msg: Remember, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.remember(&msg))
    }
}

impl Message<Condense> for SegmentMemory {
    type Reply = Result<Vec<u64>, Infallible>;

    async fn handle(&mut self, msg: Condense, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.condense(&msg))
    }
}

impl Message<Recall> for SegmentMemory {
    type Reply = Result<Vec<u64>, Infallible>;

    async fn handle(&mut self, msg: Recall, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.recall(&msg))
    }
}

/// Other numbers are in force from now on.
pub struct ReconfigureMemory(pub MemoryConfig, pub SalienceConfig);

impl Message<ReconfigureMemory> for SegmentMemory {
    type Reply = Result<(), Infallible>;

    async fn handle(
        &mut self,
        msg: ReconfigureMemory,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.reconfigure(msg.0, msg.1);
        Ok(())
    }
}

/// Everything that was said is to be forgotten.
pub struct ForgetSegments;

impl Message<ForgetSegments> for SegmentMemory {
    type Reply = Result<(), Infallible>;

    async fn handle(
        &mut self,
        _: ForgetSegments,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.clear();
        Ok(())
    }
}
