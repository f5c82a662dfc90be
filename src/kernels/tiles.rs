//! Products with several rows of x, in tiles of outputs whose sums stay in registers.
//!
//! Each output of a tile is summed exactly as if it were alone: lane by lane, block by block, multiply and then add.
//! Only what is loaded once and used for many outputs differs.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use super::fold::{LANES, fold};
use crate::formats::Number;

/// Rows of x of a tile.
pub(super) const TILE_X: usize = 4;

/// Rows of weights of a tile. With two registers of 16 lanes for each output, 24 of 32 registers hold sums.
const TILE_W: usize = 3;

/// Bytes of weights that are gone through for one strip of x rows after the other: they stay in the second cache.
const WEIGHT_BYTES: usize = 512 << 10;

/// W neighbouring lanes: one register.
///
/// Whole arrays by value, and multiply and add as loops of their own: that is what the compiler keeps in registers. With
/// lanes as one array of all sums, or the two operations in one loop, it falls back to memory or to single numbers.
#[derive(Clone, Copy)]
struct Register<const W: usize>([f32; W]);

impl<const W: usize> Register<W> {
    const ZERO: Self = Self([0.0; W]);

    /// The `at`-th W lanes of a block.
    #[inline(always)]
    fn load<E: Number>(block: &[E; LANES], at: usize) -> Self {
        Self(E::widen_all(&block.as_chunks::<W>().0[at]))
    }

    #[inline(always)]
    fn times(mut self, other: Self) -> Self {
        for lane in 0..W {
            self.0[lane] *= other.0[lane];
        }
        self
    }

    #[inline(always)]
    fn plus(mut self, other: Self) -> Self {
        for lane in 0..W {
            self.0[lane] += other.0[lane];
        }
        self
    }
}

/// Sums of N rows of weights times M rows of x, for P registers of their lanes.
type Sums<const W: usize, const P: usize, const M: usize, const N: usize> =
    [[[Register<W>; P]; M]; N];

/// Adds the products of block `block` of each row, for the P registers from the `at`-th.
#[inline(always)]
fn add_block<E: Number, const W: usize, const P: usize, const M: usize, const N: usize>(
    sums: &mut Sums<W, P, M, N>,
    w: &[&[[E; LANES]]; N],
    x: &[&[[f32; LANES]]; M],
    block: usize,
    at: usize,
) {
    let mut weights = [[Register::ZERO; P]; N];
    for n in 0..N {
        for p in 0..P {
            weights[n][p] = Register::load(&w[n][block], at + p);
        }
    }
    for m in 0..M {
        for p in 0..P {
            let x = Register::load(&x[m][block], at + p);
            for n in 0..N {
                sums[n][m][p] = sums[n][m][p].plus(weights[n][p].times(x));
            }
        }
    }
}

/// What is left of a row after its whole blocks, filled up with zeros: a lane starts at 0 and so is never -0, and
/// adding 0 leaves every bit of it.
#[inline(always)]
fn rest<E: Number>(row: &[E]) -> [f32; LANES] {
    let mut block = [0.0; LANES];
    for (number, stored) in block.iter_mut().zip(row.as_chunks::<LANES>().1) {
        *number = stored.widen();
    }
    block
}

/// N rows of weights times M rows of x.
#[inline(always)]
fn tile<E: Number, const W: usize, const P: usize, const M: usize, const N: usize>(
    w: [&[E]; N],
    x: [&[f32]; M],
    x_rest: &[[f32; LANES]; M],
) -> [[f32; M]; N] {
    let cols = x[0].len();
    let (blocks, is_whole) = (cols / LANES, cols.is_multiple_of(LANES));
    // Cut to one length, so that it is compared once and not for every block.
    let w_blocks = w.map(|row| &row.as_chunks::<LANES>().0[..blocks]);
    let x_blocks = x.map(|row| &row.as_chunks::<LANES>().0[..blocks]);
    let w_rest = if is_whole {
        [[0.0; LANES]; N]
    } else {
        w.map(rest)
    };
    let mut lanes = [[[0.0f32; LANES]; M]; N];
    let mut at = 0;
    while at < LANES / W {
        let mut sums = [[[Register::<W>::ZERO; P]; M]; N];
        for block in 0..blocks {
            add_block(&mut sums, &w_blocks, &x_blocks, block, at);
        }
        if !is_whole {
            let w = w_rest.each_ref().map(std::slice::from_ref);
            let x = x_rest.each_ref().map(std::slice::from_ref);
            add_block(&mut sums, &w, &x, 0, at);
        }
        for n in 0..N {
            for m in 0..M {
                for p in 0..P {
                    lanes[n][m].as_chunks_mut::<W>().0[at + p] = sums[n][m][p].0;
                }
            }
        }
        at += P;
    }
    let mut out = [[0.0; M]; N];
    for n in 0..N {
        for m in 0..M {
            // One output after the other: folded side by side, their lanes would be gathered one by one.
            out[n][m] = fold(std::hint::black_box(&lanes[n][m]));
        }
    }
    out
}

/// Weight rows times M rows of x, to `out[o * x_rows + first..][..M]`; to be compiled for an instruction set.
#[inline(always)]
pub(super) fn strip<E: Number, const W: usize, const P: usize, const M: usize>(
    w: &[E],
    cols: usize,
    x: &[f32],
    x_rows: usize,
    first: usize,
    out: &mut [f32],
) {
    let x: [&[f32]; M] = std::array::from_fn(|m| &x[(first + m) * cols..(first + m + 1) * cols]);
    let x_rest = x.map(rest);
    let (of_rows, of_outs) = (TILE_W * cols, TILE_W * x_rows);
    for (w, out) in w.chunks(of_rows).zip(out.chunks_mut(of_outs)) {
        if w.len() == of_rows {
            let w: [&[E]; TILE_W] = std::array::from_fn(|n| &w[n * cols..(n + 1) * cols]);
            let tile = tile::<E, W, P, M, TILE_W>(w, x, &x_rest);
            for (out, sums) in out.chunks_exact_mut(x_rows).zip(&tile) {
                out[first..first + M].copy_from_slice(sums);
            }
        } else {
            for (w, out) in w.chunks_exact(cols).zip(out.chunks_exact_mut(x_rows)) {
                let [sums] = tile::<E, W, P, M, 1>([w], x, &x_rest);
                out[first..first + M].copy_from_slice(&sums);
            }
        }
    }
}

/// [`strip`] as compiled for an instruction set: `(w, cols, x, x_rows, first, out)`.
pub(super) type Strip<E> = unsafe fn(&[E], usize, &[f32], usize, usize, &mut [f32]);

/// Weight rows `w` `[out_rows, cols]` times rows of x: `out[o * x_rows + r]`. `strips[i]` takes i + 1 rows of x.
///
/// # Safety
/// The processor has the instructions that `strips` are compiled for.
pub(super) unsafe fn rows_by_rows<E: Number>(
    strips: [Strip<E>; TILE_X],
    w: &[E],
    cols: usize,
    x: &[f32],
    x_rows: usize,
    out: &mut [f32],
) {
    let tiles = WEIGHT_BYTES / (size_of::<E>() * cols * TILE_W);
    let rows = tiles.max(1) * TILE_W;
    for (w, out) in w.chunks(rows * cols).zip(out.chunks_mut(rows * x_rows)) {
        for first in (0..x_rows).step_by(TILE_X) {
            let strip = strips[(x_rows - first).min(TILE_X) - 1];
            // SAFETY: as the caller promises.
            unsafe { strip(w, cols, x, x_rows, first, out) };
        }
    }
}
