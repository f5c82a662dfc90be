//! What an extraction fills records with: tensors of a checkpoint, as they lie there, converted, or unpacked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::record::TensorSpec;
use super::uncached::UncachedReader;
use crate::checkpoint::{Checkpoint, PackedMatrix, PackedTensor, TensorInfo, UnpackError};
use crate::formats::convert;

/// Tensors of a checkpoint, piece by piece; from several threads, each of which fills one tensor after the other.
pub(super) struct TensorSource<'a> {
    checkpoint: &'a Checkpoint,
    reader: UncachedReader<'a>,
    /// Packed matrices whose last piece is still to come: one a thread.
    packed: Mutex<BTreeMap<String, Arc<PackedMatrix>>>,
}

impl<'a> TensorSource<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            reader: UncachedReader::new(checkpoint),
            packed: Mutex::default(),
        }
    }

    /// Fills a piece of a tensor that begins at byte `at` of it, in the format that it is to have.
    pub(super) fn fill(
        &self,
        tensor: &TensorSpec,
        at: u64,
        piece: &mut [u8],
    ) -> Result<(), StoreError> {
        let missing = || StoreError::TensorsMissing {
            count: 1,
            first: tensor.name.clone(),
        };
        let info = self.checkpoint.tensor(&tensor.name).ok_or_else(missing)?;
        if let Some(packed) = &info.packed {
            return self.unpack(info, packed, tensor, at, piece);
        }
        if info.dtype == tensor.dtype {
            return self.reader.read(info.shard, info.offset + at, piece);
        }
        // As many numbers, from as many numbers on: pieces are whole blocks of any format.
        let (from, to) = (info.dtype, tensor.dtype);
        let source_bytes = |bytes: u64| {
            let numbers = bytes / to.block_bytes() as u64 * to.block_numbers() as u64;
            numbers / from.block_numbers() as u64 * from.block_bytes() as u64
        };
        let mut stored = vec![0; source_bytes(piece.len() as u64) as usize];
        let offset = info.offset + source_bytes(at);
        self.reader.read(info.shard, offset, &mut stored)?;
        convert(info.dtype, &stored, tensor.dtype, piece).map_err(|source| StoreError::Convert {
            tensor: tensor.name.clone(),
            source,
        })
    }

    fn unpack(
        &self,
        info: &TensorInfo,
        packed: &PackedTensor,
        tensor: &TensorSpec,
        at: u64,
        piece: &mut [u8],
    ) -> Result<(), StoreError> {
        let matrix = self.matrix(packed, &tensor.name)?;
        let format = tensor.dtype;
        let first = at as usize / format.block_bytes() * format.block_numbers();
        let stored = matrix.store(first, format, piece);
        if at + piece.len() as u64 == tensor.bytes {
            self.half_filled().remove(&tensor.name);
        }
        stored.map_err(|error| match error {
            UnpackError::Convert(source) => StoreError::Convert {
                tensor: tensor.name.clone(),
                source,
            },
            UnpackError::NotExact { .. } => StoreError::Packed {
                path: self.checkpoint.folder().to_owned(),
                problem: format!("tensor `{}` {error}", info.stored_name()),
            },
        })
    }

    /// The matrix, read when its first piece is asked for.
    fn matrix(&self, packed: &PackedTensor, name: &str) -> Result<Arc<PackedMatrix>, StoreError> {
        if let Some(matrix) = self.half_filled().get(name) {
            return Ok(Arc::clone(matrix));
        }
        let read = |shard, offset, part: &mut [u8]| self.reader.read(shard, offset, part);
        let matrix = Arc::new(self.checkpoint.packed_matrix(packed, read)?);
        self.half_filled()
            .insert(name.to_owned(), Arc::clone(&matrix));
        Ok(matrix)
    }

    fn half_filled(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PackedMatrix>>> {
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
