//! The thinker once more, written apart on candle, to hold the running model against.
//!
//! Invariant: nothing here computes with `model` or `kernels`. Weights come through [`WeightSource`], dimensions from the
//! checkpoint's configuration, the arithmetic is candle's in f32, and the order of computation is that of the model's
//! description. What the running model computed is only compared with, in one place followed: where two experts are equally
//! good as far as f32 can tell, its choice is taken, and counted.

mod attention;
mod comparison;
mod experts;
mod found;
mod thinker;
mod weights;
mod witness;

pub use comparison::compare;
pub use found::{PromptRun, listen};
pub use thinker::working_bytes;

use crate::formats::WeightFormat;
use crate::input::{Attributed, Fault};
use crate::store::StoreError;

#[cfg(doc)]
use crate::store::WeightSource;

/// The library and its version, for reports.
pub const NAME: &str = "candle-core 0.11.1";

/// Why the reference cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Weights cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The library refused an operation.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// A tensor does not have the shape that the configuration gives it.
    #[error("tensor {name} is {found:?}, expected {expected:?} by config.json")]
    Shape {
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// By config.json.
        expected: Vec<usize>,
    },
    /// The library does not read weights that are stored so.
    #[error(
        "tensor {name} is stored as {format}, which {NAME} does not widen: compare the checkpoint that it was extracted from"
    )]
    Format {
        /// The tensor.
        name: String,
        /// Its format.
        format: WeightFormat,
    },
    /// A token that the model does not have.
    #[error("token id {id} is beyond the model's vocabulary of {vocabulary}")]
    UnknownToken { id: u32, vocabulary: usize },
}

impl Attributed for ReferenceError {
    fn fault(&self) -> Fault {
        match self {
            Self::Store(error) => error.fault(),
            Self::Shape { .. } | Self::Format { .. } | Self::UnknownToken { .. } => Fault::Request,
            Self::Candle(_) => Fault::Run,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_of_the_library_that_is_built() {
        let version = super::NAME.strip_prefix("candle-core ").unwrap();
        let pinned = format!("candle-core = {{ version = \"={version}\"");
        assert!(
            include_str!("../../Cargo.toml").contains(&pinned),
            "{pinned}"
        );
    }
}
