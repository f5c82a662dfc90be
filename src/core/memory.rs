//! Where the process's memory goes, and what a limit leaves for experts.
//!
//! A limit covers the whole process: its resident set, measured from outside. The floor is everything that must
//! be there; the pool is the rest, and the mind's states take shares of the pool.

use serde::Serialize;

use super::episodes;
use super::limit_choice::LimitChoice;
use super::ports::SpeechDemand;
use super::shadow::sizes as shadow;
use crate::checkpoint::config::TextConfig;
use crate::input::{KvPrecision, Limit, counted, two_sizes};

/// The program's own pages that are mapped from its file, what the allocator keeps, thread stacks, rounding. How many pages of the
/// file are counted depends on what the system happens to cache, so they are not measured: 13 to 18 MiB. Beside them, measured, a
/// process has 1.5 MiB before it opens a model without a tokenizer, and 5 to 7.5 with the one in this repository: with this
/// both are at least 1 MiB from the edge of a step.
const PROGRAM_BYTES: u64 = 31 << 19;

/// A program with more of its own pages than this in memory, a host's, is counted as it is.
const LARGE_PROGRAM_BYTES: u64 = 24 << 20;

/// The measured base differs a little from run to run, and everything that is decided depends on the pool: so base and
/// slack are rounded up to a step that is wide enough to give the same pool every time.
const BASE_STEP_BYTES: u64 = 8 << 20;

/// A limit below what must be there.
#[derive(Debug, thiserror::Error)]
#[error("{}", refusal(self))]
pub struct BelowFloor {
    /// Limit that was asked for.
    pub limit_bytes: u64,
    /// Smallest limit with which the model runs.
    pub floor_bytes: u64,
    /// Declared context.
    pub context_tokens: usize,
    /// How keys and values are kept in it; none: nobody has decided.
    pub kv_precision: Option<KvPrecision>,
    /// Parts of the floor, for people.
    pub breakdown: String,
    /// From what the limit was chosen, where nobody asked for it.
    pub chosen: Option<LimitChoice>,
}

fn refusal(below: &BelowFloor) -> String {
    let [limit, floor] = two_sizes(below.limit_bytes, below.floor_bytes, mib);
    let kept = below.kv_precision.map_or(String::new(), |precision| {
        format!(", keys and values in {precision}")
    });
    format!(
        "a limit of {limit}{} is below the floor of {floor} for this model and a context of {}{kept}\n  {}\n  hint: {}",
        reason(below.chosen.as_ref()),
        counted(below.context_tokens as u64, "token"),
        below.breakdown,
        hint(below)
    )
}

fn reason(chosen: Option<&LimitChoice>) -> String {
    chosen.map_or(String::new(), |choice| {
        format!(", chosen because {choice},")
    })
}

fn hint(below: &BelowFloor) -> String {
    let would_do = mib_argument(below.floor_bytes);
    match &below.chosen {
        None => format!("--limit {would_do} would do"),
        Some(choice) if below.floor_bytes <= choice.bound.total_bytes => format!(
            "--limit {would_do} would do, if what else runs gives back so much; a shorter context takes less"
        ),
        Some(_) => "this model needs more memory than there is: a shorter context takes less; `none` as the limit lets it try".to_owned(),
    }
}

/// The parts of the floor, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Floor {
    /// The process before any weight is read: its program, and what was measured beside it, in steps of 8 MiB.
    pub base_bytes: u64,
    /// Always-resident weights.
    pub resident_weights_bytes: u64,
    /// Keys and values of the declared context.
    pub kv_bytes: u64,
    /// What the mind remembers: episodes, trust, and the routers' views of it.
    pub mind_bytes: u64,
    /// Activations of a prefill chunk.
    pub workspace_bytes: u64,
    /// Buffers of the reading threads.
    pub read_buffer_bytes: u64,
    /// One lease window of experts.
    pub window_bytes: u64,
    /// Shadow runs and the episodes that they score; nothing where the mind is held in one state.
    pub dream_bytes: u64,
    /// What hearing and seeing take beside a share of the pool; nothing where nothing is to be perceived.
    pub perception_bytes: u64,
    /// Files of sounds and pictures that may wait to be perceived; nothing where all of them were read before the plan.
    #[serde(skip_serializing_if = "is_nothing")]
    pub waiting_media_bytes: u64,
    /// What speaking takes beside a share of the pool, a lease window of the talker's experts included; nothing where nothing
    /// speaks.
    #[serde(skip_serializing_if = "is_nothing")]
    pub speech_bytes: u64,
}

fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

impl Floor {
    pub fn total(&self) -> u64 {
        self.base_bytes
            + self.resident_weights_bytes
            + self.kv_bytes
            + self.mind_bytes
            + self.workspace_bytes
            + self.read_buffer_bytes
            + self.window_bytes
            + self.dream_bytes
            + self.perception_bytes
            + self.waiting_media_bytes
            + self.speech_bytes
    }

