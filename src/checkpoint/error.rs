//! Why a checkpoint cannot be opened or read.

use crate::input::{Attributed, Fault};
use std::path::PathBuf;

use super::index::{INDEX, SINGLE};
use super::{HeaderError, ModelConfigError};

/// Why a checkpoint cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` is wrong.
    #[error("{}: {source}", folder.display())]
    Config {
        /// Folder of the checkpoint.
        folder: PathBuf,
        /// What is wrong.
        source: ModelConfigError,
    },
    /// A shard is wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The index is wrong.
    #[error("{}: {problem}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What was found and expected.
        problem: String,
    },
    /// A GGUF file is wrong, or of another kind of model.
    #[error("{}, a GGUF file, {problem}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        problem: String,
    },
    /// A packed matrix holds what it may not.
    #[error("{}: tensor `{tensor}` {problem}", folder.display())]
    Packed {
        /// Folder of the checkpoint.
        folder: PathBuf,
        /// Name of the part, in the files.
        tensor: String,
        /// What was found and expected.
        problem: String,
    },
    /// The folder has no weights.
    #[error("{} holds neither {INDEX} nor {SINGLE}; expected a checkpoint folder", folder.display())]
    NoWeights {
        /// Folder that was to be opened.
        folder: PathBuf,
    },
    /// The index names a file that is not there.
    #[error("{}: shard {shard} is missing ({tensors} tensors, first `{first}`); download it again", folder.display())]
    ShardMissing {
        /// Folder of the checkpoint.
        folder: PathBuf,
        /// Its name in the index.
        shard: String,
        /// How many tensors it should hold.
        tensors: usize,
        /// The first of them.
        first: String,
    },
    /// There is no tensor of that name.
    #[error("{}: no tensor `{tensor}`", folder.display())]
    NoTensor {
        /// Folder of the checkpoint.
        folder: PathBuf,
        /// The name asked for.
        tensor: String,
    },
    /// The buffer of the caller does not fit the tensor.
    #[error("tensor `{tensor}` has {bytes} bytes; the buffer has {buffer}")]
    BufferSize {
        /// Full name of the tensor.
        tensor: String,
        /// Length in bytes.
        bytes: u64,
        /// Length of the buffer that it was to be read into, in bytes.
        buffer: usize,
    },
}

impl Attributed for CheckpointError {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { source, .. } => Fault::of_io(source),
            Self::Header(error) => error.fault(),
            Self::Config { .. }
            | Self::Index { .. }
            | Self::Gguf { .. }
            | Self::Packed { .. }
            | Self::NoWeights { .. }
            | Self::ShardMissing { .. }
            | Self::NoTensor { .. }
            | Self::BufferSize { .. } => Fault::Request,
        }
    }
}
