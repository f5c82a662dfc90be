//! Why pictures cannot be encoded.

use super::super::load::LoadError;

/// Why pictures cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// The weights are missing, damaged or of another model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A grid that cannot be cut into tokens.
    #[error(
        "picture {index} has a grid of {grid:?} patches (time, height, width); expected at least one patch each way, height and width multiples of {merge}, and fewer than 2^32 in all"
    )]
    Grid {
        /// Which, from 0.
        index: usize,
        /// Its grid.
        grid: [usize; 3],
        /// `spatial_merge_size`.
        merge: usize,
    },
    /// Values and grids disagree.
    #[error(
        "the pictures' patches hold {found} numbers; expected {expected}, {numbers} for each patch of their grids"
    )]
    Values {
        /// Numbers given.
        found: usize,
        /// Numbers that the grids ask for.
        expected: usize,
        /// Numbers of one patch.
        numbers: usize,
    },
}
