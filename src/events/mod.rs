//! What happens in a run, one struct an event: the line for people and the JSON for programs come from the same value.
//!
//! Timings stand only in `summary`; everything else is the same in every run of the same inputs.

mod dream;
pub(crate) mod emit;
mod ended;
mod limit;
mod speech;
mod summary;

use std::path::PathBuf;

use sage_actors::cache::StateCliff;
use sage_actors::protocol::{Cause, Modality, Module, Salience, State, Tick};
use serde::Serialize;

use crate::input::KvPrecision;

pub use dream::DreamEvent;
pub use ended::Ended;
pub use limit::{LimitEvent, LimitPeriod};
pub use speech::{AudioEvent, SpeechEnded, SpokenEvent};
pub use summary::{StateSummary, Summary};

/// Something that happened at a tick.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Tick in which it happened.
    pub tick: Tick,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The closed list of events.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A layer of the model is in memory. Nothing runs yet, so that only who listens by way of `tracing` hears of it.
    Loading {
        /// Layers that are loaded.
        layers_done: usize,
        /// Layers in all.
        layers: usize,
    },
    /// Which mode runs: the first line of every run.
    Mode(RunMode),
    /// An observation arrived.
    Observation(Observed),
    /// An observation could not be taken: it is empty, does not fit, or says what cannot be. The loop goes on.
    Refused {
        /// Number of the observation, by which its answer names it.
        id: u64,
        /// The same, where it is a request.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
        /// As in [`Observed::kind`].
        kind: &'static str,
        /// Where it came from.
        source: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// More came than could be taken: this observation was let go before the loop saw it.
    Shed {
        /// Number of the observation, by which its answer names it.
        id: u64,
        /// The same, where it is a request.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
        /// As in [`Observed::kind`].
        kind: &'static str,
        /// Where it came from.
        source: String,
        /// Urgency that its source declared, in [0, 1].
        urgency: f32,
        /// Why this one.
        reason: ShedReason,
    },
    /// Whoever listens was too slow: so many events are missing here.
    Missed {
        /// How many.
        events: u64,
    },
    /// The state changed.
    State {
        /// State that was left.
        from: State,
        /// State that was entered.
        to: State,
        /// Row of the transition table that applied.
        cause: Cause,
    },
    /// Salience of a step.
    Salience(SalienceEvent),
    /// Budgets that are new in this step.
    Directive {
        /// Module that these budgets are for.
        module: Module,
        /// Experts a token.
        k: u16,
        /// Capacity for experts.
        expert_bytes: u64,
        /// Residency bias.
        lambda: f32,
        /// Salience bias.
        beta: f32,
        /// Bytes that one decoded token may miss; absent: no cap.
        #[serde(skip_serializing_if = "Option::is_none")]
        miss_bytes_per_token: Option<u64>,
    },
    /// A tower's share of memory changed.
    Tower {
        /// Whose.
        modality: Modality,
        /// Bytes of its weights that it may keep; 0: it sleeps.
        weight_bytes: u64,
        /// Drive of its modality.
        drive: f32,
    },
    /// A tower ran.
    Perceived(PerceivedEvent),
    /// What a step asked of the expert cache.
    Cache(CacheEvent),
    /// Experts that the router wanted and the budget did not admit.
    Denied {
        /// For whose tokens.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
        /// Router mass, summed over layers and tokens of the step.
        mass: f32,
        /// How many choices.
        experts: usize,
    },
    /// Another memory limit is in force.
    Limit(LimitEvent),
    /// The context was full: the oldest turns of the conversation are no longer in it.
    Forgotten {
        /// Of the turn that there was no room for.
        request: u64,
        /// Turns that went.
        turns: usize,
        /// Turns that are left.
        left: usize,
    },
    /// The context was full: segments of the conversation are remembered and no longer in it.
    Condensed {
        /// Of what there was no room for.
        request: u64,
        /// Segments that left the context.
        segments: usize,
        /// Segments that are left in it.
        left: usize,
        /// Tokens of the prompt that is left, the new ones included.
        tokens: usize,
    },
    /// A question brought back segments that resemble it.
    Recalled {
        /// The question.
        request: u64,
        /// How many.
        segments: usize,
    },
    /// A part of a text was read.
    Read {
        /// Of its observation.
        id: u64,
        /// Number of the request that it belongs to.
        request: u64,
        /// Whose text.
        source: String,
        /// Tokens read in this step.
        tokens: usize,
        /// Mean loss of the text so far, nats a token.
        mean_loss: Option<f64>,
    },
    /// A prompt or a text that takes more than one step is read so far.
    Progress {
        /// Number of the request that it belongs to.
        request: u64,
        /// Tokens that are read.
        read_tokens: usize,
        /// Tokens in all.
        prompt_tokens: usize,
    },
    /// A piece of a tower begins: a sound or a picture is being perceived.
    Perceiving {
        /// Number of the request that it belongs to.
        request: u64,
        /// Pieces that the sound or picture is through.
        pieces_done: usize,
        /// Pieces of the tower.
        pieces: usize,
    },
    /// A word of an answer.
    Token {
        /// Of the request that it answers.
        request: u64,
        /// What can be shown of it now.
        text: String,
    },
    /// An answer is complete.
    Answer {
        /// Of the observation that it answers.
        id: u64,
        /// Number of the request that it belongs to.
        request: u64,
        /// What was asked.
        question: String,
        /// What was answered.
        text: String,
        /// Tokens of the answer.
        tokens: usize,
        /// Why it ended.
        ended: Ended,
    },
    /// A piece of an answer that is spoken.
    Audio(AudioEvent),
    /// An answer is spoken to its end.
    Spoken(SpokenEvent),
    /// Something that the scenario expects.
    Expectation {
        /// In words.
        text: String,
        /// Whether it came true.
        met: bool,
        /// Where it is about an answer: that one.
        #[serde(skip_serializing_if = "Option::is_none")]
        answer: Option<ExpectedAnswer>,
    },
    /// Which experts worked on whose tokens in the whole run; near its end.
    Experts(ExpertsEvent),
    /// What Rest and Dream did since the last such event.
    Dream(DreamEvent),
    /// The end.
    Summary(Summary),
}

