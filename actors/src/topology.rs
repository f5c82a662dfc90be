//! Spawning, asking and shutting down: the only place that holds the actors' references.
//!
//! Asks form a tree from the caller outward: actors never ask each other. A policy actor stops at its first error
//! or panic, because its state cannot be trusted afterwards; every later ask of it fails and names it.

mod episodes;
mod reconfiguring;
mod remembering;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::error::SendError;
use kameo::mailbox;
use kameo::message::Message;
use kameo::reply::{Reply, ReplyError};

use crate::cache::actor::{
    ApplyDirectives, EnterDomain, ExpertCache, GetHabits, GetHolding, GetResidency, GetStats,
    Prefetch, Release,
};
use crate::cache::{Cache, CacheError};
use crate::config::{ConfigError, MindConfig};
use crate::memory::Memory;
use crate::memory::actor::SegmentMemory;
use crate::metabolic::Controller;
use crate::metabolic::actor::MetabolicController;
use crate::protocol::{
    Assess, CacheStats, Directives, ExpertKey, ExpertSource, ExpertUse, Habit, Holding, LayerKey,
    Lease, LeaseId, LeaseRequest, Module, Observe, Outcome, Propose, Residency, Route,
    SalienceReport, Selection, State, TrustSnapshot,
};
use crate::router::actor::{ApplyDirective, LayerRouter};
use crate::router::{RouteError, Router};
use crate::snarc::Assessor;
use crate::snarc::actor::SalienceAssessor;
use crate::trust::actor::{GetRecord, GetState, Resume, Snapshot, TrustLedger};
use crate::trust::state::LedgerState;
use crate::trust::{ExpertTrust, Ledger, TrustError};
use crate::witness::{Exchange, Witness};

/// Messages that wait for one actor at most; a sender beyond that waits too.
const MAILBOX: usize = 64;

/// The actors by name, for errors and witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorName {
    /// The salience assessor.
    Salience,
    /// The metabolic controller.
    Metabolic,
    /// The trust ledger.
    Trust,
    /// The expert cache.
    Cache,
    /// The memory of what was read.
    Memory,
    /// One layer's router.
    Router(LayerKey),
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Salience => f.write_str("salience assessor"),
            Self::Metabolic => f.write_str("metabolic controller"),
            Self::Trust => f.write_str("trust ledger"),
            Self::Cache => f.write_str("expert cache"),
            Self::Memory => f.write_str("memory"),
            Self::Router(key) => write!(f, "router of {:?} layer {}", key.module, key.layer),
        }
    }
}

