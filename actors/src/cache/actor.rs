//! The actor around a [`Cache`].

use kameo::Actor;
use kameo::message::{Context, Message};

use super::habits::Habits;
use super::{Cache, CacheError};
use crate::protocol::{
    CacheStats, Directives, Habit, Holding, LayerKey, Lease, LeaseId, LeaseRequest, Module,
    Residency, State, TrustSnapshot,
};

/// The expert cache as an actor. Stops at its first error.
#[derive(Actor)]
pub struct ExpertCache(pub Cache);

/// New budgets, and what the ledger believes; answered by the residency of the first sparse layer.
pub struct ApplyDirectives {
    /// Of every module awake.
    pub directives: Directives,
    /// Of every expert of those modules; only the eviction policy `trust` looks at it.
    pub trust: TrustSnapshot,
}

/// A lease that is given back.
pub struct Release(pub LeaseId);

/// Experts that will probably be asked for soon.
pub struct Prefetch {
    /// Whose experts.
    pub layer: LayerKey,
    /// Experts of the layer, the likeliest first.
    pub experts: Vec<u16>,
}

/// Asks for the totals.
pub struct GetStats;

/// Asks what of a layer is resident.
pub struct GetResidency(pub LayerKey);

/// Asks for a module's demand pool.
pub struct GetHolding(pub Module);

impl Message<GetResidency> for ExpertCache {
    type Reply = Result<Residency, CacheError>;

    async fn handle(
        &mut self,
        msg: GetResidency,
        ctx: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.residency(msg.0).inspect_err(|_| ctx.stop())
    }
}

impl Message<GetHolding> for ExpertCache {
    type Reply = Result<Option<Holding>, CacheError>;

    async fn handle(&mut self, msg: GetHolding, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.holding(msg.0))
    }
}

impl Message<ApplyDirectives> for ExpertCache {
    type Reply = Result<Residency, CacheError>;

    async fn handle(
        &mut self,
        msg: ApplyDirectives,
        ctx: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        let applied = self.0.apply(&msg.directives, &msg.trust);
        applied.inspect_err(|_| ctx.stop())
    }
}

impl Message<LeaseRequest> for ExpertCache {
    type Reply = Result<Lease, CacheError>;

    async fn handle(
        &mut self,
        msg: LeaseRequest,
        ctx: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        self.0.lease(&msg).inspect_err(|_| ctx.stop())
    }
}

impl Message<Release> for ExpertCache {
    type Reply = Result<(), CacheError>;

    async fn handle(&mut self, msg: Release, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0.release(msg.0).inspect_err(|_| ctx.stop())
    }
}

impl Message<Prefetch> for ExpertCache {
    type Reply = Result<(), CacheError>;

    async fn handle(&mut self, msg: Prefetch, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0
            .prefetch(msg.layer, &msg.experts)
            .inspect_err(|_| ctx.stop())
    }
}

impl Message<GetStats> for ExpertCache {
    type Reply = Result<CacheStats, CacheError>;

    async fn handle(&mut self, _: GetStats, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.stats())
    }
}

/// What follows is of this domain.
pub struct EnterDomain {
    /// The state in force.
    pub state: State,
    /// Where the tokens come from.
    pub domain: String,
}

/// Asks how many experts every list of habits holds dear: (domain, state, tokens, experts).
pub struct GetHabits;

impl Message<Habit> for ExpertCache {
    type Reply = Result<(), CacheError>;

    async fn handle(&mut self, msg: Habit, ctx: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.0.consolidate(&msg).inspect_err(|_| ctx.stop())
    }
}

impl Message<EnterDomain> for ExpertCache {
    type Reply = Result<bool, CacheError>;

    async fn handle(
        &mut self,
        msg: EnterDomain,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        Ok(self.0.enter(&msg.domain, msg.state))
    }
}

impl Message<GetHabits> for ExpertCache {
    type Reply = Result<Vec<(String, State, f64, u32)>, CacheError>;

    async fn handle(&mut self, _: GetHabits, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(self.0.habits().iter().flat_map(Habits::hot).collect())
    }
}
