//! What can go wrong, for the host.

use std::sync::Arc;

use super::open::OpenError;
use super::recording::RecordingError;
use crate::core::EngineError;
use crate::events::ShedReason;
use crate::input::{Attributed, Fault, SizeError};
use crate::ledger::LedgerError;
use crate::settings::SettingsError;

/// Why a loop cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No model was named.
    #[error("no model is named: name a checkpoint or a store, for example .model(\"models/tiny\")")]
    NoModel,
    /// A value that cannot be.
    #[error("{name} is {value}; expected {expected}")]
    Value {
        /// The builder's method.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A limit that cannot be understood.
    #[error("limit: {0}")]
    Limit(#[from] SizeError),
    /// Two things were asked for that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The settings.
    #[error("{}", in_code(.0))]
    Settings(#[from] SettingsError),
    /// The trust ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The model, the memory or the mind.
    #[error("{}", in_code(.0))]
    Engine(#[from] EngineError),
    /// The system.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
    /// The loop's thread is gone: this is a fault of the program, or of a sensor or effector that panicked.
    #[error("the loop's thread ended before the model was open")]
    Gone,
}

/// The builder's methods bear the names of the command line's options.
fn in_code(error: &impl std::fmt::Display) -> String {
    let said = error.to_string();
    let said = said.replace("--limit ", ".limit ");
    said.replace("--set ", ".set ")
}

/// Why an observation was not taken on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// It says what cannot be; it was not submitted.
    #[error("{0}")]
    Unsound(String),
    /// More comes than can be taken, and everything that waits matters more. It is counted.
    #[error("observation {id} is shed ({}): more comes than the loop can take; observe less, or widen {}", match .reason { ShedReason::Bytes => "with it more bytes would wait than may", _ => "as many wait as may" }, match .reason { ShedReason::Bytes => ".inbox_bytes", _ => ".inbox" })]
    Shed {
        /// Its number.
        id: u64,
        /// Which bound was met.
        reason: ShedReason,
    },
    /// The loop takes no more.
    #[error("the loop has ended, or is being shut down: it takes no more observations")]
    Ended,
}

/// Why the loop ended, or does not tick.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SageError {
    /// An expert could not be read, an actor failed, or what was learned could not be kept.
    #[error(transparent)]
    Engine(Arc<EngineError>),
    /// It was shut down.
    #[error("the loop was shut down")]
    Ended,
    /// Its thread is gone: this is a fault of the program, or of a sensor or effector that panicked.
    #[error("the loop's thread ended without a word: did a sensor or an effector panic?")]
    Gone,
}

impl From<EngineError> for SageError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Arc::new(error))
    }
}

impl From<OpenError> for BuildError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Engine(error) => Self::Engine(error),
            OpenError::Ledger(error) => Self::Ledger(error),
            OpenError::Recording(error) => Self::Recording(error),
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// It was not taken on.
    #[error(transparent)]
    Refused(#[from] ObserveError),
    /// It was taken on, and will not be answered.
    #[error("question {id} is not answered: {why}")]
    Unanswered {
        /// Its number.
        id: u64,
        /// Why not.
        why: String,
    },
    /// The loop ended before.
    #[error("the loop ended before question {id} was answered")]
    Ended {
        /// Its number.
        id: u64,
    },
    /// It asks for no answer.
    #[error(
        "this observation asks for no answer: expected a question, a turn, an alarm, or a sound with a question"
    )]
    NotAQuestion,
}

impl Attributed for BuildError {
    fn fault(&self) -> Fault {
        match self {
            Self::Settings(error) => error.fault(),
            Self::Ledger(error) => error.fault(),
            Self::Recording(error) => error.fault(),
            Self::Engine(error) => error.fault(),
            Self::NoModel | Self::Value { .. } | Self::Limit(_) | Self::Contradiction(_) => {
                Fault::Request
            }
            Self::System { .. } | Self::Gone => Fault::Run,
        }
    }
}
