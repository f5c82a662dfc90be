//! Why the weights of a module are not what its configuration says.

use super::StoreError;
use crate::checkpoint::Component;
use crate::checkpoint::config::ModelConfigError;
use crate::input::{Attributed, Fault};

/// Why a module cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The weights cannot be read.
    #[error(transparent)]
    Source(#[from] StoreError),
    /// A tensor is not what the configuration says.
    #[error(
        "tensor {name} has shape {found:?}, expected {expected:?} by config.json: the checkpoint and its configuration do not belong together"
    )]
    Shape {
        /// Full name of the tensor.
        name: String,
        /// In the file.
        found: Vec<usize>,
        /// By the configuration.
        expected: Vec<usize>,
    },
    /// The configuration asks for what is not implemented.
    #[error(transparent)]
    Config(#[from] ModelConfigError),
    /// The checkpoint has no such part.
    #[error(
        "this model has no {component}: its config.json has no {key} (or states enable_audio_output false); use a checkpoint that speaks"
    )]
    Absent {
        /// What was to be loaded.
        component: Component,
        /// Its section of config.json.
        key: &'static str,
    },
    /// The system has no memory for it.
    #[error("no memory for tensor {name} ({bytes} bytes): {source}")]
    Memory {
        /// Full name of the tensor.
        name: String,
        /// Length in bytes.
        bytes: usize,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Attributed for LoadError {
    fn fault(&self) -> Fault {
        match self {
            Self::Source(error) => error.fault(),
            Self::Shape { .. } | Self::Config(_) | Self::Absent { .. } => Fault::Request,
            Self::Memory { .. } => Fault::Run,
        }
    }
}
