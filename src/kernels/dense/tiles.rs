//! Products with several rows of x, in tiles of outputs whose sums stay in registers.
//!
//! Each output of a tile is summed exactly as if it were alone: lane by lane, block by block. Only what is loaded once
//! and used for many outputs differs. Columns are gone through [`COLUMNS`] at a time, so that both panels stay near; the
//! sums wait in memory meanwhile.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use super::fold::LANES;
use super::panel::{self, COLUMNS, padded};
use super::register::Register;
use crate::formats::Number;

/// Rows of x of a tile.
pub(super) const TILE_X: usize = 4;

/// Rows of weights of a tile, at most.
const MOST_TILE_W: usize = 6;

/// Rows of x that are laid out at a time: their panel stays in the second cache while all weights pass by.
pub(in crate::kernels) const X_ROWS: usize = 96;

/// Up to so many rows of x, weights are read where they lie: laid out, they would not be used often enough.
const DIRECT_ROWS: usize = 8;

/// Where the weights of a tile come from: N rows.
trait Weights<R: Register>: Copy {
    /// Lanes of part `part` of block `block`, row `n`.
    unsafe fn load(self, part: usize, block: usize, n: usize) -> R;
}

/// N rows of a panel with `blocks` blocks.
#[derive(Clone, Copy)]
struct Laid<const N: usize> {
    panel: *const f32,
    blocks: usize,
}

impl<R: Register, const N: usize> Weights<R> for Laid<N> {
    #[inline(always)]
    unsafe fn load(self, part: usize, block: usize, n: usize) -> R {
        // SAFETY: the caller asks for what the panel holds.
        unsafe {
            R::load(
                self.panel
                    .add(((part * self.blocks + block) * N + n) * R::WIDTH),
            )
        }
    }
}

/// N rows as they are stored, from a column on.
#[derive(Clone, Copy)]
struct Stored<E, const N: usize>([*const E; N]);

impl<R: Register, E: Number, const N: usize> Weights<R> for Stored<E, N> {
    #[inline(always)]
    unsafe fn load(self, part: usize, block: usize, n: usize) -> R {
        // SAFETY: the caller asks for columns of the row.
        unsafe { R::widen(self.0[n].add(block * LANES + part * R::WIDTH)) }
    }
}

/// Adds `blocks` blocks of N rows of weights times M rows of x, for one part of the lanes. `sums` holds a register for
/// each output, rows of x outermost; they begin at zero where `is_first`.
#[inline(always)]
unsafe fn tile<R: Register, S: Weights<R>, const M: usize, const N: usize>(
    w: S,
    x: *const f32,
    part: usize,
    blocks: usize,
    sums: *mut f32,
    is_first: bool,
) {
    // SAFETY: what is laid out, and a register for each output.
    unsafe {
        let mut lanes = [[R::zero(); N]; M];
        if !is_first {
            for m in 0..M {
                for n in 0..N {
                    lanes[m][n] = R::load(sums.add((m * N + n) * R::WIDTH));
                }
            }
        }
        for block in 0..blocks {
            let mut weights = [R::zero(); N];
            for n in 0..N {
                weights[n] = w.load(part, block, n);
            }
            for m in 0..M {
                let x = R::load(x.add((block * M + m) * R::WIDTH));
                for n in 0..N {
                    lanes[m][n] = weights[n].times_plus(x, lanes[m][n]);
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                lanes[m][n].store(sums.add((m * N + n) * R::WIDTH));
            }
        }
    }
}

/// [`tile`] for every part of the lanes, and for 1 to [`TILE_X`] rows of x.
#[inline(always)]
unsafe fn all_parts<R: Register, S: Weights<R>, const N: usize>(
    w: S,
    x: *const f32,
    x_rows: usize,
    blocks: usize,
    sums: *mut f32,
    is_first: bool,
) {
    for part in 0..R::PARTS {
        // SAFETY: as the caller promises.
        unsafe {
            let x = x.add(part * blocks * x_rows * R::WIDTH);
            let sums = sums.add(part * x_rows * N * R::WIDTH);
            match x_rows {
                1 => tile::<R, S, 1, N>(w, x, part, blocks, sums, is_first),
                2 => tile::<R, S, 2, N>(w, x, part, blocks, sums, is_first),
                3 => tile::<R, S, 3, N>(w, x, part, blocks, sums, is_first),
                _ => tile::<R, S, TILE_X, N>(w, x, part, blocks, sums, is_first),
            }
        }
    }
}

/// Rows of x laid out for tiles: strips of [`TILE_X`] rows, the last with what is left.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct XPanel<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl XPanel<'_> {
    /// Numbers of a panel of `rows` rows of `cols` numbers.
    pub(in crate::kernels) fn numbers(rows: usize, cols: usize) -> usize {
        rows * padded(cols)
    }

    /// First row and number of rows of each strip.
    fn strips(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let rows = self.rows;
        let firsts = (0..rows).step_by(TILE_X);
        firsts.map(move |first| (first, TILE_X.min(rows - first)))
    }

    /// Columns from `first` on of the strip that begins at row `row` and has `rows` rows.
    fn strip(&self, first: usize, row: usize, rows: usize) -> *const f32 {
        let count = COLUMNS.min(padded(self.cols) - first);
        let at = first * self.rows + row * count;
        self.numbers[at..at + rows * count].as_ptr()
    }
}

