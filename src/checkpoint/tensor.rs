//! A tensor of a checkpoint: where it lies and what it is.

use std::ops::Range;
use std::sync::Arc;

use super::packed::PackedTensor;
use crate::formats::WeightFormat;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Full name in the one spelling that this program knows, whatever the files call it.
    pub name: String,
    /// What the files call it, or the fused tensor that it is a part of; none where that is the name.
    pub stored_as: Option<Arc<str>>,
    /// Element type; of a packed matrix F32, to which it is unpacked.
    pub dtype: WeightFormat,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Index of the shard, that of its integers where it is packed; see [`super::Checkpoint::shard_path`].
    pub shard: usize,
    /// First byte, counted from the start of the shard file.
    pub offset: u64,
    /// Bytes of its numbers in their element type.
    pub bytes: u64,
    /// How it is packed, and where its parts lie; none of a tensor that lies there as it is.
    pub packed: Option<Arc<PackedTensor>>,
}

/// Bytes of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Index of the shard.
    pub shard: usize,
    /// Counted from the start of its file.
    pub bytes: Range<u64>,
}

impl TensorInfo {
    /// The name in the files.
    pub fn stored_name(&self) -> &str {
        self.stored_as.as_deref().unwrap_or(&self.name)
    }

    /// Bytes in the files.
    pub fn stored_bytes(&self) -> u64 {
        let packed = self.packed.as_ref();
        packed.map_or(self.bytes, |packed| packed.stored_bytes())
    }

    /// Where its bytes lie: one piece, or the parts of a packed matrix.
    pub fn stored_parts(&self) -> Vec<StoredPart> {
        let at = |shard: usize, offset: u64, bytes: u64| StoredPart {
            shard,
            bytes: offset..offset + bytes,
        };
        match &self.packed {
            None => vec![at(self.shard, self.offset, self.bytes)],
            Some(packed) => {
                let parts = packed.parts();
                parts
                    .map(|part| at(part.shard, part.offset, part.bytes))
                    .collect()
            }
        }
    }

    /// The name of what it is in the files: a format, or how it is packed.
    pub fn stored_format(&self) -> &'static str {
        let packed = self.packed.as_ref();
        packed.map_or(self.dtype.name(), |packed| packed.packing.name())
    }
}
