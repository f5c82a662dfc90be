//! The two that are tested, behind one face.

use std::sync::Arc;

use kameo::actor::ActorRef;
use kameo::error::SendError;
use sage_actors::cache::actor::{ApplyDirectives, ExpertCache, GetStats, Prefetch, Release};
use sage_actors::cache::{Cache, CacheError};
use sage_actors::protocol::*;
use tokio::runtime::Runtime;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused(CacheError),
    Stopped,
}

/// What is tested: the plain struct, or the actor around it.
pub enum Subject<'a> {
    Plain(Cache),
    Actor(&'a Runtime, ActorRef<ExpertCache>),
}

impl Subject<'_> {
    pub fn apply(
        &mut self,
        directives: &Directives,
        trust: &TrustSnapshot,
    ) -> Result<Residency, Failure> {
        match self {
            Self::Plain(cache) => cache.apply(directives, trust).map_err(Failure::Refused),
            Self::Actor(runtime, actor) => {
                let (directives, trust) = (directives.clone(), Arc::clone(trust));
                let asked = actor.ask(ApplyDirectives { directives, trust }).send();
                runtime.block_on(async { asked.await.map_err(failure) })
            }
        }
    }

    pub fn lease(&mut self, request: &LeaseRequest) -> Result<Lease, Failure> {
        match self {
            Self::Plain(cache) => cache.lease(request).map_err(Failure::Refused),
            Self::Actor(runtime, actor) => {
                let asked = actor.ask(request.clone()).send();
                runtime.block_on(async { asked.await.map_err(failure) })
            }
        }
    }

    pub fn release(&mut self, id: LeaseId) -> Result<(), Failure> {
        match self {
            Self::Plain(cache) => cache.release(id).map_err(Failure::Refused),
            Self::Actor(runtime, actor) => {
                let asked = actor.ask(Release(id)).send();
                runtime.block_on(async { asked.await.map_err(failure) })
            }
        }
    }

    pub fn prefetch(&mut self, layer: LayerKey, experts: &[u16]) -> Result<(), Failure> {
        match self {
            Self::Plain(cache) => cache.prefetch(layer, experts).map_err(Failure::Refused),
            Self::Actor(runtime, actor) => {
                let experts = experts.to_vec();
                let asked = actor.ask(Prefetch { layer, experts }).send();
                runtime.block_on(async { asked.await.map_err(failure) })
            }
        }
    }

    pub fn stats(&self) -> Result<CacheStats, Failure> {
        match self {
            Self::Plain(cache) => Ok(cache.stats()),
            Self::Actor(runtime, actor) => {
                let asked = actor.ask(GetStats).send();
                runtime.block_on(async { asked.await.map_err(failure) })
            }
        }
    }

    /// Ends the actor, whatever is leased; nobody answers afterwards.
    pub fn close(&self) -> Result<(), Failure> {
        let Self::Actor(runtime, actor) = self else {
            return Ok(());
        };
        runtime.block_on(async {
            // One that a refused request has stopped already cannot be stopped again.
            if actor.stop_gracefully().await.is_ok() {
                actor.wait_for_shutdown().await;
            }
        });
        match self.stats() {
            Err(failure) => Err(failure),
            Ok(_) => Ok(()),
        }
    }
}

fn failure<M>(error: SendError<M, CacheError>) -> Failure {
    match error {
        SendError::HandlerError(error) => Failure::Refused(error),
        _ => Failure::Stopped,
    }
}
