//! Opening a model: memory planned first, then weights, then the mind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sage_actors::Mind;
use sage_actors::cache::state_cliffs;
use sage_actors::config::{MemoryConfig, MindConfig, ModuleShape, Retention};
use sage_actors::protocol::{ExpertKey, Modality, Module, State};

pub use super::chunks::SHORTEST_CHUNK_TOKENS;
use super::chunks::{self, ChunkPlan};
use super::kv_choice;
use crate::checkpoint::Component;
use crate::checkpoint::config::TextConfig;
use crate::core::limit::{LimitOrigin, LimitPolicy};
use crate::core::memory::{Demand, MemoryPlan, own_memory_bytes};
use crate::core::perception::PerceptionError;
use crate::core::ports::{ExpertHost, Towers, Voice, component_of, module_name};
use crate::core::speech::{MOST_CODES, talker_layers, talker_shape};
use crate::core::{Body, Engine, EngineError, EngineParts, ExpertMap, LimitInForce, WorkSizes};
use crate::cpu::decoder::{CpuDecoder, spec_of};
use crate::cpu::host::LocalHost;
use crate::cpu::sizes::{READ_RECORDS, kv_bytes, widened_bytes, workspace_bytes};
use crate::cpu::slots::{ExpertSlots, unused_bytes};
use crate::cpu::towers::{CpuTowers, TowerSet};
use crate::cpu::voice::{self, CpuVoice};
use crate::input::{KvPrecision, Limit};
use crate::kernels::threads;
use crate::model::experts::ExpertShape;
use crate::model::speech::choice::MAX_CODES;
use crate::model::{Talker, Thinker};
use crate::progress::WorkProgress;
use crate::sensors::Machine;
use crate::store::{StoreError, WeightSource};

pub use crate::cpu::host::ExpertIo;

/// How to run a model.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Of the whole process.
    pub limit: Limit,
    /// Whether the machine is looked at: to refuse a limit above it, or to choose one. [`EngineOptions::limited`] sets both.
    pub limit_policy: LimitPolicy,
    /// Tokens of context to plan memory for.
    pub context_tokens: usize,
    /// Tokens of a prefill chunk; none: as many as memory allows, 128 to 4096.
    pub chunk_tokens: Option<usize>,
    /// How keys and values are kept; none: as they are computed where the limit has room for that, else rounded.
    pub kv: Option<KvPrecision>,
    /// Policies and budgets; its modules, pool, window and absent experts are filled in here.
    pub mind: MindConfig,
    /// Run a partial store: experts that it lacks are denied instead of being an error.
    pub degrade: bool,
    /// The process's own memory, bytes, where it is not to be measured: as a recorded run had it. A plan is made from it, and
    /// all that is decided depends on the plan.
    pub base_bytes: Option<u64>,
    /// Whether experts are read ahead where a state says so. No decision depends on it.
    pub read_ahead: bool,
    /// How experts come from disk. No decision depends on it.
    pub expert_io: ExpertIo,
    /// What is to be perceived beside words: memory is planned for it.
    pub senses: Vec<Modality>,
    /// Tokens that one sound or picture may take at most; never more than the context.
    pub media_tokens: usize,
    /// Bytes of files of sounds and pictures that may wait to be perceived at one time, beyond those that were read before the model
    /// is opened: memory is planned for them where anything is to be perceived.
    pub waiting_media_bytes: u64,
    /// Whether answers can be spoken: memory is planned for it.
    pub speaks: bool,
    /// Codes of one spoken turn at most, the end code included: one more than frames of 80 ms.
    pub codes: usize,
}

/// Tokens of one sound (40 seconds) or picture (half a million pixels) that memory is planned for, where nothing else is said.
pub const MEDIA_TOKENS: usize = 512;

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            limit: Limit::None,
            limit_policy: LimitPolicy::AsGiven,
            context_tokens: 2048,
            chunk_tokens: None,
            kv: Some(KvPrecision::Exact),
            mind: MindConfig::default(),
            degrade: false,
            base_bytes: None,
            read_ahead: true,
            expert_io: ExpertIo::default(),
            senses: Vec::new(),
            media_tokens: MEDIA_TOKENS,
            waiting_media_bytes: 0,
            speaks: false,
            codes: MAX_CODES,
        }
    }
}

impl EngineOptions {
    /// With the limit that was asked for on `machine`, or one that is chosen from what it has.
    #[must_use]
    pub fn limited(self, asked: Option<Limit>, machine: Machine) -> Self {
        Self {
            limit: asked.unwrap_or(Limit::None),
            limit_policy: match asked {
                Some(_) => LimitPolicy::Checked(machine),
                None => LimitPolicy::Chosen(machine),
            },
            ..self
        }
    }
}

