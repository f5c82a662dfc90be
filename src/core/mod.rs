//! The engine: runs the model one step at a time, asking the mind at every turn.
//!
//! Invariant: the engine makes no decision. What state, how many experts, which ones, and what stays in memory is
//! asked of the actors; the engine measures what happened and tells them.

pub mod asked;
pub mod closeup;
pub mod core_loop;
pub mod episodes;
pub mod experts;
pub mod forward;
pub mod generate;
pub mod limit;
pub mod memory;
pub mod orient;
pub mod perception;
pub mod reading;
pub mod remember;
pub mod sampling;
pub mod scene;
pub mod segment;
pub mod shadow;
pub mod speech;
pub mod stepwise;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sage_actors::Mind;
use sage_actors::cache::StateCliff;
use sage_actors::config::MindConfig;
use sage_actors::protocol::{ExpertKey, LayerKey, Spent, Tick};

use crate::cpu::arena::SlotArena;
use crate::model::Thinker;
use crate::model::experts::Scratch;
use crate::reads::ReadBytes;
use crate::store::WeightSource;

pub use forward::{Forward, Probe};
pub use limit::{LimitChange, LimitError, LimitOrigin, LimitPolicy, resolve};
pub use memory::{Limit, MemoryPlan};
pub use orient::{Arrivals, Orientation};

/// More threads of arithmetic than this are a slip of the pen.
pub const MOST_THREADS: usize = 1024;

/// Why the engine stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] crate::model::load::LoadError),
    /// The store or checkpoint.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// An expert could not be read.
    #[error(transparent)]
    Read(#[from] crate::cpu::arena::ReadError),
    /// The limit is below the floor.
    #[error(transparent)]
    BelowFloor(#[from] memory::BelowFloor),
    /// The limit is above what the machine has.
    #[error(transparent)]
    AboveMachine(#[from] limit::AboveMachine),
    /// A sound or a picture.
    #[error(transparent)]
    Perception(#[from] perception::PerceptionError),
    /// Speech.
    #[error(transparent)]
    Speech(#[from] speech::SpeechError),
    /// An actor failed.
    #[error(transparent)]
    Mind(#[from] sage_actors::MindError),
    /// Text.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// The system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// More tokens than the declared context.
    #[error(
        "{needed} tokens do not fit into the declared context of {capacity}: shorten the text, or declare a longer context"
    )]
    ContextFull {
        /// Tokens that there would be.
        needed: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// More context than the model was made for.
    #[error(
        "a context of {context_tokens} tokens is beyond the model's {max_position_embeddings}: declare less, or ask for a shorter answer"
    )]
    ContextTooLong {
        /// Declared.
        context_tokens: usize,
        /// Of config.json.
        max_position_embeddings: usize,
    },
    /// Nothing to answer.
    #[error("the prompt is empty: there is nothing to answer")]
    EmptyPrompt,
    /// An observation that says what cannot be.
    #[error("{0}")]
    Unsound(String),
    /// A token that the model does not have.
    #[error("token id {id} is beyond the model's vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Size.
        vocabulary: usize,
    },
    /// What was learned cannot be kept.
    #[error("{0}")]
    Ledger(sage_actors::trust::store::StoreFailure),
    /// The run cannot be recorded.
    #[error(transparent)]
    Trace(#[from] crate::trace::TraceError),
    /// The mind gave the thinker no budget.
    #[error(
        "the metabolic controller gave the thinker no directive: this is a fault of the program, please report it"
    )]
    NoDirective,
    /// A partial store that lacks a whole layer of experts.
    #[error(
        "the store has no expert of {component} layer {layer}: extract at least one of each layer"
    )]
    NoExpert {
        /// Component.
        component: &'static str,
        /// Decoder layer.
        layer: usize,
    },
    /// The record of an expert does not have the model's shape.
    #[error(
        "the record of {component} expert {expert} of layer {layer} is too short for its shape: extract it again"
    )]
    ShortRecord {
        /// Component.
        component: &'static str,
        /// Layer.
        layer: u16,
        /// Expert.
        expert: u16,
    },
}

impl EngineError {
    /// Whether the request was wrong, rather than the run.
    pub fn is_request(&self) -> bool {
        !matches!(
            self,
            EngineError::Read(_)
                | EngineError::Mind(_)
                | EngineError::Ledger(_)
                | EngineError::Trace(_)
                | EngineError::System { .. }
        )
    }
}