impl EventKind {
    /// The request that it belongs to; none where it belongs to the whole run.
    pub fn request(&self) -> Option<u64> {
        match self {
            Self::Observation(observed) => observed.request,
            Self::Refused { request, .. } | Self::Shed { request, .. } => *request,
            Self::Perceived(perceived) => Some(perceived.request),
            Self::Cache(cache) => cache.request,
            Self::Denied { request, .. } => *request,
            Self::Forgotten { request, .. }
            | Self::Condensed { request, .. }
            | Self::Recalled { request, .. }
            | Self::Read { request, .. }
            | Self::Progress { request, .. }
            | Self::Perceiving { request, .. }
            | Self::Token { request, .. }
            | Self::Answer { request, .. } => Some(*request),
            Self::Audio(audio) => Some(audio.request),
            Self::Spoken(spoken) => Some(spoken.request),
            Self::Expectation { answer, .. } => answer.as_ref().map(|answer| answer.id),
            Self::Mode(_)
            | Self::Loading { .. }
            | Self::Missed { .. }
            | Self::State { .. }
            | Self::Salience(_)
            | Self::Directive { .. }
            | Self::Tower { .. }
            | Self::Limit(_)
            | Self::Experts(_)
            | Self::Dream(_)
            | Self::Summary(_) => None,
        }
    }
}

/// See [`EventKind::Shed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShedReason {
    /// As many wait as may, and it was the least of them.
    Full,
    /// As many bytes wait as may, and it was the least of them.
    Bytes,
    /// It waited, and something that matters more took its place.
    Displaced,
    /// A newer fact of the same kind took its place.
    Superseded,
    /// The loop ended before it was taken, or before it was read.
    Shutdown,
    /// Whoever asked no longer wanted it.
    Cancelled,
}

/// See [`EventKind::Mode`].
#[derive(Clone, Debug, Serialize)]
pub struct RunMode {
    /// In one line.
    pub text: String,
    /// `exact` or `priced`.
    pub mode: &'static str,
    /// Routing policy.
    pub routing: String,
    /// Eviction policy.
    pub eviction: String,
    /// The limit, if there is one.
    pub limit_bytes: Option<u64>,
    /// Whether nobody asked for it, and it was chosen from what the machine has.
    pub limit_chosen: bool,
    /// Why it is what it is, or why there is none.
    pub limit_reason: String,
    /// What must be in memory.
    pub floor_bytes: u64,
    /// What is left for experts.
    pub pool_bytes: u64,
    /// How keys and values are kept.
    pub kv_precision: KvPrecision,
    /// Experts that the store lacks and the run does without.
    pub absent_experts: usize,
    /// States whose pool holds fewer experts than one token uses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub below_cycle: Vec<StateCliff>,
    /// The trust ledger that outlives the run, where one is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "crate::input::maybe_path_as_text")]
    pub ledger: Option<PathBuf>,
    /// The model's fingerprint.
    pub fingerprint: String,
}

