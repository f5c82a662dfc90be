//! The thinker's table of token embeddings: of a vocabulary of 152,064 a token needs one row of a few KiB.

use super::load::{LoadError, Loader};
use crate::checkpoint::config::TextConfig;
use crate::kernels::Matrix;
use crate::store::{StoreError, TensorRows, WeightSource};

/// The table's name.
const NAME: &str = "thinker.model.embed_tokens.weight";

/// `embed_tokens`, `[vocabulary, hidden]`.
#[derive(Debug)]
pub enum Embedding {
    /// Whole, in memory: it is the head as well, or is not stored row by row.
    Kept(Matrix),
    /// In its file.
    OnDisk(TensorRows),
}

impl Embedding {
    /// The table where it lies, if its rows can be read from there and nobody else needs the whole of it.
    fn on_disk(
        source: &dyn WeightSource,
        config: &TextConfig,
    ) -> Result<Option<TensorRows>, LoadError> {
        if config.tie_word_embeddings {
            return Ok(None);
        }
        Ok(source.rows(NAME)?)
    }

    /// Bytes of the table that stay in memory.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn kept_bytes(source: &dyn WeightSource) -> Result<u64, LoadError> {
        match Self::on_disk(source, &source.config().thinker.text)? {
            Some(_) => Ok(0),
            None => Ok(source.tensor(NAME)?.bytes),
        }
    }

    /// Whether a tensor is the table.
    pub(super) fn is_named(name: &str) -> bool {
        name == NAME
    }

    pub(super) fn load(loader: &Loader<'_>, config: &TextConfig) -> Result<Self, LoadError> {
        let shape = [config.vocab_size, config.hidden_size];
        match Self::on_disk(loader.source, config)? {
            Some(rows) => {
                loader.checked(NAME, &shape)?;
                Ok(Self::OnDisk(rows))
            }
            None => Ok(Self::Kept(loader.matrix(NAME, shape[0], shape[1])?)),
        }
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
