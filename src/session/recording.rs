//! What a recording begins with: its header, and the ledger beside it.

use crate::input::{Attributed, Fault};
use std::path::Path;

use sage_actors::trust::state::LedgerState;
use serde_json::Value;

use crate::core::sampling::Sampling;
use crate::core::{Engine, EngineError};
use crate::kernels::LIBM;
use crate::ledger;
use crate::store::{StoreError, write_file};
use crate::text::template::TemplateArgs;
use crate::trace::{
    LedgerSnapshot, SCHEMA, SensorMode, Tape, TraceError, TraceHeader, TraceWriter,
};

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Its file.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The ledger beside it.
    #[error("the ledger cannot be kept beside the recording: {0}")]
    Ledger(String),
    /// A file beside it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What else the header of a run's recording says.
pub(super) struct RecordingDetails {
    /// The scenario's name, or the host's.
    pub(super) name: String,
    /// How tokens are chosen.
    pub(super) sampling: Sampling,
    /// Tokens of an answer at most.
    pub(super) answer_tokens: usize,
    /// Whether absent experts are done without.
    pub(super) degrade: bool,
    /// Where readings come from.
    pub(super) sensors: SensorMode,
    /// Whether router logits are recorded.
    pub(super) logits: bool,
    /// The system message of the conversation.
    pub(super) system: Option<String>,
    /// Whether control tokens that are spelled in observations are such.
    pub(super) control_tokens: bool,
    /// Of the chat template, its clock among them.
    pub(super) template_args: TemplateArgs,
}

/// The header of a recording of `engine`, before its first step.
///
/// # Errors
/// When the model's fingerprint cannot be read.
fn header(
    engine: &Engine,
    about: RecordingDetails,
    ledger: Option<LedgerSnapshot>,
) -> Result<TraceHeader, EngineError> {
    let value = |of: serde_json::Result<Value>| of.unwrap_or_default();
    Ok(TraceHeader {
        schema: SCHEMA,
        kernels: engine.spec().to_owned(),
        libm: LIBM.to_owned(),
        fingerprint: engine.source.fingerprint()?,
        mind: engine.mind_config.clone(),
        absent: engine.mind_config.absent.clone(),
        degrade: about.degrade,
        limit: value(serde_json::to_value(engine.limit())),
        base_bytes: engine.plan.floor.base_bytes,
        context_tokens: engine.context_tokens(),
        chunk_tokens: engine.chunk_tokens(),
        kv_precision: engine.kv_precision(),
        senses: engine.towers().senses(),
        speech_codes: engine.speech_codes(),
        media_tokens: engine.media_tokens(),
        waiting_media_bytes: engine.plan.floor.waiting_media_bytes,
        answer_tokens: about.answer_tokens,
        sampling: value(serde_json::to_value(about.sampling)),
        sensors: about.sensors,
        logits: about.logits,
        system: about.system,
        control_tokens: about.control_tokens,
        template_args: about.template_args.into(),
        ledger,
        about: about.name,
    })
}

/// Begins the recording of an engine before its first step; what its ledger believes, if it has one, is kept beside it.
/// A recording that stands there is not touched.
///
/// # Errors
/// When it cannot be written.
pub(super) async fn begin(
    path: &Path,
    engine: &Engine,
    about: RecordingDetails,
    ledger: Option<&ledger::LedgerSummary>,
) -> Result<Tape, RecordingError> {
    let logits = about.logits;
    let snapshot = match ledger {
        None => None,
        Some(ledger) => {
            let state = engine.mind.trust_state().await;
            Some(keep(path, ledger, &state.map_err(EngineError::from)?)?)
        }
    };
    let header = header(engine, about, snapshot)?;
    let writer = TraceWriter::create(path, &header)?;
    Ok(Tape::new(Box::new(writer), logits))
}

/// Writes the ledger beside the recording, named by its contents.
fn keep(
    trace: &Path,
    about: &ledger::LedgerSummary,
    state: &LedgerState,
) -> Result<LedgerSnapshot, RecordingError> {
    let mut text = Vec::new();
    ledger::json::write(&mut text, about, state)
        .map_err(|error| RecordingError::Ledger(error.to_string()))?;
    let hash = blake3::hash(&text).to_hex();
    let name = trace.file_name().unwrap_or_default().to_string_lossy();
    let file = format!("{name}.ledger-{}.json", &hash[..16]);
    write_file(&trace.with_file_name(&file), &text)?;
    Ok(LedgerSnapshot {
        file,
        blake3: hash.to_string(),
        tick: about.tick,
    })
}

impl Attributed for RecordingError {
    fn fault(&self) -> Fault {
        match self {
            Self::Trace(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Engine(error) => error.fault(),
            Self::Ledger(_) => Fault::Run,
        }
    }
}
