//! Dot products of quantised blocks with rows of x that are rounded to bytes: the same bits on every instruction set.
//!
//! x is rounded block by block ([`rounded`]). The products of a group of weights with x are summed in integers, multiplied
//! by the group's integer scale, and summed to the end of the block: exactly, so in any order. The block's total becomes
//! one f32, and is added to the row's sum, times `d * scale of x`, with one fused multiply-add; where the format has mins,
//! the total of `min * sum of x` is taken away likewise, right behind it. Blocks follow each other in ascending order.

#[cfg(target_arch = "x86_64")]
mod compiled;
#[cfg(target_arch = "x86_64")]
mod ints;
mod plain;
mod rounded;
#[cfg(target_arch = "x86_64")]
mod row_avx2;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
use std::cell::RefCell;

use rounded::Cut;
pub(super) use rounded::{RoundedRows, words};
#[cfg(target_arch = "x86_64")]
use row_avx2::RowBlocks;

use super::dense::Outputs;
use super::instructions::InstructionSet;
use crate::formats::Blocks;
// There all of it is computed in the plain form.
#[cfg(not(target_arch = "x86_64"))]
use crate::formats::Blocks as RowBlocks;

/// Rows of x that are rounded at a time: weights are unpacked once for all of them.
pub(super) const X_ROWS: usize = 512;

#[cfg(target_arch = "x86_64")]
thread_local! {
    /// Weights of a task, laid out.
    static LAID: RefCell<tile::Laid> = RefCell::default();
}

/// Whether the processor multiplies bytes in registers of 512 bits.
#[cfg(target_arch = "x86_64")]
fn has_vnni(set: InstructionSet) -> bool {
    set == InstructionSet::Avx512 && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// Rounds the rows of x `[rows, cols]` for products with blocks of B; `buffer` is reused between calls.
pub(super) fn round<'a, B: Blocks>(
    set: InstructionSet,
    x: &[f32],
    rows: usize,
    buffer: &'a mut Vec<f32>,
) -> RoundedRows<'a> {
    let cut = Cut {
        cols: x.len() / rows,
        block: B::NUMBERS,
        group: B::GROUP,
    };
    match set {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the set is this processor's.
        InstructionSet::Avx2 | InstructionSet::Avx512 => unsafe {
            compiled::round(x, rows, cut, tile::TILE_X, buffer)
        },
        _ => rounded::round_rows(x, rows, cut, 1, buffer),
    }
}

/// Every row of `w` `[rows, blocks]` times every row of x.
///
/// # Safety
/// `out` leads to places for as many outputs of every row of x, of which nobody else knows meanwhile.
pub(super) unsafe fn multiply<B: RowBlocks>(
    set: InstructionSet,
    w: &[u8],
    x: RoundedRows<'_>,
    out: Outputs,
) {
    let row_bytes = x.cut.cols / B::NUMBERS * B::BYTES;
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 | InstructionSet::Avx512 => {
            // SAFETY: the set is this processor's, and the caller promises `out`.
            unsafe {
                if x.rows == 1 {
                    let out = std::slice::from_raw_parts_mut(out.at(0, 0), w.len() / row_bytes);
                    return row_avx2::rows_by_row::<B>(w, x.strip(0, 1), out);
                }
                LAID.with_borrow_mut(|laid| {
                    if has_vnni(set) {
                        compiled::tiles_vnni::<B>(w, x, out, laid);
                    } else {
                        compiled::tiles_avx2::<B>(w, x, out, laid);
                    }
                });
            }
        }
        _ => {
            for (o, w) in w.chunks_exact(row_bytes).enumerate() {
                for row in 0..x.rows {
                    // SAFETY: as the caller promises.
                    unsafe { *out.at(row, o) = plain::dot::<B>(w, x.strip(row, 1)) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
