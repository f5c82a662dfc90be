//! Rows of numbers laid out as the tiles of a product read them.
//!
//! A panel holds some rows side by side: for each block of columns that is gone through at a time, for each part of the
//! lanes, block after block, one register of every row. So a tile reads it from its first number to its last, aligned,
//! whatever the stride of the rows was.

use super::fold::LANES;
use super::register::Register;
use super::row::rest;
use crate::formats::Number;
use crate::kernels::prefetch::prefetch;

/// Columns that are gone through at a time: the panels of a tile stay in the first cache.
pub(super) const COLUMNS: usize = 1024;

/// Numbers that a panel is aligned to.
pub(super) const ALIGNMENT: usize = 16;

/// Columns of a row in a panel: filled up with zeros to whole blocks.
pub(in crate::kernels) fn padded(cols: usize) -> usize {
    cols.next_multiple_of(LANES)
}

/// `numbers` aligned numbers of a buffer that is reused.
pub(super) fn aligned(buffer: &mut Vec<f32>, numbers: usize) -> &mut [f32] {
    if buffer.len() < numbers + ALIGNMENT {
        // No more than is planned for.
        buffer.clear();
        buffer.reserve_exact(numbers + ALIGNMENT);
        buffer.resize(numbers + ALIGNMENT, 0.0);
    }
    let skip = buffer.as_ptr().align_offset(ALIGNMENT * size_of::<f32>());
    // A pointer of floats can always be aligned to more of them.
    &mut buffer[skip.min(ALIGNMENT)..][..numbers]
}

/// Lays out columns from `first` on, `count` of them filled up with zeros to whole blocks, of `rows` rows of `cols`
/// numbers that begin at the pointers `row(0)`, `row(1)`, … .
///
/// # Safety
/// Every row has `cols` numbers, `panel` has room for `rows * padded(count)`, and the processor has the instructions of
/// R.
#[inline(always)]
pub(super) unsafe fn fill<R: Register, E: Number>(
    row: impl Fn(usize) -> *const E,
    rows: usize,
    cols: usize,
    first: usize,
    count: usize,
    panel: *mut f32,
) {
    let blocks = padded(count) / LANES;
    let whole = count / LANES;
    let of_part = blocks * rows * R::WIDTH;
    for at in 0..rows {
        // SAFETY: columns of the row, and its places in the panel.
        unsafe {
            let from = row(at).add(first);
            let to = panel.add(at * R::WIDTH);
            for block in 0..whole {
                // What stands in this place of the rows of the next round.
                prefetch(from.wrapping_add(rows * cols + block * LANES));
                for part in 0..R::PARTS {
                    let numbers = R::widen(from.add(block * LANES + part * R::WIDTH));
                    numbers.store(to.add(part * of_part + block * rows * R::WIDTH));
                }
            }
            if whole < blocks {
                let numbers = rest(std::slice::from_raw_parts(row(at), cols));
                for part in 0..R::PARTS {
                    let numbers = R::load(numbers.as_ptr().add(part * R::WIDTH));
                    numbers.store(to.add(part * of_part + whole * rows * R::WIDTH));
                }
            }
        }
    }
}
