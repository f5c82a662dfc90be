//! Integer products with several rows of x: as many rows of weights side by side as a register has sums.
//!
//! Weights are unpacked and laid out once, four neighbouring numbers of every row beside each other, and then serve all
//! rows of x. Sums are exact up to the end of a group, and are added up as [`super::plain`] does from there on.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use super::ints::Sums;
use super::rounded::{RoundedRows, RoundedStrip, strip_rows};
use crate::formats::{Blocks, MOST_NUMBERS, half_bits};
use crate::kernels::dense::Outputs;
use crate::kernels::prefetch::prefetch_bytes;

/// Rows of x of a tile, at most.
pub(super) const TILE_X: usize = 8;

/// Bytes from one unpacked row to the next.
const STRIDE: usize = MOST_NUMBERS;

/// Weights of some rows as tiles read them.
#[derive(Default)]
pub(in crate::kernels) struct Laid {
    /// `[blocks, numbers / 4, rows, 4]`, unsigned.
    numbers: Vec<u8>,
    /// `[blocks, groups, rows]`, and mins likewise.
    scales: Vec<i32>,
    mins: Vec<i32>,
    /// `[blocks, rows]`, the bits of halves.
    d: Vec<u16>,
    d_min: Vec<u16>,
    /// Numbers of one block of every row.
    unpacked: Vec<u8>,
    /// `[rows of x, rows]`.
    sums: Vec<f32>,
}

impl Laid {
    /// Lays out the first `blocks` blocks of the rows that begin at `row(0)`, `row(1)`, … .
    #[inline(always)]
    unsafe fn fill<B: Blocks, S: Sums>(&mut self, row: impl Fn(usize) -> *const u8, blocks: usize) {
        let groups = B::NUMBERS / B::GROUP;
        self.numbers.resize(blocks * B::NUMBERS * S::ROWS, 0);
        self.unpacked.resize(S::ROWS * STRIDE + MOST_NUMBERS, 0);
        self.scales.resize(blocks * groups * S::ROWS, 0);
        self.mins.resize(blocks * groups * S::ROWS, 0);
        self.d.resize(blocks * S::ROWS, 0);
        self.d_min.resize(blocks * S::ROWS, 0);
        // Small blocks go two by two, so that registers are full.
        let most_together = (64 / B::NUMBERS).max(1);
        let mut first = 0;
        while first < blocks {
            let together = most_together.min(blocks - first);
            for at in 0..S::ROWS {
                for block in first..first + together {
                    // SAFETY: the row has so many blocks, and the buffer room behind its last number.
                    unsafe {
                        let from = row(at).add(block * B::BYTES);
                        // Those of the next round stand right behind them.
                        prefetch_bytes(from.wrapping_add(S::ROWS * blocks * B::BYTES), B::BYTES);
                        let bytes = std::slice::from_raw_parts(from, B::BYTES);
                        let to = self
                            .unpacked
                            .as_mut_ptr()
                            .add(at * STRIDE + (block - first) * B::NUMBERS);
                        B::unpack(bytes, &mut *to.cast::<[u8; MOST_NUMBERS]>());
                        self.fill_scales::<B, S>(bytes, block, at);
                    }
                }
            }
            // SAFETY: `ROWS` rows of so many numbers, a multiple of 32, and as many places.
            unsafe {
                let to = self.numbers.as_mut_ptr().add(first * B::NUMBERS * S::ROWS);
                S::interleave(self.unpacked.as_ptr(), STRIDE, together * B::NUMBERS, to);
            }
            first += together;
        }
    }

    #[inline(always)]
    unsafe fn fill_scales<B: Blocks, S: Sums>(&mut self, bytes: &[u8], block: usize, at: usize) {
        let groups = B::NUMBERS / B::GROUP;
        // SAFETY: places of row `at` in a block that there is room for.
        unsafe {
            *self.d.as_mut_ptr().add(block * S::ROWS + at) = half_bits(bytes, B::D_AT);
            if groups == 1 {
                return;
            }
            let (scales, mins) = B::scales(bytes);
            for group in 0..groups {
                let place = (block * groups + group) * S::ROWS + at;
                *self.scales.as_mut_ptr().add(place) = i32::from(scales[group]);
                if B::HAS_MINS {
                    *self.mins.as_mut_ptr().add(place) = i32::from(mins[group]);
                }
            }
            if B::HAS_MINS {
                *self.d_min.as_mut_ptr().add(block * S::ROWS + at) = half_bits(bytes, B::D_MIN_AT);
            }
        }
    }
}

