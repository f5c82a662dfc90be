//! The first line: what must be the same for the run to be the same.

use sage_actors::config::MindConfig;
use sage_actors::protocol::{ExpertKey, Modality, Tick};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::input::KvPrecision;

/// Version of the format. In version 3 every event of a request names it, requests have all their parts, and answers are spoken.
pub const SCHEMA: u32 = 3;

/// The oldest version that is replayed.
pub const OLDEST_SCHEMA: u32 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "header")]
pub struct TraceHeader {
    /// Version of the format.
    pub schema: u32,
    /// The kernels' order of summation: the same bits wherever this is the same.
    pub kernels: String,
    /// Whose exponential and logarithm.
    pub libm: String,
    /// The model's fingerprint.
    pub fingerprint: String,
    /// The mind as it was resolved from all settings, the model's shape and the limit among them.
    pub mind: MindConfig,
    /// Experts that the store lacked.
    pub absent: Vec<ExpertKey>,
    /// Whether such experts are done without.
    pub degrade: bool,
    /// The limit as it was asked for; one that was chosen from what the machine had, in bytes.
    pub limit: Value,
    /// The process's own memory as it entered the plan, bytes.
    pub base_bytes: u64,
    /// Tokens of context.
    pub context_tokens: usize,
    /// Tokens of a prefill chunk.
    pub chunk_tokens: usize,
    /// How keys and values were kept; earlier versions kept them as they were computed.
    #[serde(default, skip_serializing_if = "KvPrecision::is_exact")]
    pub kv_precision: KvPrecision,
    /// What could be perceived beside words.
    pub senses: Vec<Modality>,
    /// Tokens of one sound or picture at most.
    pub media_tokens: usize,
    /// Bytes of files of sounds and pictures that the plan had room for while they wait; earlier versions had none.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub waiting_media_bytes: u64,
    /// Codes of one spoken answer that memory was planned for; none: nothing spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech_codes: Option<usize>,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// How tokens are chosen; temperature 0 is argmax.
    pub sampling: Value,
    /// The system message of the conversation, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Where sensor readings came from; in either case they are recorded inputs.
    pub sensors: SensorMode,
    /// The router logits are in it: it can be asked again without the model.
    pub logits: bool,
    /// Whether control tokens that are spelled in observations are such. Recordings that do not say so were made when they
    /// always were.
    #[serde(default = "allowed")]
    pub control_tokens: bool,
    /// Arguments of the chat template. Recordings without them were made without any.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub template_args: Map<String, Value>,
    /// What the ledger believed at the start; none: nothing yet. Everything else that is remembered began empty.
    pub ledger: Option<LedgerSnapshot>,
    /// What it was: the scenario's name, or the host's.
    pub about: String,
}

fn allowed() -> bool {
    true
}

fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

/// Where sensor readings came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorMode {
    /// A script.
    Scripted,
    /// The machine, or a host.
    Live,
}

/// A ledger beside the recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSnapshot {
    /// File name, in the recording's folder.
    pub file: String,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// Ticks that the ledger had seen.
    pub tick: Tick,
}
