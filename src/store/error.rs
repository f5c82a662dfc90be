//! Why a store cannot be written, opened or read.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::checkpoint::{CheckpointError, Component, Misshapen, OtherFormat};
use crate::formats::{ConvertError, WeightFormat};
use crate::input::{Attributed, Fault, MOST_MODEL_FILE_BYTES, open_file, read_file};

/// Why a store cannot be written, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The checkpoint is wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The folder holds neither a checkpoint nor a store.
    #[error("{}: {problem}", path.display())]
    NotAModel {
        /// The path given.
        path: PathBuf,
        /// What was looked for.
        problem: String,
    },
    /// Matrices are packed, and cannot be had so.
    #[error("{}: {problem}", path.display())]
    Packed {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// What is packed, and what to do.
        problem: String,
    },
    /// The manifest is damaged or of another version.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What was found and expected.
        problem: String,
    },
    /// The store holds another model.
    #[error(
        "{} holds model {found}, not {expected}; choose another folder", path.display()
    )]
    OtherModel {
        /// Folder of the store.
        path: PathBuf,
        /// The fingerprint in the store.
        found: String,
        /// The fingerprint of the checkpoint.
        expected: String,
    },
    /// Another process is writing to the store.
    #[error("{} is being written by another process; wait for it to end", path.display())]
    Busy {
        /// Folder of the store.
        path: PathBuf,
    },
    /// The disk cannot hold what would be written.
    #[error("{} has {free_bytes} bytes free; {needed_bytes} bytes would be written", path.display())]
    NoSpace {
        /// Folder of the store.
        path: PathBuf,
        /// Bytes that are free where the store is to be.
        free_bytes: u64,
        /// What is left to write.
        needed_bytes: u64,
    },
    /// The checkpoint lacks tensors that its configuration calls for.
    #[error("{count} tensors are missing, first `{first}`; --allow-missing extracts the rest")]
    TensorsMissing {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A tensor's shape is not what the configuration calls for.
    #[error(
        "tensor `{tensor}` has shape {found:?}; config.json calls for {expected:?}{}",
        turned(found, expected)
    )]
    Misshapen {
        /// Full name of the tensor.
        tensor: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape by the configuration.
        expected: Vec<usize>,
    },
    /// The three matrices of an expert are stored in several formats.
    #[error(
        "tensor `{tensor}` is stored as {format}, the gate of {component} layer {layer} expert {expert} as {gate}; experts \
         may differ, but gate, up and down of one expert have one format: save these three again in one"
    )]
    UnlikeGate {
        /// Part of the model that it belongs to.
        component: Component,
        /// Number of the decoder layer, from 0.
        layer: usize,
        /// Expert of the layer.
        expert: usize,
        /// The first tensor that differs.
        tensor: String,
        /// Its format.
        format: WeightFormat,
        /// Format of the gate.
        gate: WeightFormat,
    },
    /// A number of a tensor has no room in the format it was asked for in.
    #[error(
        "tensor `{tensor}` cannot be stored so: {source}; leave its layer as it is (--quant FORMAT:LAYERS names the others) or \
         ask for a format that has room, and extract into another folder"
    )]
    Convert {
        /// Full name of the tensor.
        tensor: String,
        /// The number, and the format.
        source: ConvertError,
    },
    /// There is no tensor of that name.
    #[error("{}: no tensor `{tensor}`{hint}", path.display())]
    NoTensor {
        /// The checkpoint or store.
        path: PathBuf,
        /// The name asked for.
        tensor: String,
        /// What to do, if anything.
        hint: &'static str,
    },
    /// The model has no such expert.
    #[error("no {component} layer {layer} expert {expert}: {problem}")]
    NoSuchExpert {
        /// Part of the model that it belongs to.
        component: Component,
        /// Number of the decoder layer, from 0.
        layer: usize,
        /// Expert of the layer.
        expert: usize,
        /// The bound that is passed.
        problem: String,
    },
    /// The expert was missing from the checkpoint already.
    #[error(
        "{component} layer {layer} expert {expert} is missing: the checkpoint had no `{tensor}`"
    )]
    ExpertMissing {
        /// Part of the model that it belongs to.
        component: Component,
        /// Number of the decoder layer, from 0.
        layer: usize,
        /// Expert of the layer.
        expert: usize,
        /// Its first missing tensor.
        tensor: String,
    },
    /// The store is a partial one, without this expert.
    #[error(
        "{component} layer {layer} expert {expert} is not in the partial store {}; extract it with \
         `sage extract CHECKPOINT --out STORE --component {component} --layer {layer} --expert {expert}`",
        path.display()
    )]
    ExpertNotStored {
        /// Part of the model that it belongs to.
        component: Component,
        /// Number of the decoder layer, from 0.
        layer: usize,
        /// Expert of the layer.
        expert: usize,
        /// Folder of the store.
        path: PathBuf,
    },
    /// What was read is not what was written.
    #[error(
        "{}: tensor `{tensor}` has CRC-32 {found:08x}, recorded {expected:08x}; the file is damaged, delete it \
         and extract again", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Full name of the tensor.
        tensor: String,
        /// Checksum of what was read.
        found: u32,
        /// Checksum in the manifest.
        expected: u32,
    },
    /// The header of a record is damaged.
    #[error(
        "{}: its header is damaged; find every damaged file with `sage extract --verify`, delete it \
         and extract again", path.display()
    )]
    CorruptHeader {
        /// The file.
        path: PathBuf,
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
    /// A selection or option that makes no sense for this model.
    #[error("{0}")]
    Selection(String),
}