/// Memory as it would be divided, in this process as it is now: refuses what [`open`] would refuse, reads no weight.
///
/// # Errors
/// When the limit is below the floor or above the machine, the context is too long, or a tensor is missing.
pub fn plan(
    source: &dyn WeightSource,
    options: &EngineOptions,
) -> Result<PlannedMemory, EngineError> {
    let sizes = sizes(source, options)?;
    Ok(PlannedMemory {
        memory: sizes.plan,
        limit_origin: sizes.limit_origin,
        kv: sizes.work.kv,
        chunk_tokens: sizes.work.chunk_tokens,
        window_experts: sizes.work.window_experts,
    })
}

/// How memory would be divided, and what was decided for it.
#[derive(Clone, Debug)]
pub struct PlannedMemory {
    /// The division.
    pub memory: MemoryPlan,
    /// Where its limit comes from.
    pub limit_origin: LimitOrigin,
    /// How keys and values would be kept.
    pub kv: KvPrecision,
    /// Tokens of a prefill chunk.
    pub chunk_tokens: usize,
    /// Experts of a lease window.
    pub window_experts: usize,
}

/// What is known of a model before its weights are read.
struct Sizes {
    plan: MemoryPlan,
    limit: Limit,
    limit_origin: LimitOrigin,
    towers: TowerSet,
    work: WorkSizes,
    /// Of the thinker's experts.
    slots: ExpertSlots,
    /// Of the talker's experts; none where nothing speaks.
    talker_slots: Option<ExpertSlots>,
}

fn sizes(source: &dyn WeightSource, options: &EngineOptions) -> Result<Sizes, EngineError> {
    let base_bytes = own_memory_bytes();
    let config = &source.config().thinker.text;
    if options.context_tokens > config.max_position_embeddings {
        return Err(EngineError::ContextTooLong {
            context_tokens: options.context_tokens,
            max_position_embeddings: config.max_position_embeddings,
        });
    }
    let (_, resident_weights_bytes) = Thinker::sizes(source)?;
    let slots = ExpertSlots::of(source, Component::Thinker);
    // One window for both modules: every one of a token's experts has room in it.
    let mut window_experts = window_experts(config, &options.mind);
    if options.speaks
        && let Some(talker) = &source.config().talker
    {
        window_experts = window_experts.max(talker.text.num_experts_per_tok);
    }
    let towers = TowerSet::new(source, &options.senses);
    let towers = towers.map_err(PerceptionError::from)?;
    let media_tokens = options.media_tokens.min(options.context_tokens).max(1);
    let parts = FloorParts {
        source,
        options,
        slots: &slots,
        towers: &towers,
        resident_weights_bytes,
        window_experts,
        media_tokens,
        base_bytes,
    };
    let chunks_with = |kv| {
        let of_length = |chunk_tokens| {
            let whole = parts.whole(chunk_tokens, kv)?;
            let (limit, origin) = options.limit_policy.resolve(options.limit, &whole)?;
            Ok(ChunkPlan {
                chunk_tokens,
                plan: whole.with_limit(limit)?,
                limit,
                origin,
            })
        };
        chunks::choose(options.chunk_tokens, options.context_tokens, of_length)
    };
    let asked = kv_choice::asked(options.kv, &options.mind);
    let (kv, chosen) = kv_choice::choose(asked, chunks_with)?;
    Ok(Sizes {
        plan: chosen.plan,
        limit: chosen.limit,
        limit_origin: chosen.origin,
        towers,
        work: WorkSizes {
            chunk_tokens: chosen.chunk_tokens,
            window_experts,
            context_tokens: options.context_tokens,
            kv,
            media_tokens,
            read_ahead: options.read_ahead,
        },
        slots,
        talker_slots: options
            .speaks
            .then(|| ExpertSlots::of(source, Component::Talker)),
    })
}

/// What a plan is made of, whatever the length of a chunk.
struct FloorParts<'a> {
    source: &'a dyn WeightSource,
    options: &'a EngineOptions,
    slots: &'a ExpertSlots,
    towers: &'a TowerSet,
    resident_weights_bytes: u64,
    window_experts: usize,
    media_tokens: usize,
    base_bytes: u64,
}

