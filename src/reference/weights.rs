//! Bytes of a tensor in, candle's tensor out, in f32.

use candle_core::{DType, Device, Tensor};

use super::ReferenceError;
use crate::store::WeightSource;

/// Rows of a large table that are widened to f32 at one time.
const BLOCK_ROWS: usize = 4096;

/// Reads tensors by name; nothing is kept.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a>(pub(super) &'a dyn WeightSource);

/// A tensor as it is stored.
struct Stored {
    bytes: Vec<u8>,
    dtype: DType,
}

impl Weights<'_> {
    fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored, ReferenceError> {
        let meta = self.0.tensor(name)?;
        if meta.shape != shape {
            return Err(ReferenceError::Shape {
                name: name.to_owned(),
                found: meta.shape,
                expected: shape.to_vec(),
            });
        }
        let mut bytes = vec![0; meta.bytes as usize];
        self.0.read_tensor(name, &mut bytes)?;
        // The library has the same names for what it widens.
        let dtype = meta.dtype.option().parse().map_err(|_| {
            let format = meta.dtype;
            ReferenceError::Format {
                name: name.to_owned(),
                format,
            }
        })?;
        Ok(Stored { bytes, dtype })
    }

    /// The tensor, widened to f32.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ReferenceError> {
        Ok(self.stored(name, shape)?.widened(.., shape)?)
    }

    /// The rows `ids` of a table `[rows, cols]`: `[ids, cols]`, widened to f32.
    pub(super) fn rows(
        &self,
        name: &str,
        [rows, cols]: [usize; 2],
        ids: &[u32],
    ) -> Result<Tensor, ReferenceError> {
        let stored = self.stored(name, &[rows, cols])?;
        let row_bytes = cols * stored.dtype.size_in_bytes();
        let row = |id: &u32| {
            let at = *id as usize;
            if at >= rows {
                let (id, vocabulary) = (*id, rows);
                return Err(ReferenceError::UnknownToken { id, vocabulary });
            }
            Ok(stored.widened(at * row_bytes..(at + 1) * row_bytes, &[1, cols])?)
        };
        let found: Vec<Tensor> = ids.iter().map(row).collect::<Result<_, _>>()?;
        Ok(Tensor::cat(&found, 0)?)
    }

    /// The products `[tokens, rows]` of `x` `[tokens, cols]` with every row of a table `[rows, cols]`, of which a few thousand
    /// rows are widened at one time.
    pub(super) fn product(
        &self,
        name: &str,
        [rows, cols]: [usize; 2],
        x: &Tensor,
    ) -> Result<Tensor, ReferenceError> {
        let stored = self.stored(name, &[rows, cols])?;
        let row_bytes = cols * stored.dtype.size_in_bytes();
        let mut parts = Vec::new();
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(rows - first);
            let range = first * row_bytes..(first + count) * row_bytes;
            let block = stored.widened(range, &[count, cols])?;
            parts.push(x.matmul(&block.t()?)?);
        }
        Ok(Tensor::cat(&parts, 1)?)
    }
}

impl Stored {
    fn widened(
        &self,
        range: impl std::slice::SliceIndex<[u8], Output = [u8]>,
        shape: &[usize],
    ) -> candle_core::Result<Tensor> {
        let bytes = &self.bytes[range];
        Tensor::from_raw_buffer(bytes, self.dtype, shape, &Device::Cpu)?.to_dtype(DType::F32)
    }
}

/// Bytes that [`Weights::tensor`] holds of a tensor while it is widened: as it is stored, twice, and in f32.
pub(super) fn widening_bytes(source: &dyn WeightSource, name: &str) -> Result<u64, ReferenceError> {
    let meta = source.tensor(name)?;
    let numbers = meta.shape.iter().map(|side| *side as u64).product::<u64>();
    Ok(2 * meta.bytes + 4 * numbers)
}

/// Bytes that [`Weights::product`] holds of a table of `cols` columns: as it is stored, and a block of it widened.
pub(super) fn table_bytes(
    source: &dyn WeightSource,
    name: &str,
    cols: usize,
) -> Result<u64, ReferenceError> {
    Ok(source.tensor(name)?.bytes + (BLOCK_ROWS * cols * 8) as u64)
}
