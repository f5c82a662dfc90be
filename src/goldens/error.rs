//! Why goldens cannot be compared.

use std::path::PathBuf;

use crate::core::EngineError;
use crate::input::{Attributed, Fault};

/// Why goldens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// A file or folder cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to compare with.
    #[error(
        "{path} holds no golden (`<case>.safetensors` beside `<case>.json`): give a folder such as CHECKPOINT/goldens"
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A tensor is not what the format says.
    #[error("golden {case}: tensor {tensor}: {reason}")]
    Tensor {
        /// The case.
        case: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why verification stopped.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The goldens.
    #[error(transparent)]
    Case(#[from] CaseError),
}

impl Attributed for CaseError {
    fn fault(&self) -> Fault {
        match self {
            Self::File { .. } | Self::Empty { .. } | Self::Tensor { .. } => Fault::Request,
        }
    }
}

impl Attributed for VerifyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::Case(error) => error.fault(),
        }
    }
}
