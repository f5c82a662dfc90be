//! The actor around a [`Router`].

use std::sync::Arc;

use kameo::Actor;
use kameo::message::{Context, Message};

use super::{RouteError, Router};
use crate::protocol::{LayerTrust, ModuleDirective, Route, Selection};

/// One layer's router as an actor. Stops at its first error.
#[derive(Actor)]
pub struct LayerRouter(pub Router);

/// A directive and what the ledger believes of the layer.
pub struct ApplyDirective {
    /// Of the router's module.
    pub directive: ModuleDirective,
    /// Of the router's layer.
    pub trust: Arc<LayerTrust>,
}

impl Message<ApplyDirective> for LayerRouter {
    type Reply = Result<(), RouteError>;

    async fn handle(
        &mut self,
        msg: ApplyDirective,
        ctx: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0
            .apply(&msg.directive, msg.trust)
            .inspect_err(|_| ctx.stop())
    }
}

impl Message<Route> for LayerRouter {
    type Reply = Result<Selection, RouteError>;

    async fn handle(&mut self, msg: Route, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0.route(&msg).inspect_err(|_| ctx.stop())
    }
}