/// What is said of a shape whose last two dimensions are the expected ones the other way round.
fn turned(found: &[usize], expected: &[usize]) -> &'static str {
    let mut swapped = expected.to_vec();
    if let [.., rows, cols] = &mut swapped[..] {
        std::mem::swap(rows, cols);
    }
    if swapped == found && swapped != expected {
        " (its matrices stand transposed, as some writers store them: save the checkpoint again with transformers)"
    } else {
        ""
    }
}

impl From<Misshapen> for StoreError {
    fn from(found: Misshapen) -> Self {
        Self::Misshapen {
            tensor: found.name,
            found: found.shape,
            expected: found.expected,
        }
    }
}

impl From<OtherFormat> for StoreError {
    fn from(found: OtherFormat) -> Self {
        Self::UnlikeGate {
            component: found.component,
            layer: found.layer,
            expert: found.expert,
            tensor: found.name,
            format: found.format,
            gate: found.gate,
        }
    }
}

impl StoreError {
    /// Wraps an error of the operating system.
    /// Opens an ordinary file.
    pub(crate) fn open(path: &Path) -> Result<File, Self> {
        open_file(path).map_err(|error| Self::io("open", path)(error.into_io()))
    }

    /// Reads a file that stands beside the weights.
    pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Self> {
        read_file(path, MOST_MODEL_FILE_BYTES)
            .map_err(|error| Self::io("read", path)(error.into_io()))
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl Attributed for StoreError {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { source, .. } => Fault::of_io(source),
            Self::Checkpoint(error) => error.fault(),
            Self::NotAModel { .. }
            | Self::Packed { .. }
            | Self::Manifest { .. }
            | Self::OtherModel { .. }
            | Self::TensorsMissing { .. }
            | Self::Misshapen { .. }
            | Self::UnlikeGate { .. }
            | Self::Convert { .. }
            | Self::NoTensor { .. }
            | Self::NoSuchExpert { .. }
            | Self::ExpertMissing { .. }
            | Self::ExpertNotStored { .. }
            | Self::CorruptHeader { .. }
            | Self::BufferSize { .. }
            | Self::Selection(_) => Fault::Request,
            Self::Busy { .. } | Self::NoSpace { .. } | Self::Corrupt { .. } => Fault::Run,
        }
    }
}
