//! Recorded runs again: with the model, every decision and token; or the mind alone.

mod comparison;
mod difference;
mod full;
mod policy;
mod recording;

use sage_actors::MindError;
use sage_actors::protocol::{ExpertKey, ExpertSource, Outcome, SlotId, Tick};
use sage_actors::trust::state::LedgerState;
use sage_actors::trust::store::{LedgerStore, StoreFailure};
use serde::Serialize;
use serde_json::Value;

use crate::core::sampling::Sampling;
use crate::core::{Engine, EngineError, Limit};
use crate::ledger::LedgerError;
use crate::store::StoreError;
use crate::text::template::TemplateArgs;
use crate::trace::{Header, LedgerSnapshot, SCHEMA, SensorMode, TraceError};

pub use difference::Difference;
pub use full::{Way, verify, verify_with};
pub use policy::ask_again;
pub use recording::begin;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The mind.
    #[error(transparent)]
    Mind(#[from] MindError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger beside it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It does not hold what is needed.
    #[error("{0}")]
    Lacks(String),
}

/// What came of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether everything recorded came again, as far as the recording goes.
    pub equal: bool,
    /// Lines that were compared, or passed over because no mind answers them.
    pub lines: u64,
    /// Ticks that were replayed.
    pub ticks: Tick,
    /// The recording ends where the run ended; else it was cut.
    pub whole: bool,
    /// The chain's digest after the last line that was read.
    pub digest: String,
    /// The first line that came out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// What else the header of a run's recording says.
pub struct About {
    /// The scenario's name, or the host's.
    pub name: String,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Whether absent experts are done without.
    pub degrade: bool,
    /// Where readings come from.
    pub sensors: SensorMode,
    /// Whether router logits are recorded.
    pub logits: bool,
    /// Whether control tokens that are spelled in observations are such.
    pub control_tokens: bool,
    /// Of the chat template, its clock among them.
    pub template_args: TemplateArgs,
}

/// The header of a recording of `engine`, before its first step.
///
/// # Errors
/// When the model's fingerprint cannot be read.
fn header(
    engine: &Engine,
    about: About,
    ledger: Option<LedgerSnapshot>,
) -> Result<Header, EngineError> {
    let value = |of: serde_json::Result<Value>| of.unwrap_or_default();
    Ok(Header {
        schema: SCHEMA,
        kernels: crate::kernels::SPEC.to_owned(),
        libm: crate::kernels::LIBM.to_owned(),
        fingerprint: engine.source.fingerprint()?,
        mind: engine.mind_config.clone(),
        absent: engine.mind_config.absent.clone(),
        degrade: about.degrade,
        limit: value(serde_json::to_value(engine.limit)),
        base_bytes: engine.plan.floor.base_bytes,
        context_tokens: engine.context_tokens,
        chunk_tokens: engine.chunk_tokens,
        senses: engine.towers.senses(),
        media_tokens: engine.media_tokens,
        waiting_media_bytes: engine.plan.floor.waiting_media_bytes,
        answer_tokens: about.answer_tokens,
        sampling: value(serde_json::to_value(about.sampling)),
        sensors: about.sensors,
        logits: about.logits,
        control_tokens: about.control_tokens,
        template_args: about.template_args.into(),
        ledger,
        about: about.name,
    })
}

/// The limit and the sampling of a header.
///
/// # Errors
/// When it says something else.
fn asked(header: &Header) -> Result<(Limit, Sampling), ReplayError> {
    let lacks = |what: &str, error: serde_json::Error| {
        ReplayError::Lacks(format!("the recording's header: {what}: {error}"))
    };
    let limit = serde_json::from_value(header.limit.clone());
    let sampling = serde_json::from_value(header.sampling.clone());
    Ok((
        limit.map_err(|error| lacks("limit", error))?,
        sampling.map_err(|error| lacks("sampling", error))?,
    ))
}

/// A mind that is asked again needs no weights.
struct NoWeights;

impl ExpertSource for NoWeights {
    fn admit(&self, _: ExpertKey, _: SlotId, _: bool) {}
    fn promote(&self, _: SlotId) {}
    fn evict(&self, _: SlotId) {}
    fn settle(&self) {}
}

/// A ledger's store for a run that repeats another: what it learns was learned before.
struct KeepsNothing;

impl LedgerStore for KeepsNothing {
    fn log(&mut self, _: &Outcome) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn commit(&mut self, _: &LedgerState) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn close(&mut self, _: &LedgerState) -> Result<(), StoreFailure> {
        Ok(())
    }
}