/// Sums of a block's products with the M rows of a strip, times the scales of its groups; and those of mins. `bytes` and
/// `x_sums` lead to what the strip has for the block.
#[inline(always)]
unsafe fn totals<B: Blocks, S: Sums, const M: usize>(
    laid: &Laid,
    block: usize,
    bytes: *const i8,
    x_sums: *const i16,
) -> ([S; M], [S; M]) {
    let groups = B::NUMBERS / B::GROUP;
    let is_signed = B::BIAS == 128;
    // SAFETY: all of it is as long as blocks, rows and groups make it.
    unsafe {
        let numbers = laid.numbers.as_ptr().add(block * B::NUMBERS * S::ROWS);
        let (mut totals, mut taken) = ([S::splat(0); M], [S::splat(0); M]);
        for group in 0..groups {
            let mut of_group = [S::splat(0); M];
            if B::BIAS != 0 {
                for m in 0..M {
                    let x_sum = i32::from(*x_sums.add(group * M + m));
                    of_group[m] = if is_signed {
                        S::signed_start(x_sum)
                    } else {
                        S::splat(-B::BIAS * x_sum)
                    };
                }
            }
            for at in group * B::GROUP / 4..(group + 1) * B::GROUP / 4 {
                let w = numbers.add(at * 4 * S::ROWS);
                let x = bytes.add(at * 4 * M).cast::<i32>();
                for m in 0..M {
                    let x = x.add(m).read_unaligned();
                    of_group[m] = if is_signed {
                        of_group[m].signed_dot(w, x)
                    } else {
                        of_group[m].dot(w, x)
                    };
                }
            }
            if groups == 1 {
                return (of_group, taken);
            }
            let place = (block * groups + group) * S::ROWS;
            let scales = S::load(laid.scales.as_ptr().add(place));
            for m in 0..M {
                totals[m] = of_group[m].times_plus(scales, totals[m]);
            }
            if B::HAS_MINS {
                let mins = S::load(laid.mins.as_ptr().add(place));
                for m in 0..M {
                    let x_sum = S::splat(i32::from(*x_sums.add(group * M + m)));
                    taken[m] = mins.times_plus(x_sum, taken[m]);
                }
            }
        }
        (totals, taken)
    }
}

/// The products of all rows of weights with the M rows of a strip, to `sums` `[M, rows]`.
#[inline(always)]
unsafe fn strip<B: Blocks, S: Sums, const M: usize>(
    laid: &Laid,
    blocks: usize,
    x: RoundedStrip<'_>,
    sums: *mut f32,
) {
    let groups = B::NUMBERS / B::GROUP;
    // SAFETY: what is laid out, what the strip has for it, and a register of sums for each of its rows.
    unsafe {
        for block in 0..blocks {
            let bytes = x.bytes.as_ptr().add(block * B::NUMBERS * M);
            let x_sums = x.sums.as_ptr().add(block * groups * M);
            let x_scales = x.scales.as_ptr().add(block * M);
            let (totals, taken) = totals::<B, S, M>(laid, block, bytes, x_sums);
            let d = S::load_halves(laid.d.as_ptr().add(block * S::ROWS));
            for m in 0..M {
                let to = sums.add(m * S::ROWS);
                let x_scale = *x_scales.add(m);
                let mut sum = S::load_floats(to);
                sum = S::fused(totals[m].to_floats(), S::scaled(d, x_scale), sum);
                if B::HAS_MINS {
                    let d_min = S::load_halves(laid.d_min.as_ptr().add(block * S::ROWS));
                    let scale = S::scaled(d_min, x_scale);
                    sum = S::fused_minus(taken[m].to_floats(), scale, sum);
                }
                S::store_floats(sum, to);
            }
        }
    }
}

/// Every row of `w` `[rows, blocks]` times every row of x.
///
/// # Safety
/// The processor has the instructions of S, and `out` leads to places for as many outputs of every row of x.
#[inline(always)]
pub(super) unsafe fn rows_by_rows<B: Blocks, S: Sums>(
    w: &[u8],
    x: RoundedRows<'_>,
    out: Outputs,
    laid: &mut Laid,
) {
    assert_eq!((x.cut.block, x.cut.group), (B::NUMBERS, B::GROUP));
    let blocks = x.cut.cols / B::NUMBERS;
    let row_bytes = blocks * B::BYTES;
    let rows = w.len() / row_bytes;
    for row in (0..rows).step_by(S::ROWS) {
        // Where there are fewer, the last is computed more than once.
        let w_row = |at: usize| w[(row + at).min(rows - 1) * row_bytes..].as_ptr();
        // SAFETY: each row has so many.
        unsafe { laid.fill::<B, S>(w_row, blocks) };
        let mut sums = std::mem::take(&mut laid.sums);
        sums.clear();
        sums.resize(x.rows * S::ROWS, 0.0);
        let mut first = 0;
        while first < x.rows {
            let together = strip_rows(x.rows - first, x.most_rows);
            let rows = x.strip(first, together);
            let of_first = sums[first * S::ROWS..].as_mut_ptr();
            // SAFETY: a strip of so many rows, their sums, and blocks that are laid out.
            unsafe {
                match together {
                    1 => strip::<B, S, 1>(laid, blocks, rows, of_first),
                    2 => strip::<B, S, 2>(laid, blocks, rows, of_first),
                    4 => strip::<B, S, 4>(laid, blocks, rows, of_first),
                    _ => strip::<B, S, TILE_X>(laid, blocks, rows, of_first),
                }
            }
            first += together;
        }
        let count = S::ROWS.min(rows - row);
        for (m, sums) in sums.chunks_exact(S::ROWS).enumerate() {
            // SAFETY: outputs of these rows.
            unsafe {
                let to = out.at(m, row);
                std::ptr::copy_nonoverlapping(sums.as_ptr(), to, count);
            }
        }
        laid.sums = sums;
    }
}
