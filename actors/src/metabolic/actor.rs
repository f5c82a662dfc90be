//! The actor around a [`Controller`].

use std::convert::Infallible;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::Controller;
use crate::config::MindConfig;
use crate::protocol::{Assess, Directives};

/// The metabolic controller as an actor.
#[derive(Actor)]
pub struct MetabolicController(pub Controller);

/// Other numbers are in force from now on.
pub struct Reconfigure(pub MindConfig);

impl Message<Reconfigure> for MetabolicController {
    type Reply = Result<(), Infallible>;

    async fn handle(
        &mut self,
        msg: Reconfigure,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.reconfigure(&msg.0);
        Ok(())
    }
}

impl Message<Assess> for MetabolicController {
    type Reply = Result<Directives, Infallible>;

    async fn handle(&mut self, msg: Assess, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.step(&msg))
    }
}
