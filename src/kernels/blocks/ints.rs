//! Registers of 32-bit sums, one for each row of weights that is multiplied together.

use std::ops::Range;

/// Sums of as many rows of weights as the register has.
///
/// # Safety
/// As for the registers of floats: called only where the instruction set is enabled and there, and with pointers to as
/// much as a register holds.
pub(super) unsafe trait Sums: Copy {
    /// Floats for as many rows.
    type Floats: Copy;

    /// Rows of weights of a register.
    const ROWS: usize;

    unsafe fn splat(number: i32) -> Self;

    unsafe fn load(from: *const i32) -> Self;

    /// Adds, for every row, the products of four unsigned numbers of weights below 64 with the four bytes of `x`.
    unsafe fn dot(self, w: *const u8, x: i32) -> Self;

    /// Where sums over signed weights begin, for x whose bytes add up to `x_sum`.
    unsafe fn signed_start(x_sum: i32) -> Self;

    /// As [`Self::dot`], for signed weights that are stored 128 too high.
    unsafe fn signed_dot(self, w: *const u8, x: i32) -> Self;

    /// `self * factor + sum`.
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self;

    unsafe fn to_floats(self) -> Self::Floats;

    unsafe fn load_floats(from: *const f32) -> Self::Floats;

    /// Halves, widened.
    unsafe fn load_halves(from: *const u16) -> Self::Floats;

    unsafe fn store_floats(floats: Self::Floats, to: *mut f32);

    /// `floats * number`.
    unsafe fn scaled(floats: Self::Floats, number: f32) -> Self::Floats;

    /// `a * b + sum`, rounded once.
    unsafe fn fused(a: Self::Floats, b: Self::Floats, sum: Self::Floats) -> Self::Floats;

    /// `sum - a * b`, rounded once.
    unsafe fn fused_minus(a: Self::Floats, b: Self::Floats, sum: Self::Floats) -> Self::Floats;

    /// Lays out four numbers of each of `ROWS` rows side by side: rows begin `stride` bytes apart, `to` is
    /// `[numbers / 4, ROWS, 4]`; `numbers` is a multiple of 32.
    #[inline(always)]
    unsafe fn interleave(from: *const u8, stride: usize, numbers: usize, to: *mut u8) {
        // SAFETY: as the caller promises.
        unsafe { interleave_fours(Self::ROWS, 0..numbers / 4, from, stride, to) };
    }
}

/// Lays out the fours `fours` of every row, one by one.
///
/// # Safety
/// As for [`Sums::interleave`].
#[inline(always)]
pub(super) unsafe fn interleave_fours(
    rows: usize,
    fours: Range<usize>,
    from: *const u8,
    stride: usize,
    to: *mut u8,
) {
    for at in fours {
        for row in 0..rows {
            // SAFETY: four numbers of a row, and their place.
            unsafe {
                let four = from.add(row * stride + at * 4).cast::<u32>();
                let place = to.add((at * rows + row) * 4).cast::<u32>();
                place.write_unaligned(four.read_unaligned());
            }
        }
    }
}
