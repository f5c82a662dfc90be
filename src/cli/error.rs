//! How a command ends.

use std::io;
use std::process::ExitCode;

use crate::input::{Attributed, Fault};
use crate::media::wav::WavError;

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Done; exit code 0.
    Done,
    /// It ran and the answer is no: something is missing, differs or is damaged; exit code 1.
    No,
}

impl From<CommandOutcome> for ExitCode {
    fn from(outcome: CommandOutcome) -> Self {
        match outcome {
            CommandOutcome::Done => Self::SUCCESS,
            CommandOutcome::No => Self::from(1),
        }
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The request is wrong: usage, a bad file, a limit below the floor; exit code 2.
    #[error("{0}")]
    Request(anyhow::Error),
    /// The run failed; exit code 3.
    #[error("{0}")]
    Failed(anyhow::Error),
    /// Whoever read the output has had enough, which is no failure; exit code 0.
    #[error("the reader of the output went away")]
    Closed,
}

impl CliError {
    /// A wrong request, in words.
    pub fn request(message: impl std::fmt::Display) -> Self {
        Self::Request(anyhow::anyhow!("{message}"))
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Request(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(3),
            Self::Closed => ExitCode::SUCCESS,
        }
    }
}

/// Errors of writing output.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(error.into())
        }
    }
}

impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Writing a sound failed.
impl From<WavError> for CliError {
    fn from(error: WavError) -> Self {
        Self::Failed(error.into())
    }
}

/// Every other error says itself whose doing it is.
impl<E: Attributed + Send + Sync + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        match error.fault() {
            Fault::Request => Self::Request(error.into()),
            Fault::Run => Self::Failed(error.into()),
        }
    }
}