/// See [`EventKind::Observation`].
#[derive(Clone, Debug, Serialize)]
pub struct Observed {
    /// Its number, in order of arrival; what comes of it names it.
    pub id: u64,
    /// The same, where it is a request: something to be read or answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// `text`, `question`, `alarm`, `sound`, `picture`, `goal`, `sensor` or `feedback`.
    pub kind: &'static str,
    /// Where it came from.
    pub source: String,
    /// Urgency that its source declared, in [0, 1].
    pub urgency: f32,
    /// The text, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The number, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Of a sensor: what is left of its reserve, in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// Tokens that it is read as.
    pub tokens: usize,
    /// Sounds and pictures of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub perceived: Vec<ObservedMedium>,
}

/// A sound or a picture of an observation.
#[derive(Clone, Debug, Serialize)]
pub struct ObservedMedium {
    /// `sound` or `picture`.
    pub kind: &'static str,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// Tokens that stand for it.
    pub tokens: usize,
    /// Loudness in dB of full scale, or mean brightness in [0, 1].
    pub level: f64,
    /// How long a sound is, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Width and height of a picture as it came, pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[usize; 2]>,
}

/// See [`EventKind::Perceived`].
#[derive(Clone, Debug, Serialize)]
pub struct PerceivedEvent {
    /// Of its observation.
    pub id: u64,
    /// Number of the request that it belongs to.
    pub request: u64,
    /// Where it came from.
    pub source: String,
    /// By which sense.
    pub modality: Modality,
    /// Tokens of it, markers included.
    pub tokens: usize,
    /// Pieces of the tower that were in memory.
    pub pieces_kept: u64,
    /// Pieces that were read.
    pub pieces_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Bytes of the tower's weights that are in memory now.
    pub resident_bytes: u64,
    /// Bytes that it may keep.
    pub weight_bytes: u64,
}

/// See [`EventKind::Salience`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SalienceEvent {
    /// Surprise.
    pub surprise: f32,
    /// Novelty.
    pub novelty: f32,
    /// Arousal.
    pub arousal: f32,
    /// Reward.
    pub reward: f32,
    /// Conflict.
    pub conflict: f32,
    /// What moves states.
    pub drive: f32,
    /// Energy, 0 to 100.
    pub atp: f64,
    /// By modality; absent while only words were ever perceived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senses: Option<SensesEvent>,
}

/// Salience of one modality in a step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SensesEvent {
    /// Of words.
    pub text: Salience,
    /// Of sounds, once there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<Salience>,
    /// Of pictures, once there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Salience>,
}

/// See [`EventKind::Cache`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheEvent {
    /// For whose tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub bytes_read: u64,
    /// Bytes of resident experts after the step.
    pub resident_bytes: u64,
    /// Resident experts after the step.
    pub resident_experts: u64,
    /// Capacity for experts.
    pub capacity_bytes: u64,
}

/// See [`EventKind::Expectation`].
#[derive(Clone, Debug, Serialize)]
pub struct ExpectedAnswer {
    /// Of the observation that was answered.
    pub id: u64,
    /// What the answer was to be.
    pub expected: String,
}

/// See [`EventKind::Experts`]. At most 17 domains, so a line of JSON has at most 17 numbers an expert.
#[derive(Clone, Debug, Serialize)]
pub struct ExpertsEvent {
    /// The sparse layers, by their index in the checkpoint.
    pub layers: Vec<u16>,
    /// Experts of a layer.
    pub experts: usize,
    /// Whose tokens, in order of their first; what comes after the sixteenth is counted together.
    pub domains: Vec<DomainUse>,
}

/// The experts that worked for one source of observations.
#[derive(Clone, Debug, Serialize)]
pub struct DomainUse {
    /// `text`, `sound`, `picture`, `question`, `alarm`; `others` for all that have no domain of their own.
    pub kind: &'static str,
    /// Where they came from.
    pub source: String,
    /// Tokens read and generated for it.
    pub tokens: u64,
    /// Tokens that each expert worked on, `[layers][experts]`.
    pub worked: Vec<Vec<u32>>,
}
