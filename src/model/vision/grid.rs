//! Where every patch lies: its row and column, the positions learned for them, and its frame.

use std::ops::Range;

use super::{VisionError, VisionInput};
use crate::checkpoint::config::VisionConfig;
use crate::kernels::MatrixView;
use crate::kernels::pointwise::add_scaled;
use crate::model::rope::Angles;

/// Base of the rotary frequencies.
const THETA: f64 = 10_000.0;

/// The patches of one call, by picture, frame and block.
pub(super) struct Layout {
    grids: Vec<[usize; 3]>,
    merge: usize,
    frames: Vec<Range<usize>>,
    angles: Angles,
}

impl Layout {
    /// # Errors
    /// When a grid cannot be cut into blocks, or the patches are not as many as the grids say.
    pub(super) fn new(
        config: &VisionConfig,
        patches: &VisionInput<'_>,
    ) -> Result<Self, VisionError> {
        let merge = config.spatial_merge_size;
        let mut total = 0_usize;
        for (index, grid) in patches.grids.iter().copied().enumerate() {
            let whole = grid[1].is_multiple_of(merge) && grid[2].is_multiple_of(merge);
            let size = grid
                .iter()
                .try_fold(1_usize, |n, side| n.checked_mul(*side));
            let sum = size.and_then(|size| total.checked_add(size));
            match sum.filter(|sum| whole && !grid.contains(&0) && *sum <= u32::MAX as usize) {
                Some(sum) => total = sum,
                None => return Err(VisionError::Grid { index, grid, merge }),
            }
        }
        let numbers =
            config.in_channels * config.temporal_patch_size * config.patch_size * config.patch_size;
        let (found, expected) = (patches.values.len(), total.saturating_mul(numbers));
        if found != expected {
            return Err(VisionError::Values {
                found,
                expected,
                numbers,
            });
        }
        let mut layout = Self {
            grids: patches.grids.to_vec(),
            merge,
            frames: vec![],
            angles: Angles {
                cos: vec![],
                sin: vec![],
                half: config.hidden_size / config.num_heads / 2,
            },
        };
        layout.fill(total);
        Ok(layout)
    }

    fn fill(&mut self, total: usize) {
        let half = self.angles.half;
        // Half of them turn with the row, half with the column.
        let quarter = half / 2;
        let exponent = |m: usize| (2 * m) as f64 / half as f64;
        let frequencies: Vec<f32> = (0..quarter)
            .map(|m| 1.0 / libm::pow(THETA, exponent(m)) as f32)
            .collect();
        self.angles.cos.reserve_exact(total * half);
        self.angles.sin.reserve_exact(total * half);
        let mut start = 0;
        for grid in &self.grids {
            let cells = cells(*grid, self.merge);
            for _ in 0..grid[0] {
                self.frames.push(start..start + cells.len());
                start += cells.len();
                for (row, column) in &cells {
                    for place in [row, column] {
                        for frequency in &frequencies {
                            let angle = *place as f32 * frequency;
                            self.angles.cos.push(libm::cosf(angle));
                            self.angles.sin.push(libm::sinf(angle));
                        }
                    }
                }
            }
        }
    }

    /// Number of patches.
    pub(super) fn patches(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.end)
    }

    /// The patches of every temporal slice of every picture: who sees whom.
    pub(super) fn frames(&self) -> &[Range<usize>] {
        &self.frames
    }

    /// Rotation of every patch: angles of its row, then of its column.
    pub(super) fn angles(&self) -> &Angles {
        &self.angles
    }

    /// Adds to every patch of `x` `[patches, hidden]` the position learned for its place in the frame: `table` is a square
    /// `[side^2, hidden]` stretched over the picture, corner on corner, with bilinear values between its points.
    pub(super) fn add_positions(&self, table: MatrixView<'_>, x: &mut [f32]) {
        let (side, hidden) = (table.rows().isqrt(), table.cols());
        let mut taps = [vec![0.0; hidden], vec![0.0; hidden]];
        let mut x = x.chunks_exact_mut(hidden);
        for grid in &self.grids {
            let cells = cells(*grid, self.merge);
            for _ in 0..grid[0] {
                for (row, column) in &cells {
                    let Some(x) = x.next() else { return };
                    let (top, bottom, down) = stretch(*row, grid[1], side);
                    let (left, right, along) = stretch(*column, grid[2], side);
                    let [sum, tap] = &mut taps;
                    sum.fill(0.0);
                    for (row, column, weight) in [
                        (top, left, (1.0 - down) * (1.0 - along)),
                        (top, right, (1.0 - down) * along),
                        (bottom, left, down * (1.0 - along)),
                        (bottom, right, down * along),
                    ] {
                        table.widen_row(row * side + column, tap);
                        add_scaled(sum, tap, weight);
                    }
                    add_scaled(x, sum, 1.0);
                }
            }
        }
    }
}

/// Row and column of every patch of a frame, in the order in which they come: block by block.
fn cells([_, height, width]: [usize; 3], merge: usize) -> Vec<(usize, usize)> {
    let mut cells = Vec::with_capacity(height * width);
    for block_row in (0..height).step_by(merge) {
        for block_column in (0..width).step_by(merge) {
            for row in block_row..block_row + merge {
                cells.extend((block_column..block_column + merge).map(|column| (row, column)));
            }
        }
    }
    cells
}

/// Cell `at` of `cells`, first on first and last on last, between which two of `side` points it lies, and how far from the
/// first of them to the second. Whole numbers as long as possible, so that points are met exactly.
fn stretch(at: usize, cells: usize, side: usize) -> (usize, usize, f32) {
    if cells < 2 {
        return (0, 0, 0.0);
    }
    let (place, steps) = (at * (side - 1), cells - 1);
    let first = place / steps;
    let beyond = (place % steps) as f32 / steps as f32;
    (first, (first + 1).min(side - 1), beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_come_block_by_block() {
        let cells = cells([1, 2, 4], 2);
        let columns: Vec<usize> = cells.iter().map(|(_, column)| *column).collect();
        assert_eq!(columns, [0, 1, 0, 1, 2, 3, 2, 3]);
        assert_eq!(cells[2], (1, 0));
    }

    #[test]
    fn corners_meet_corners() {
        assert_eq!(stretch(0, 5, 9), (0, 1, 0.0));
        assert_eq!(stretch(4, 5, 9), (8, 8, 0.0));
        assert_eq!(stretch(1, 4, 9), (2, 3, 2.0 / 3.0));
        assert_eq!(stretch(0, 1, 9), (0, 0, 0.0));
    }
}
