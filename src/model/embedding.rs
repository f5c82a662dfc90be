//! The thinker's table of token embeddings: of a vocabulary of 152,064 a token needs one row of a few KiB.

use crate::kernels::Matrix;
use crate::store::{StoreError, TensorRows, WeightSource};

/// `embed_tokens`, `[vocabulary, hidden]`.
#[derive(Debug)]
pub enum Embedding {
    /// Whole, in memory: it is the head as well, or is not stored row by row.
    Kept(Matrix),
    /// In its file.
    OnDisk(TensorRows),
}

impl Embedding {
    /// The table's name.
    pub(super) const NAME: &str = "thinker.model.embed_tokens.weight";

    /// The table where it lies, if its rows can be read from there and nobody else needs the whole of it.
    ///
    /// # Errors
    /// When there is no such tensor, or its file cannot be opened.
    pub(super) fn on_disk(source: &dyn WeightSource) -> Result<Option<TensorRows>, StoreError> {
        match source.config().thinker.text.tie_word_embeddings {
            true => Ok(None),
            false => source.rows(Self::NAME),
        }
    }

    /// Bytes of the table that stay in memory.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub(super) fn kept_bytes(source: &dyn WeightSource) -> Result<u64, StoreError> {
        match Self::on_disk(source)? {
            Some(_) => Ok(0),
            None => Ok(source.tensor(Self::NAME)?.bytes),
        }
    }

    /// Whether a tensor is the table.
    pub(super) fn is_named(name: &str) -> bool {
        name == Self::NAME
    }

    /// Embeddings of tokens, `[tokens, hidden]`. Panics on an id beyond the vocabulary: callers check.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn rows(&self, tokens: &[u32], hidden: usize) -> Result<Vec<f32>, StoreError> {
        let mut out = vec![0.0; tokens.len() * hidden];
        // Ascending, as the disk likes it, and what comes more than once is read once.
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|at| tokens[*at]);
        let mut before: Option<usize> = None;
        for at in order {
            match before {
                Some(same) if tokens[same] == tokens[at] => {
                    out.copy_within(same * hidden..(same + 1) * hidden, at * hidden);
                }
                _ => {
                    let row = &mut out[at * hidden..(at + 1) * hidden];
                    match self {
                        Self::Kept(table) => table.view().widen_row(tokens[at] as usize, row),
                        Self::OnDisk(rows) => rows.read(tokens[at] as usize, row)?,
                    }
                }
            }
            before = Some(at);
        }
        Ok(out)
    }

    /// The table as a matrix, where it is in memory.
    pub fn matrix(&self) -> Option<&Matrix> {
        match self {
            Self::Kept(table) => Some(table),
            Self::OnDisk(_) => None,
        }
    }
}