/// Lays out `rows` rows of x `[rows, cols]`.
///
/// # Safety
/// The processor has the instructions of R.
#[inline(always)]
pub(super) unsafe fn lay_out<R: Register>(
    x: &[f32],
    rows: usize,
    cols: usize,
    numbers: &mut [f32],
) {
    assert_eq!(x.len(), rows * cols, "input of the wrong length");
    assert_eq!(
        numbers.len(),
        XPanel::numbers(rows, cols),
        "panel of the wrong length"
    );
    let mut to = numbers.as_mut_ptr();
    for first in (0..cols).step_by(COLUMNS) {
        let count = COLUMNS.min(cols - first);
        for row in (0..rows).step_by(TILE_X) {
            let strip = TILE_X.min(rows - row);
            // SAFETY: rows of x, and a part of the panel that is theirs alone.
            unsafe {
                let x = |at: usize| x.as_ptr().add((row + at) * cols);
                panel::fill::<R, f32>(x, strip, cols, first, count, to);
                to = to.add(strip * padded(count));
            }
        }
    }
}

/// Where outputs go: those of one row of x are neighbours, `stride` apart from those of the next.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Outputs {
    pub(super) first: *mut f32,
    pub(super) stride: usize,
}

impl Outputs {
    /// All of y `[.., stride]`.
    pub(in crate::kernels) fn of_rows(y: &mut [f32], stride: usize) -> Self {
        let first = y.as_mut_ptr();
        Self { first, stride }
    }

    /// The place of output `o` of row `row`.
    ///
    /// # Safety
    /// There is one.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn at(self, row: usize, o: usize) -> *mut f32 {
        // SAFETY: as the caller promises.
        unsafe { self.first.add(row * self.stride + o) }
    }

    /// From output `first` of every row on.
    ///
    /// # Safety
    /// There are so many.
    pub(in crate::kernels) unsafe fn from(self, first: usize) -> Self {
        Self {
            // SAFETY: as the caller promises.
            first: unsafe { self.first.add(first) },
            ..self
        }
    }
}

// SAFETY: a task writes only the outputs of its own rows of weights.
unsafe impl Send for Outputs {}
// SAFETY: as above.
unsafe impl Sync for Outputs {}

/// Numbers of the buffer that a task needs: weights of a tile, sums of all its tiles, and their folds.
pub(super) fn buffer_numbers(x_rows: usize) -> usize {
    MOST_TILE_W * COLUMNS + x_rows * MOST_TILE_W * LANES + TILE_X * MOST_TILE_W + 16
}

/// Weight rows `w` `[w_rows, x.cols]` times the rows of x, N of them at a time.
///
/// # Safety
/// The processor has the instructions of R, `out` has room for `w_rows` numbers of every row of x, and `buffer` for
/// [`buffer_numbers`].
#[inline(always)]
pub(super) unsafe fn rows_by_rows<R: Register, E: Number, const N: usize>(
    w: &[E],
    x: XPanel<'_>,
    out: Outputs,
    buffer: &mut [f32],
) {
    let cols = x.cols;
    let w_rows = w.len() / cols;
    let (laid, rest) = buffer.split_at_mut(MOST_TILE_W * COLUMNS);
    let (sums, folds) = rest.split_at_mut(x.rows * MOST_TILE_W * LANES);
    // What is left of a row after its whole blocks is only in a panel.
    let is_direct = x.rows <= DIRECT_ROWS && cols.is_multiple_of(LANES);
    for row in (0..w_rows).step_by(N) {
        // Where there are fewer than N, the last is computed more than once.
        let w_row = |n: usize| w[(row + n).min(w_rows - 1) * cols..].as_ptr();
        for first in (0..cols).step_by(COLUMNS) {
            let count = COLUMNS.min(cols - first);
            let blocks = padded(count) / LANES;
            // SAFETY: rows of w, and buffers of the lengths that they were split into.
            unsafe {
                if !is_direct {
                    panel::fill::<R, E>(w_row, N, cols, first, count, laid.as_mut_ptr());
                }
                for (at, rows) in x.strips() {
                    let sums = sums[at * N * LANES..].as_mut_ptr();
                    let strip = x.strip(first, at, rows);
                    if is_direct {
                        let w = Stored::<E, N>(std::array::from_fn(|n| w_row(n).add(first)));
                        all_parts::<R, _, N>(w, strip, rows, blocks, sums, first == 0);
                    } else {
                        let panel = laid.as_ptr();
                        let w = Laid::<N> { panel, blocks };
                        all_parts::<R, _, N>(w, strip, rows, blocks, sums, first == 0);
                    }
                }
            }
        }
        let count = N.min(w_rows - row);
        for (at, rows) in x.strips() {
            // SAFETY: as above; outputs of these rows.
            unsafe {
                R::fold_all(
                    sums[at * N * LANES..].as_ptr(),
                    rows * N,
                    folds.as_mut_ptr(),
                );
                for (m, folds) in folds.chunks_exact(N).take(rows).enumerate() {
                    let out = out.first.add((at + m) * out.stride + row);
                    std::ptr::copy_nonoverlapping(folds.as_ptr(), out, count);
                }
            }
        }
    }
}