/// What ends a run of the mind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MindError {
    /// The configuration is impossible.
    #[error("the mind's configuration: {0}")]
    Config(#[from] ConfigError),
    /// Spawned outside a tokio runtime.
    #[error("the mind must be spawned inside a tokio runtime")]
    NoRuntime,
    /// The actor panicked, or stopped at an earlier error.
    #[error("{0} is not running")]
    Stopped(ActorName),
    /// The cache refused a request.
    #[error("expert cache: {0}")]
    Cache(#[from] CacheError),
    /// The ledger refused an outcome.
    #[error("trust ledger: {0}")]
    Trust(#[from] TrustError),
    /// A router refused to choose.
    #[error("{}: {source}", ActorName::Router(*layer))]
    Route {
        /// Whose router.
        layer: LayerKey,
        /// Why.
        source: RouteError,
    },
    /// The model has no such sparse layer.
    #[error("no sparse layer {0:?}")]
    UnknownLayer(LayerKey),
}

impl MindError {
    /// The actor that failed, if one did.
    pub fn actor(&self) -> Option<ActorName> {
        match self {
            Self::Config(_) | Self::NoRuntime | Self::UnknownLayer(_) => None,
            Self::Stopped(name) => Some(*name),
            Self::Cache(_) => Some(ActorName::Cache),
            Self::Trust(_) => Some(ActorName::Trust),
            Self::Route { layer, .. } => Some(ActorName::Router(*layer)),
        }
    }
}

/// All actors of one mind.
pub struct Mind {
    salience: ActorRef<SalienceAssessor>,
    metabolic: ActorRef<MetabolicController>,
    trust: ActorRef<TrustLedger>,
    cache: ActorRef<ExpertCache>,
    memory: ActorRef<SegmentMemory>,
    routers: BTreeMap<LayerKey, ActorRef<LayerRouter>>,
    witness: Option<Arc<dyn Witness>>,
}

impl Mind {
    /// Spawns every actor on the current tokio runtime.
    ///
    /// # Errors
    /// An impossible configuration, or no runtime.
    pub fn spawn(config: MindConfig, source: Arc<dyn ExpertSource>) -> Result<Self, MindError> {
        config.validate()?;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(MindError::NoRuntime);
        }
        let routers = config
            .modules
            .iter()
            .flat_map(|shape| {
                let (config, sizes) = (&config, shape.sizes());
                shape.keys().enumerate().map(move |(rank, key)| {
                    let absent = config.absent.iter().filter(|absent| absent.layer == key);
                    let router = Router::new(shape, config.routing)
                        .sized(sizes.of_layer(rank, shape.experts));
                    (key, router.without(absent.map(|absent| absent.expert)))
                })
            })
            .map(|(key, router)| (key, spawn(LayerRouter(router))))
            .collect();
        Ok(Self {
            salience: spawn(SalienceAssessor(Assessor::of(config.salience))),
            metabolic: spawn(MetabolicController(Controller::new(&config))),
            trust: spawn(TrustLedger(Ledger::new(&config.modules))),
            cache: spawn(ExpertCache(Cache::new(&config, source))),
            memory: spawn(SegmentMemory(Memory::new(config.memory, config.salience))),
            routers,
            witness: None,
        })
    }

    /// From now on `witness` hears of everything that is asked and answered.
    pub fn watch(&mut self, witness: Arc<dyn Witness>) {
        self.witness = Some(witness);
    }

    /// The witness, if there is one, and a copy of what it will be told was asked.
    fn told<T: Clone>(&self, message: &T) -> Option<(&dyn Witness, T)> {
        let witness = self.witness.as_deref()?;
        Some((witness, message.clone()))
    }

    /// Salience of what reached the loop since the step before.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn observe(&self, observe: Observe) -> Result<SalienceReport, MindError> {
        let told = self.told(&observe);
        let report = ask(&self.salience, observe, ActorName::Salience)
            .await?
            .map_err(never)?;
        if let Some((witness, observe)) = told {
            witness.saw(Exchange::Salience(&observe, &report));
        }
        Ok(report)
    }

    /// State and budgets of this step.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn assess(&self, assess: Assess) -> Result<Directives, MindError> {
        let told = self.told(&assess);
        let directives = ask(&self.metabolic, assess, ActorName::Metabolic)
            .await?
            .map_err(never)?;
        if let Some((witness, assess)) = told {
            witness.saw(Exchange::State(&assess, &directives));
        }
        Ok(directives)
    }

    /// What the ledger believes now.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn snapshot(&self) -> Result<TrustSnapshot, MindError> {
        ask(&self.trust, Snapshot, ActorName::Trust)
            .await?
            .map_err(never)
    }

    /// Puts directives in force: the cache first, then every router of a module awake in the order of layers.
    /// Answers the residency of the first sparse layer.
    ///
    /// # Errors
    /// The actor that failed.
    pub async fn apply(
        &self,
        directives: &Directives,
        trust: &TrustSnapshot,
    ) -> Result<Residency, MindError> {
        let message = ApplyDirectives {
            directives: directives.clone(),
            trust: Arc::clone(trust),
        };
        let residency = ask(&self.cache, message, ActorName::Cache).await??;
        for (layer, router) in &self.routers {
            let Some(directive) = directives.modules.iter().find(|d| d.module == layer.module)
            else {
                continue;
            };
            let Some(view) = trust.layers.get(layer) else {
                return Err(MindError::UnknownLayer(*layer));
            };
            let message = ApplyDirective {
                directive: *directive,
                trust: Arc::clone(view),
            };
            ask(router, message, ActorName::Router(*layer))
                .await?
                .map_err(refused(*layer))?;
        }
        if let Some(witness) = &self.witness {
            witness.saw(Exchange::Applied(trust, &residency));
        }
        Ok(residency)
    }

    /// Chooses the experts of every row of a layer.
    ///
    /// # Errors
    /// Logits that are not finite or of another shape; an unknown layer; [`MindError::Stopped`].
    pub async fn route(&self, layer: LayerKey, route: Route) -> Result<Selection, MindError> {
        let router = self
            .routers
            .get(&layer)
            .ok_or(MindError::UnknownLayer(layer))?;
        let told = self.told(&route);
        let selection = ask(router, route, ActorName::Router(layer))
            .await?
            .map_err(refused(layer))?;
        if let Some((witness, route)) = told {
            witness.saw(Exchange::Routed(layer, &route, &selection));
        }
        Ok(selection)
    }

    /// Pins a window of experts.
    ///
    /// # Errors
    /// See [`CacheError`]; [`MindError::Stopped`].
    pub async fn lease(&self, request: LeaseRequest) -> Result<Lease, MindError> {
        let told = self.told(&request);
        let lease = ask(&self.cache, request, ActorName::Cache).await??;
        if let Some((witness, request)) = told {
            witness.saw(Exchange::Leased(&request, &lease));
        }
        Ok(lease)
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// An unknown lease; [`MindError::Stopped`].
    pub async fn release(&self, lease: LeaseId) -> Result<(), MindError> {
        Ok(ask(&self.cache, Release(lease), ActorName::Cache).await??)
    }

    /// Starts reading experts that will probably be asked for, best first.
    ///
    /// # Errors
    /// An unknown layer or expert; [`MindError::Stopped`].
    pub async fn prefetch(&self, layer: LayerKey, experts: Vec<u16>) -> Result<(), MindError> {
        Ok(ask(&self.cache, Prefetch { layer, experts }, ActorName::Cache).await??)
    }

    /// What came of a step, for the ledger to learn from. (The assessor hears of feedback by [`Mind::observe`].)
    ///
    /// # Errors
    /// An unknown layer or expert; [`MindError::Stopped`].
    pub async fn outcome(&self, outcome: Outcome) -> Result<(), MindError> {
        let told = self.told(&outcome);
        ask(&self.trust, outcome, ActorName::Trust).await??;
        if let Some((witness, outcome)) = told {
            witness.saw(Exchange::Learned(&outcome));
        }
        Ok(())
    }

    /// Everything that the ledger knows, to be kept.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn trust_state(&self) -> Result<LedgerState, MindError> {
        ask(&self.trust, GetState, ActorName::Trust)
            .await?
            .map_err(never)
    }

    /// Goes on from a ledger that was kept; of the model's own shape, or its layers will be missed.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn resume_trust(&self, ledger: Ledger) -> Result<(), MindError> {
        ask(&self.trust, Resume(ledger), ActorName::Trust)
            .await?
            .map_err(never)
    }

    /// Totals of the cache.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn cache_stats(&self) -> Result<CacheStats, MindError> {
        Ok(ask(&self.cache, GetStats, ActorName::Cache).await??)
    }

    /// What of a layer is resident, and what may still be missed: where no lease before it in the step has said so.
    ///
    /// # Errors
    /// An unknown layer; [`MindError::Stopped`].
    pub async fn residency(&self, layer: LayerKey) -> Result<Residency, MindError> {
        Ok(ask(&self.cache, GetResidency(layer), ActorName::Cache).await??)
    }

    /// A module's demand pool; none where the mind has no such module.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn holding(&self, module: Module) -> Result<Option<Holding>, MindError> {
        Ok(ask(&self.cache, GetHolding(module), ActorName::Cache).await??)
    }

    /// Which experts of a recorded segment are worth scoring next, best first; all of one layer.
    ///
    /// # Errors
    /// An unknown layer or expert; [`MindError::Stopped`].
    pub async fn propose(&self, propose: Propose) -> Result<Vec<ExpertUse>, MindError> {
        let told = self.told(&propose);
        let proposed = ask(&self.trust, propose, ActorName::Trust).await??;
        if let Some((witness, propose)) = told {
            witness.saw(Exchange::Proposed(&propose, &proposed));
        }
        Ok(proposed)
    }

    /// What the ledger believes of one expert; none where the model has no such expert.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn record(&self, key: ExpertKey) -> Result<Option<ExpertTrust>, MindError> {
        ask(&self.trust, GetRecord(key), ActorName::Trust)
            .await?
            .map_err(never)
    }

    /// The recorded routing of an episode: what its domain usually needs.
    ///
    /// # Errors
    /// An unknown layer or expert; [`MindError::Stopped`].
    pub async fn learn_habit(&self, habit: Habit) -> Result<(), MindError> {
        let told = self.told(&habit);
        ask(&self.cache, habit, ActorName::Cache).await??;
        if let Some((witness, habit)) = told {
            witness.saw(Exchange::Habit(&habit));
        }
        Ok(())
    }

    /// What follows is of this domain. Answers whether its habits are known.
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn enter_domain(&self, state: State, domain: String) -> Result<bool, MindError> {
        let told = self.told(&domain);
        let message = EnterDomain { state, domain };
        let known = ask(&self.cache, message, ActorName::Cache).await??;
        if let Some((witness, domain)) = told {
            witness.saw(Exchange::Entered(state, &domain, known));
        }
        Ok(known)
    }

    /// Every list of habits: (domain, state, tokens, experts that a quarter of them use).
    ///
    /// # Errors
    /// [`MindError::Stopped`].
    pub async fn habits(&self) -> Result<Vec<(String, State, f64, u32)>, MindError> {
        Ok(ask(&self.cache, GetHabits, ActorName::Cache).await??)
    }

    /// Stops every actor after what it has in its mailbox, and waits until all have stopped.
    pub async fn shutdown(self) {
        for router in self.routers.values() {
            stop(router).await;
        }
        stop(&self.memory).await;
        stop(&self.cache).await;
        stop(&self.trust).await;
        stop(&self.metabolic).await;
        stop(&self.salience).await;
    }
}

fn spawn<A: Actor<Args = A>>(actor: A) -> ActorRef<A> {
    A::spawn_with_mailbox(actor, mailbox::bounded(MAILBOX))
}

async fn stop<A: Actor>(actor: &ActorRef<A>) {
    // An actor that has already failed has nothing left to stop.
    if actor.stop_gracefully().await.is_ok() {
        actor.wait_for_shutdown().await;
    }
}

/// The handler's own answer, or that the actor is gone.
async fn ask<A, M>(
    actor: &ActorRef<A>,
    message: M,
    name: ActorName,
) -> Result<Result<<A::Reply as Reply>::Ok, <A::Reply as Reply>::Error>, MindError>
where
    A: Message<M>,
    M: Send + 'static,
    <A::Reply as Reply>::Error: ReplyError,
{
    match actor.ask(message).send().await {
        Ok(reply) => Ok(Ok(reply)),
        Err(SendError::HandlerError(error)) => Ok(Err(error)),
        Err(_) => Err(MindError::Stopped(name)),
    }
}

fn refused(layer: LayerKey) -> impl FnOnce(RouteError) -> MindError {
    move |source| MindError::Route { layer, source }
}

fn never(error: Infallible) -> MindError {
    match error {}
}
