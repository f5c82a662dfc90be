//! Recorded runs again: with the model, every decision and token; or the mind alone.

mod comparison;
mod difference;
mod files;
mod fork;
mod full;
mod policy;

use sage_actors::MindError;
use sage_actors::protocol::{ExpertKey, ExpertSource, Outcome, SlotId, Tick};
use sage_actors::trust::state::LedgerState;
use sage_actors::trust::store::{LedgerStore, StoreFailure};
use serde::Serialize;

use crate::core::EngineError;
use crate::core::sampling::Sampling;
use crate::input::{Attributed, Fault, Limit};
use crate::ledger::LedgerError;
use crate::session::OpenError;
use crate::store::StoreError;
use crate::trace::{TraceError, TraceHeader};

pub use difference::ReplayDifference;
pub use fork::{DroppedInput, ForkAnswer, ForkChange, ForkOutcome, ForkReport, ForkState, fork};
pub use full::{Way, verify, verify_with};
pub use policy::ask_again;

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
    /// The session.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not hold what is needed.
    #[error("{0}")]
    Lacks(String),
}

/// What came of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayVerdict {
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
    pub difference: Option<ReplayDifference>,
}

/// The limit and the sampling of a header.
///
/// # Errors
/// When it says something else.
fn asked(header: &TraceHeader) -> Result<(Limit, Sampling), ReplayError> {
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

impl Attributed for ReplayError {
    fn fault(&self) -> Fault {
        match self {
            Self::Trace(error) => error.fault(),
            Self::Engine(error) => error.fault(),
            Self::Mind(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Ledger(error) => error.fault(),
            Self::Open(error) => error.fault(),
            Self::Lacks(_) => Fault::Request,
        }
    }
}