impl FloorParts<'_> {
    /// Memory without a limit, with chunks of so many tokens, and keys and values kept so.
    fn whole(&self, chunk_tokens: usize, kv: KvPrecision) -> Result<MemoryPlan, EngineError> {
        let (options, towers) = (self.options, self.towers);
        let config = &self.source.config().thinker.text;
        let (context_tokens, codes) = (options.context_tokens, codes_of(options));
        let unfit = |config: &TextConfig| EngineError::NoKvBlocks {
            precision: kv,
            head_dim: config.head_dim,
        };
        let speech = match options.speaks {
            true => {
                let demand = voice::demand(self.source, context_tokens, chunk_tokens, codes, kv)?;
                let talker = self.source.config().talker.as_ref();
                let decoder = talker.map_or(config, |talker| &talker.text);
                Some(demand.ok_or_else(|| unfit(decoder))?)
            }
            false => None,
        };
        let demand = Demand {
            config,
            experts_bytes: self.slots.total_bytes,
            slot_bytes: self.slots.largest_bytes,
            context_tokens,
            kv_bytes: kv_bytes(config, context_tokens, kv).ok_or_else(|| unfit(config))?,
            workspace_bytes: workspace_bytes(config, chunk_tokens, context_tokens)
                + widened_bytes(config, kv),
            window_experts: self.window_experts,
            read_records: READ_RECORDS,
            unused_bytes: self.slots.unused_bytes()
                + speech
                    .as_ref()
                    .map_or(0, |speech| unused_bytes(speech.slot_bytes)),
            resident_weights_bytes: self.resident_weights_bytes,
            base_bytes: self.base_bytes,
            dreams: options.mind.hold.is_none(),
            perception_bytes: towers.floor_bytes(self.media_tokens, config.hidden_size),
            remembered_bytes: remembered_bytes(&options.mind.memory),
            waiting_media_bytes: match towers.shapes().is_empty() {
                true => 0,
                false => options.waiting_media_bytes,
            },
            senses: towers.shapes().len(),
            towers_bytes: towers.total_bytes(),
            speech,
        };
        Ok(MemoryPlan::new(Limit::None, &demand, options.base_bytes)?)
    }
}

/// Opens a model under a limit, with its experts in this process's memory. Call inside a current-thread runtime; `progress`
/// hears of loaded layers.
///
/// # Errors
/// When the limit is below the floor or above the machine, weights are missing or damaged, or an actor cannot start.
pub async fn open(
    source: Arc<dyn WeightSource>,
    options: EngineOptions,
    progress: impl FnMut(usize, usize),
) -> Result<Engine, EngineError> {
    let (speaks, io) = (options.speaks, options.expert_io);
    let local = |source: &Arc<dyn WeightSource>| {
        let host = LocalHost::new(Arc::clone(source), expert_shapes(&**source, speaks)?, io)?;
        Ok(Arc::new(host) as Arc<dyn ExpertHost>)
    };
    open_with(source, options, progress, local).await
}

/// As [`open`], with the experts wherever `host` has them: it is called once memory is planned, before any weight is read.
///
/// # Errors
/// As [`open`], and what `host` returns.
pub async fn open_with(
    source: Arc<dyn WeightSource>,
    options: EngineOptions,
    progress: impl FnMut(usize, usize),
    host: impl FnOnce(&Arc<dyn WeightSource>) -> Result<Arc<dyn ExpertHost>, EngineError>,
) -> Result<Engine, EngineError> {
    let sizes = sizes(&*source, &options)?;
    // After the process's own memory was measured: what threads take is not to be foreseen.
    threads::start(None).map_err(|source| EngineError::System {
        what: "cannot start the threads of the arithmetic, let the process have more of them"
            .into(),
        source,
    })?;
    let experts = host(&source)?;
    let thinker = CpuDecoder::thinker(Thinker::load(&*source, progress)?, spec_of(&*source));
    let voice = match sizes.talker_slots {
        Some(_) => Some(CpuVoice::load(&*source, codes_of(&options))?),
        None => None,
    };
    let progress = Arc::new(WorkProgress::default());
    let towers = CpuTowers::new(Arc::clone(&source), sizes.towers);
    let (modules, mut map) = modules(&*source, sizes.slots, sizes.talker_slots);
    if options.degrade {
        map.absent = absent_experts(&*source, &modules)?.into_iter().collect();
    }
    let mind_config = MindConfig {
        modules,
        towers: towers.shapes(),
        pool_bytes: sizes.plan.pool_bytes,
        window_experts: sizes.work.window_experts as u16,
        absent: map.absent.iter().copied().collect(),
        ..options.mind
    };
    map.cliffs = state_cliffs(&mind_config);
    let mind = Mind::spawn(mind_config.clone(), experts.source())?;
    Ok(Engine::new(EngineParts {
        source,
        mind,
        mind_config,
        plan: sizes.plan,
        limit: LimitInForce {
            limit: sizes.limit,
            origin: sizes.limit_origin,
            policy: options.limit_policy,
        },
        body: Body {
            thinker: Arc::new(thinker),
            experts,
            towers: Box::new(towers),
            voice: voice.map(|voice| Arc::new(voice) as Arc<dyn Voice>),
            progress,
        },
        work: sizes.work,
        experts: map,
    }))
}

