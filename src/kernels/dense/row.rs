//! Products with one row of x: bound by the memory that the weights come from.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use super::fold::{LANES, fold};
use super::register::Register;
use crate::formats::Number;
use crate::kernels::prefetch::prefetch;

/// Registers that hold the lanes of a sum, at most.
const MOST_PARTS: usize = 8;

/// The block that fills up what is left of a row after its whole blocks.
#[inline(always)]
pub(super) fn rest<E: Number>(row: &[E]) -> [f32; LANES] {
    let mut block = [0.0; LANES];
    for (number, stored) in block.iter_mut().zip(row.as_chunks::<LANES>().1) {
        *number = stored.widen();
    }
    block
}

/// `out[n] = w[n] · x` for N neighbouring rows of weights, which share what is loaded of x.
///
/// # Safety
/// `w` has N rows of `x.len()` numbers, `out` has room for N, and the processor has the instructions of R.
#[inline(always)]
unsafe fn rows_together<R: Register, E: Number, const N: usize>(
    w: *const E,
    x: &[f32],
    x_rest: &[f32; LANES],
    out: *mut f32,
) {
    let cols = x.len();
    let whole = cols / LANES * LANES;
    // SAFETY: every access lies in a row, or in a block of its own.
    unsafe {
        let mut sums = [[R::zero(); MOST_PARTS]; N];
        let mut at = 0;
        while at < whole {
            for part in 0..R::PARTS {
                let x = R::load(x.as_ptr().add(at + part * R::WIDTH));
                for n in 0..N {
                    let w = R::widen(w.add(n * cols + at + part * R::WIDTH));
                    sums[n][part] = w.times_plus(x, sums[n][part]);
                }
            }
            for n in 0..N {
                prefetch(w.wrapping_add((n + N) * cols + at));
            }
            at += LANES;
        }
        for n in 0..N {
            if whole < cols {
                let w = rest(std::slice::from_raw_parts(w.add(n * cols), cols));
                for part in 0..R::PARTS {
                    let x = R::load(x_rest.as_ptr().add(part * R::WIDTH));
                    let w = R::load(w.as_ptr().add(part * R::WIDTH));
                    sums[n][part] = w.times_plus(x, sums[n][part]);
                }
            }
            let mut lanes = [0.0; LANES];
            for part in 0..R::PARTS {
                sums[n][part].store(lanes.as_mut_ptr().add(part * R::WIDTH));
            }
            *out.add(n) = fold(&lanes);
        }
    }
}

/// `out[o] = w[o] · x` for every row of `w` `[out.len(), x.len()]`, N of them at a time.
///
/// # Safety
/// The processor has the instructions of R.
#[inline(always)]
pub(super) unsafe fn rows_by_row<R: Register, E: Number, const N: usize>(
    w: &[E],
    x: &[f32],
    out: &mut [f32],
) {
    let cols = x.len();
    assert_eq!(w.len(), cols * out.len(), "weights of the wrong length");
    let x_rest = rest(x);
    let (rows, mut row) = (out.len(), 0);
    // SAFETY: N rows, or one, from `row` on are there, and as many outputs.
    unsafe {
        while row + N <= rows {
            let out = out.as_mut_ptr().add(row);
            rows_together::<R, E, N>(w.as_ptr().add(row * cols), x, &x_rest, out);
            row += N;
        }
        while row < rows {
            let out = out.as_mut_ptr().add(row);
            rows_together::<R, E, 1>(w.as_ptr().add(row * cols), x, &x_rest, out);
            row += 1;
        }
    }
}
