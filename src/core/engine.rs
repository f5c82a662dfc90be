//! The engine itself: its parts, and what is asked of it from outside a step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sage_actors::Mind;
use sage_actors::cache::StateCliff;
use sage_actors::config::MindConfig;
use sage_actors::protocol::{ExpertKey, LayerKey, Module, Tick};

use super::asked::ActorLatency;
use super::error::EngineError;
use super::limit::LimitOrigin;
use super::memory::MemoryPlan;
use super::parts::{Body, Clock, ExpertMap, LimitInForce, WorkSizes};
use super::ports::{Decoder, ExpertHost, Sequence, Towers};
use super::remember::Remembering;
use crate::checkpoint::config::TextConfig;
use crate::input::{KvPrecision, Limit};
use crate::progress::WorkProgress;
use crate::reads::ReadBytes;
use crate::store::WeightSource;

/// A running model with its mind. Lives on one current-thread runtime together with the actors.
pub struct Engine {
    /// Where the weights come from.
    pub source: Arc<dyn WeightSource>,
    /// The actors that decide, and what asks them.
    pub mind: Mind,
    /// What they were spawned with.
    pub mind_config: MindConfig,
    /// How the limit was divided.
    pub plan: MemoryPlan,
    pub(super) limit: LimitInForce,
    pub(super) body: Body,
    pub(super) work: WorkSizes,
    pub(super) experts: ExpertMap,
    pub(super) clock: Clock,
    /// Where what is learned outlives the process.
    pub(super) remembering: Option<Remembering>,
}

/// What an engine is made of.
pub struct EngineParts {
    /// Where the weights come from.
    pub source: Arc<dyn WeightSource>,
    /// The actors, whose cache tells `body.experts` what is to be where.
    pub mind: Mind,
    /// What they were spawned with.
    pub mind_config: MindConfig,
    /// How the limit was divided.
    pub plan: MemoryPlan,
    /// Memory that the process may take, and who said so.
    pub limit: LimitInForce,
    /// What computes.
    pub body: Body,
    /// How work is cut.
    pub work: WorkSizes,
    /// Which experts there are.
    pub experts: ExpertMap,
}

impl AsMut<Engine> for Engine {
    fn as_mut(&mut self) -> &mut Engine {
        self
    }
}

impl Engine {
    /// An engine before its first tick.
    pub fn new(parts: EngineParts) -> Self {
        Self {
            source: parts.source,
            mind: parts.mind,
            mind_config: parts.mind_config,
            plan: parts.plan,
            limit: parts.limit,
            body: parts.body,
            work: parts.work,
            experts: parts.experts,
            clock: Clock::default(),
            remembering: None,
        }
    }

    /// Logical time: ticks that have passed.
    pub fn tick(&self) -> Tick {
        self.clock.tick()
    }

    /// Lets `ticks` pass without a step of the model.
    pub fn idle(&mut self, ticks: u32) {
        self.clock.pass(u64::from(ticks));
    }

    /// A sequence of the thinker for the declared context.
    ///
    /// # Errors
    /// When the system has no memory to map.
    pub fn new_sequence(&self) -> Result<Sequence, EngineError> {
        self.new_sequence_in(self.work.kv)
    }

    /// A sequence of the thinker whose keys and values are kept in `precision`, for as many tokens as
    /// [`Self::context_tokens_in`] says.
    ///
    /// # Errors
    /// When the system has no memory to map, or this model's cannot be kept so.
    pub fn new_sequence_in(&self, precision: KvPrecision) -> Result<Sequence, EngineError> {
        let capacity = self.context_tokens_in(precision)?;
        Ok(self.body.thinker.new_sequence(capacity, precision)?)
    }