/// A running model with its mind. Lives on one current-thread runtime together with the actors.
pub struct Engine {
    /// Where the weights come from.
    pub source: Arc<dyn WeightSource>,
    /// The always-resident part.
    pub thinker: Thinker,
    /// Memory of the experts.
    pub arena: Arc<SlotArena>,
    /// What speaks; none unless it was asked for.
    pub(crate) voice: Option<Arc<speech::Voice>>,
    /// What hears and sees.
    pub towers: perception::Towers,
    /// Tokens that one sound or picture may take.
    pub media_tokens: usize,
    /// The actors.
    pub mind: Mind,
    /// What they were spawned with.
    pub mind_config: MindConfig,
    /// How the limit was divided.
    pub plan: MemoryPlan,
    /// The limit that it was opened with: as it was asked for, or chosen, in bytes.
    pub limit: Limit,
    /// Where the limit in force comes from.
    pub limit_origin: LimitOrigin,
    limit_policy: LimitPolicy,
    /// Tokens of a prefill chunk.
    pub chunk_tokens: usize,
    /// Experts of a lease window.
    pub window_experts: usize,
    /// Tokens of context that memory was planned for.
    pub context_tokens: usize,
    /// Whether experts are read ahead.
    pub read_ahead: bool,
    /// Sparse layers of the thinker, in order.
    pub sparse_layers: Vec<LayerKey>,
    /// Experts that the store lacks and the run does without.
    pub absent: BTreeSet<ExpertKey>,
    /// What every state's pool holds of one token's experts.
    pub cliffs: Vec<StateCliff>,
    tick: Tick,
    oriented_at: Tick,
    spent: Spent,
    /// What asking the mind has taken.
    pub asked: asked::Asked,
    /// Last known levels of outside reserves, by sensor.
    levels: BTreeMap<String, f64>,
    /// Where what is learned outlives the process.
    remembering: Option<remember::Remembering>,
    scratch: Scratch,
}

/// What an engine is made of.
pub(crate) struct EngineParts {
    pub source: Arc<dyn WeightSource>,
    pub thinker: Thinker,
    pub arena: Arc<SlotArena>,
    pub voice: Option<Arc<speech::Voice>>,
    pub towers: perception::Towers,
    pub media_tokens: usize,
    pub mind: Mind,
    pub mind_config: MindConfig,
    pub plan: MemoryPlan,
    pub limit: Limit,
    pub limit_origin: LimitOrigin,
    pub limit_policy: LimitPolicy,
    pub chunk_tokens: usize,
    pub window_experts: usize,
    pub context_tokens: usize,
    pub read_ahead: bool,
    pub sparse_layers: Vec<LayerKey>,
    pub absent: BTreeSet<ExpertKey>,
    pub cliffs: Vec<StateCliff>,
}

impl Engine {
    /// An engine before its first tick.
    pub(crate) fn new(parts: EngineParts) -> Self {
        Self {
            source: parts.source,
            thinker: parts.thinker,
            arena: parts.arena,
            voice: parts.voice,
            towers: parts.towers,
            media_tokens: parts.media_tokens,
            mind: parts.mind,
            mind_config: parts.mind_config,
            plan: parts.plan,
            limit: parts.limit,
            limit_origin: parts.limit_origin,
            limit_policy: parts.limit_policy,
            chunk_tokens: parts.chunk_tokens,
            window_experts: parts.window_experts,
            context_tokens: parts.context_tokens,
            read_ahead: parts.read_ahead,
            sparse_layers: parts.sparse_layers,
            absent: parts.absent,
            cliffs: parts.cliffs,
            tick: 0,
            oriented_at: 0,
            spent: Spent::default(),
            asked: asked::Asked::default(),
            levels: BTreeMap::new(),
            remembering: None,
            scratch: Scratch::default(),
        }
    }

    /// Logical time: ticks that have passed.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// A key-value cache for the declared context.
    ///
    /// # Errors
    /// When the system has no memory to map.
    pub fn new_sequence(&self) -> Result<crate::model::KvCache, EngineError> {
        let config = &self.thinker.config;
        let row = config.num_key_value_heads * config.head_dim;
        crate::model::KvCache::new(config.num_hidden_layers, row, self.context_tokens).map_err(
            |source| EngineError::System {
                what: "no memory for the key-value cache".into(),
                source,
            },
        )
    }

    /// What was read from disk since the model was opened, once all that is asked for now has come.
    pub fn read_bytes(&self) -> ReadBytes {
        self.arena.finish_reads();
        self.source.reads().bytes()
    }

    /// Lets `ticks` pass without a step of the model.
    pub fn idle(&mut self, ticks: u32) {
        self.tick += u64::from(ticks);
    }

    /// Ends the actors; the engine is gone.
    pub async fn shutdown(self) {
        self.mind.shutdown().await;
    }
}
