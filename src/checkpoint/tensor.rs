//! A tensor of a checkpoint: where it lies and what it is.

use std::sync::Arc;

use crate::formats::WeightFormat;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Full name in the one spelling that this program knows, whatever the files call it.
    pub name: String,
    /// What the files call it, or the fused tensor that it is a part of; none where that is the name.
    pub stored_as: Option<Arc<str>>,
    /// Element type.
    pub dtype: WeightFormat,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Index of the shard; see [`super::Checkpoint::shard_path`].
    pub shard: usize,
    /// First byte, counted from the start of the shard file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

impl TensorInfo {
    /// The name in the files.
    pub fn stored_name(&self) -> &str {
        self.stored_as.as_deref().unwrap_or(&self.name)
    }
}