    /// Tokens of context that have room in the memory planned for keys and values, where they are kept in `precision`; never
    /// more than were declared.
    ///
    /// # Errors
    /// When this model's cannot be kept so.
    pub fn context_tokens_in(&self, precision: KvPrecision) -> Result<usize, EngineError> {
        let declared = self.work.context_tokens;
        if precision == self.work.kv {
            return Ok(declared);
        }
        let a_token = self.body.thinker.kv_bytes(1, precision);
        let a_token = a_token.ok_or_else(|| EngineError::NoKvBlocks {
            precision,
            head_dim: self.text_config().head_dim,
        })?;
        let fit = self.plan.floor.kv_bytes / a_token.max(1);
        Ok(declared.min(usize::try_from(fit).unwrap_or(declared)))
    }

    /// How keys and values are kept unless a request says otherwise.
    pub fn kv_precision(&self) -> KvPrecision {
        self.work.kv
    }

    /// Puts another decoder in the place of the thinker's, made of it: for instruments that force its routing. Sequences that
    /// were made before stay usable only if the other one hands them on.
    pub fn wrap_thinker(&mut self, wrap: impl FnOnce(Arc<dyn Decoder>) -> Arc<dyn Decoder>) {
        self.body.thinker = wrap(Arc::clone(&self.body.thinker));
    }

    /// The thinker's configuration.
    pub fn text_config(&self) -> &TextConfig {
        self.body.thinker.config()
    }

    /// How far reading and perceiving are, for another thread to look at.
    pub fn progress(&self) -> &Arc<WorkProgress> {
        &self.body.progress
    }

    /// What was read from disk since the model was opened, once all that is asked for now has come.
    pub fn read_bytes(&self) -> ReadBytes {
        self.body.experts.finish_reads();
        self.source.reads().bytes()
    }

    /// Where routed experts are.
    pub fn host(&self) -> &dyn ExpertHost {
        &*self.body.experts
    }

    /// What hears and sees.
    pub fn towers(&self) -> &dyn Towers {
        &*self.body.towers
    }

    /// Codes of one spoken answer that memory was planned for; none where nothing speaks.
    pub fn speech_codes(&self) -> Option<usize> {
        self.body.voice.as_ref().map(|voice| voice.codes())
    }

    /// Whether answers can be spoken.
    pub fn speaks(&self) -> bool {
        self.body.voice.is_some()
    }

    /// Time that steps waited for reads of experts since the start.
    pub fn stall_time(&self) -> Duration {
        self.body.experts.usage().stall_time
    }

    /// What asking the mind has taken.
    pub fn asked(&self) -> ActorLatency {
        self.clock.asked()
    }

    /// Names the arithmetic: equal names give equal bits.
    pub fn spec(&self) -> &str {
        self.body.thinker.spec()
    }

    /// The limit that the model was opened with: as it was asked for, or chosen, in bytes.
    pub fn limit(&self) -> Limit {
        self.limit.limit
    }

    /// Where the limit in force comes from.
    pub fn limit_origin(&self) -> &LimitOrigin {
        &self.limit.origin
    }

    /// Tokens of a prefill chunk.
    pub fn chunk_tokens(&self) -> usize {
        self.work.chunk_tokens
    }

    /// Tokens of context that memory was planned for.
    pub fn context_tokens(&self) -> usize {
        self.work.context_tokens
    }

    /// Tokens that one sound or image may take.
    pub fn media_tokens(&self) -> usize {
        self.work.media_tokens
    }

    /// Sparse layers of a module, in order.
    pub fn layers_of(&self, module: Module) -> &[LayerKey] {
        self.experts.layers_of(module)
    }

    /// Sparse layers of the thinker, in order.
    pub fn sparse_layers(&self) -> &[LayerKey] {
        &self.experts.thinker
    }

    /// Experts that the store lacks and the run does without.
    pub fn absent(&self) -> &BTreeSet<ExpertKey> {
        &self.experts.absent
    }

    /// What every state's pool holds of one token's experts.
    pub fn cliffs(&self) -> &[StateCliff] {
        &self.experts.cliffs
    }

    /// Ends the actors; the engine is gone.
    pub async fn shutdown(self) {
        self.mind.shutdown().await;
    }
}