    /// Every part in words.
    pub fn breakdown(&self) -> String {
        let words = format!(
            "process {}, resident weights {}, key-value cache {}, mind {}, activations {}, read buffers {}, one lease window {}, dreams {}",
            mib(self.base_bytes),
            mib(self.resident_weights_bytes),
            mib(self.kv_bytes),
            mib(self.mind_bytes),
            mib(self.workspace_bytes),
            mib(self.read_buffer_bytes),
            mib(self.window_bytes),
            mib(self.dream_bytes)
        );
        let more = [
            ("hearing and seeing", self.perception_bytes),
            ("files that wait", self.waiting_media_bytes),
            ("speaking", self.speech_bytes),
        ];
        let more = more.iter().filter(|(_, bytes)| *bytes > 0);
        more.fold(words, |words, (what, bytes)| {
            format!("{words}, {what} {}", mib(*bytes))
        })
    }
}

/// How a limit was divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The limit; none when there is none.
    pub limit_bytes: Option<u64>,
    /// What must be there.
    pub floor: Floor,
    /// What is left for experts beyond one lease window.
    pub pool_bytes: u64,
    /// All routed experts of the model.
    pub all_experts_bytes: u64,
    /// All weights of the towers that share in the pool.
    pub towers_bytes: u64,
    /// What one expert takes in memory; the largest where they differ.
    pub slot_bytes: u64,
    /// Tokens of context that the floor has room for.
    pub context_tokens: usize,
}

/// Sizes that the plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Text configuration.
    pub config: &'a TextConfig,
    /// Bytes of all routed experts in memory.
    pub experts_bytes: u64,
    /// Bytes that one expert takes in memory, whole pages; the largest where they differ.
    pub slot_bytes: u64,
    /// Tokens of context.
    pub context_tokens: usize,
    /// Keys and values of the whole context.
    pub kv_bytes: u64,
    /// Activations of a prefill chunk, at their peak.
    pub workspace_bytes: u64,
    /// Experts of a lease window.
    pub window_experts: usize,
    /// Records that reading holds beside the pool.
    pub read_records: u64,
    /// What experts take in memory beyond their bytes, since pages are whole.
    pub unused_bytes: u64,
    /// Always-resident weights as loaded.
    pub resident_weights_bytes: u64,
    /// What the process has in memory before loading, beside its own program: [`own_memory_bytes`].
    pub base_bytes: u64,
    /// Whether the mind may rest and dream.
    pub dreams: bool,
    /// What hearing and seeing take.
    pub perception_bytes: u64,
    /// Files of sounds and pictures that may wait.
    pub waiting_media_bytes: u64,
    /// Segments of conversations that are remembered: the mind's, and their texts.
    pub remembered_bytes: u64,
    /// Senses that the mind remembers by.
    pub senses: usize,
    /// All weights of the towers.
    pub towers_bytes: u64,
    /// What speaking takes; none where nothing speaks.
    pub speech: Option<SpeechDemand>,
}

impl MemoryPlan {
    /// Divides `limit`; the process's own memory is what was measured, rounded up, or else what a recorded run had.
    ///
    /// # Errors
    /// [`BelowFloor`] with the number that would do.
    pub fn new(
        limit: Limit,
        demand: &Demand<'_>,
        recorded_base_bytes: Option<u64>,
    ) -> Result<Self, BelowFloor> {
        let config = demand.config;
        let sparse = (0..config.num_hidden_layers)
            .filter(|layer| config.is_sparse(*layer))
            .count();
        let of_talker = demand.speech.map_or(0, |speech| speech.experts_bytes);
        let all_experts_bytes = demand.experts_bytes + of_talker;
        let largest_slot = demand
            .speech
            .map_or(0, |speech| speech.slot_bytes)
            .max(demand.slot_bytes);
        let floor = Floor {
            base_bytes: recorded_base_bytes.unwrap_or_else(|| {
                (demand.base_bytes + PROGRAM_BYTES).next_multiple_of(BASE_STEP_BYTES)
            }),
            resident_weights_bytes: demand.resident_weights_bytes,
            kv_bytes: demand.kv_bytes,
            mind_bytes: mind_bytes(config, sparse, demand.senses) + demand.remembered_bytes,
            workspace_bytes: demand.workspace_bytes,
            // Beside the records a bounce buffer of a matrix, and what is unused of pages.
            read_buffer_bytes: demand.read_records * largest_slot
                + largest_slot / 3
                + demand.unused_bytes,
            window_bytes: demand.window_experts as u64 * demand.slot_bytes,
            dream_bytes: if demand.dreams {
                shadow::bytes(config, demand.slot_bytes) + episodes::bytes(config)
            } else {
                0
            },
            perception_bytes: demand.perception_bytes,
            waiting_media_bytes: demand.waiting_media_bytes,
            speech_bytes: demand.speech.map_or(0, |speech| {
                let window = demand.window_experts as u64 * speech.slot_bytes;
                speech.bytes + window + records_bytes(speech.experts)
            }),
        };
        let plan = Self {
            limit_bytes: None,
            floor,
            pool_bytes: 0,
            all_experts_bytes,
            towers_bytes: demand.towers_bytes,
            slot_bytes: demand.slot_bytes,
            context_tokens: demand.context_tokens,
        };
        plan.with_limit(limit)
    }

