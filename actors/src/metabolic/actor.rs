//! The actor around a [`Controller`].

use std::convert::Infallible;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::Controller;
use crate::protocol::{Assess, Directives};

/// The metabolic controller as an actor.
#[derive(Actor)]
pub struct MetabolicController(pub Controller);

impl Message<Assess> for MetabolicController {
    type Reply = Result<Directives, Infallible>;

    async fn handle(&mut self, msg: Assess, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.step(&msg))
    }
}