/// How each module's experts are stored; those of the talker where answers are spoken.
fn expert_shapes(
    source: &dyn WeightSource,
    speaks: bool,
) -> Result<BTreeMap<Module, ExpertShape>, EngineError> {
    let mut shapes = BTreeMap::from([(Module::Thinker, Thinker::sizes(source)?.0)]);
    if speaks {
        shapes.insert(Module::Talker, Talker::sizes(source)?.0);
    }
    Ok(shapes)
}

/// The modules as the mind knows them, and which experts there are.
fn modules(
    source: &dyn WeightSource,
    slots: ExpertSlots,
    talker_slots: Option<ExpertSlots>,
) -> (Vec<ModuleShape>, ExpertMap) {
    let thinker = ModuleShape {
        smaller: slots.smaller,
        ..thinker_shape(&source.config().thinker.text, slots.largest_bytes)
    };
    let mut map = ExpertMap {
        thinker: thinker.keys().collect(),
        talker: Vec::new(),
        absent: BTreeSet::new(),
        cliffs: Vec::new(),
    };
    let mut modules = vec![thinker];
    if let (Some(talker), Some(slots)) = (&source.config().talker, talker_slots) {
        modules.push(ModuleShape {
            smaller: slots.smaller,
            ..talker_shape(talker, slots.largest_bytes)
        });
        map.talker = talker_layers(talker).collect();
    }
    (modules, map)
}

fn codes_of(options: &EngineOptions) -> usize {
    options.codes.min(MOST_CODES)
}

/// The thinker's sparse part, as the mind knows it.
pub fn thinker_shape(config: &TextConfig, expert_bytes: u64) -> ModuleShape {
    ModuleShape {
        module: Module::Thinker,
        layers: config.sparse_layers().map(|layer| layer as u16).collect(),
        experts: config.num_experts as u16,
        k_trained: config.num_experts_per_tok as u16,
        norm_topk_prob: config.norm_topk_prob,
        expert_bytes,
        smaller: Vec::new(),
    }
}

/// Experts of the modules that the source does not have.
fn absent_experts(
    source: &dyn WeightSource,
    modules: &[ModuleShape],
) -> Result<Vec<ExpertKey>, EngineError> {
    let mut absent = Vec::new();
    for (shape, key) in modules
        .iter()
        .flat_map(|s| s.keys().map(move |key| (s, key)))
    {
        let component = component_of(key.module);
        let layer = usize::from(key.layer);
        let before = absent.len();
        for expert in 0..shape.experts {
            match source.expert(component, layer, usize::from(expert)) {
                Ok(_) => {}
                Err(StoreError::ExpertMissing { .. } | StoreError::ExpertNotStored { .. }) => {
                    absent.push(ExpertKey { layer: key, expert });
                }
                Err(error) => return Err(error.into()),
            }
        }
        if absent.len() - before == usize::from(shape.experts) {
            let component = module_name(key.module);
            return Err(EngineError::NoExpert { component, layer });
        }
    }
    Ok(absent)
}

/// The window as configured, but never below what one token can use in any state. A mind that is held in one of the
/// controller's states has the window that it has when the states change: so its memory is divided alike in every state.
fn window_experts(config: &TextConfig, mind: &MindConfig) -> usize {
    let held = mind.hold.map(|budget| budget.f);
    let factor = match (held, mind.hold_state) {
        (Some(f), None) => f,
        _ => State::ALL
            .iter()
            .map(|state| mind.budgets[*state].f)
            .chain(held)
            .fold(0.0, f64::max),
    };
    let most = (factor * config.num_experts_per_tok as f64).round() as usize;
    usize::from(mind.window_experts)
        .max(most)
        .max(config.num_experts_per_tok)
        .min(config.num_experts.max(1))
}

/// Segments that are remembered stand with the mind and with the loop.
fn remembered_bytes(memory: &MemoryConfig) -> u64 {
    match memory.retention {
        Retention::Off => 0,
        _ => 2 * memory.store_bytes,
    }
}