    /// The same floor under another limit.
    ///
    /// # Errors
    /// [`BelowFloor`] with the number that would do.
    pub fn with_limit(&self, limit: Limit) -> Result<Self, BelowFloor> {
        let plan = self.under(limit);
        match plan.limit_bytes {
            Some(limit_bytes) if plan.shortfall_bytes() > 0 => Err(BelowFloor {
                limit_bytes,
                floor_bytes: plan.floor.total(),
                context_tokens: plan.context_tokens,
                kv_precision: None,
                breakdown: plan.floor.breakdown(),
                chosen: None,
            }),
            _ => Ok(plan),
        }
    }

    /// As [`Self::with_limit`], for a limit that nobody asks whether it will do: below the floor the pool is empty, and
    /// [`Self::shortfall_bytes`] says what is missing.
    pub fn under(&self, limit: Limit) -> Self {
        let floor = self.floor.total();
        let limit_bytes = match limit {
            Limit::None => None,
            Limit::Bytes(bytes) => Some(bytes),
            Limit::Percent(percent) => {
                Some((self.everything_bytes() as f64 * percent / 100.0) as u64)
            }
            Limit::Slots(slots) => {
                Some(floor.saturating_add(slots.saturating_mul(self.slot_bytes)))
            }
        };
        // Without a limit every state's share, however small, must have room for every expert.
        // A talker shares with a thinker that may be driven five times as much, or as little.
        let shares = if self.floor.speech_bytes > 0 { 48 } else { 8 };
        let pool_bytes = match limit_bytes {
            None => self.all_experts_bytes * shares + self.towers_bytes,
            Some(limit_bytes) => limit_bytes.saturating_sub(floor),
        };
        Self {
            limit_bytes,
            pool_bytes,
            ..*self
        }
    }

    /// What the process takes with everything in memory: the floor, all experts, all towers.
    pub fn everything_bytes(&self) -> u64 {
        self.floor.total() + self.all_experts_bytes + self.towers_bytes
    }

    /// What the limit lacks of the floor: in use, and not to be given back.
    pub fn shortfall_bytes(&self) -> u64 {
        self.limit_bytes
            .map_or(0, |limit| self.floor.total().saturating_sub(limit))
    }
}

/// The mind's rings of 512 episodes (a hidden state each; one of words, one a sense), its records of every expert, and the
/// ledger's database with its cache.
fn mind_bytes(config: &TextConfig, sparse_layers: usize, senses: usize) -> u64 {
    const EPISODES: usize = 512;
    const DATABASE_BYTES: usize = 2 << 20;
    let experts = sparse_layers * config.num_experts;
    let episodes = (1 + senses) * EPISODES * config.hidden_size * size_of::<f32>();
    (episodes + DATABASE_BYTES) as u64 + records_bytes(experts)
}

/// What is believed of experts, with the routers' views of it, and what keeping the trust ledger takes: the state that an
/// epoch is made of. It is reserved whether a ledger is in use or not, so that a run decides the same with and without one.
fn records_bytes(experts: usize) -> u64 {
    const RECORD_BYTES: usize = 296;
    const STATE_BYTES: usize = 280;
    (experts * (RECORD_BYTES + STATE_BYTES)) as u64
}

/// `123.4 MiB`.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The least whole number of MiB, as an argument.
pub(super) fn mib_argument(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

/// Resident set and its peak of this process, bytes; zeros where the system does not say.
pub fn resident_set() -> (u64, u64) {
    let field = status();
    (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
}

/// Page faults of this process so far: those that needed no read, and those that did; 0 where the system does not say.
#[cfg(feature = "cli")]
pub fn page_faults() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the program's name, which may hold anything: state, then numbers of which the 7th and the 9th are these.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    };
    (field(7), field(9))
}

/// What this process has in memory beside the pages of its own program, bytes; 0 where the system does not say.
pub fn own_memory_bytes() -> u64 {
    let field = status();
    let parts = (field("RssAnon:"), field("RssFile:"), field("RssShmem:"));
    let (Some(anonymous), Some(file), Some(shared)) = parts else {
        return field("VmRSS:").unwrap_or(0);
    };
    let program = Some(file).filter(|file| *file > LARGE_PROGRAM_BYTES);
    anonymous + shared + program.unwrap_or(0)
}

/// Fields of the system's account of this process, bytes.
fn status() -> impl Fn(&str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    move |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib = line.trim().trim_end_matches(" kB").trim();
        Some(kib.parse::<u64>().ok()? * 1024)
    }
}
