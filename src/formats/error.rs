//! Why numbers cannot be stored in a format.

use super::WeightFormat;

/// Why numbers cannot be stored in a format.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// A number that the format has no room for.
    #[error("{value} is beyond {format}, whose largest number is {largest}")]
    Overflow {
        /// The number.
        value: f32,
        /// The format asked for.
        format: WeightFormat,
        /// Its largest number.
        largest: f32,
    },
    /// A number that no block holds.
    #[error("{value} is no number that blocks of {format} can hold")]
    NotFinite {
        /// The number.
        value: f32,
        /// The format asked for.
        format: WeightFormat,
    },
    /// Not whole blocks.
    #[error("{numbers} numbers are no whole blocks of {format}, which have {block}")]
    NoWholeBlocks {
        /// How many there are.
        numbers: usize,
        /// Numbers of a block.
        block: usize,
        /// The format asked for.
        format: WeightFormat,
    },
    /// The program was built without quantisers.
    #[error("this program was built without its feature `quantise` and cannot write {format}")]
    NoQuantiser {
        /// The format asked for.
        format: WeightFormat,
    },
}
