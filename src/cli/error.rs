//! How a command ends.

use std::io;
use std::process::ExitCode;

use crate::checkpoint::{CheckpointError, HeaderError};
use crate::store::StoreError;

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; exit code 0.
    Done,
    /// It ran and the answer is no: something is missing, differs or is damaged; exit code 1.
    No,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::No => Self::from(1),
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

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        // A path that is not there was asked for; other trouble with files happened to us.
        let failed = match &error {
            StoreError::Io { source, .. }
            | StoreError::Checkpoint(
                CheckpointError::Io { source, .. }
                | CheckpointError::Header(HeaderError::Io { source, .. }),
            ) => source.kind() != io::ErrorKind::NotFound,
            StoreError::NoSpace { .. } | StoreError::Busy { .. } | StoreError::Corrupt { .. } => {
                true
            }
            _ => false,
        };
        if failed {
            Self::Failed(error.into())
        } else {
            Self::Request(error.into())
        }
    }
}

impl From<CheckpointError> for CliError {
    fn from(error: CheckpointError) -> Self {
        StoreError::from(error).into()
    }
}
