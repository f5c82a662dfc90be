//! Rows of a matrix that is too large to be kept in memory for the few of them that are needed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::StoreError;
use crate::checkpoint::read_no_further;
use crate::formats::{WeightFormat, widen_all};
use crate::reads::{ReadCounter, ReadPurpose};

/// A matrix `[rows, cols]` in its file, of which single rows are read.
///
/// What is read comes by way of the page cache, a row and no more. The tensor's checksum is of the whole of it, and is not
/// compared: `sage extract --verify` does that.
#[derive(Debug)]
pub struct TensorRows {
    file: File,
    path: PathBuf,
    /// First byte of the matrix in the file.
    offset: u64,
    format: WeightFormat,
    cols: usize,
    row_bytes: usize,
    reads: Arc<ReadCounter>,
}

impl TensorRows {
    /// The matrix at `offset` of the file `path`, whose rows have `cols` numbers; none where those are not whole blocks of
    /// the format.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(
        path: PathBuf,
        offset: u64,
        format: WeightFormat,
        cols: usize,
        reads: &Arc<ReadCounter>,
    ) -> Result<Option<Self>, StoreError> {
        let Some(row_bytes) = format.row_bytes(cols).filter(|bytes| *bytes > 0) else {
            return Ok(None);
        };
        let file = StoreError::open(&path)?;
        read_no_further(&file);
        Ok(Some(Self {
            file,
            path,
            offset,
            format,
            cols,
            row_bytes,
            reads: Arc::clone(reads),
        }))
    }

    /// Row `row`, widened into `out` `[cols]`. The caller knows how many rows there are.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, row: usize, out: &mut [f32]) -> Result<(), StoreError> {
        let mut stored = vec![0; self.row_bytes];
        let at = self.offset + row as u64 * self.row_bytes as u64;
        self.file
            .read_exact_at(&mut stored, at)
            .map_err(StoreError::io("read", &self.path))?;
        self.reads.add(ReadPurpose::Other, stored.len() as u64);
        widen_all(self.format, &stored, &mut out[..self.cols]);
        Ok(())
    }
}
