//! Registers of f32 lanes, one type for each instruction set.
//!
//! Their methods compile to the instructions of their set only where they are inlined into a function that enables its
//! features, so they are called from nowhere else.

use super::fold::{LANES, fold};
use crate::formats::Number;

/// Neighbouring lanes of a sum.
///
/// # Safety
/// Every method is called only on a processor that has the instruction set of the type, and every pointer leads to
/// `WIDTH` numbers.
pub(super) unsafe trait Register: Copy {
    /// Lanes of a register; divides [`LANES`].
    const WIDTH: usize;

    /// Registers that hold all lanes of a sum.
    const PARTS: usize = LANES / Self::WIDTH;

    unsafe fn zero() -> Self;

    unsafe fn load(from: *const f32) -> Self;

    unsafe fn store(self, to: *mut f32);

    /// The f32 of stored numbers.
    unsafe fn widen<E: Number>(from: *const E) -> Self;

    /// `self * factor + sum`, rounded once.
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self;

    /// Sums of `count` outputs, folded: `sums` holds for each part of the lanes a register of every output. `out` has room
    /// for 16 numbers more than `count`.
    #[inline(always)]
    unsafe fn fold_all(sums: *const f32, count: usize, out: *mut f32) {
        for at in 0..count {
            let mut lanes = [0.0f32; LANES];
            for part in 0..Self::PARTS {
                // SAFETY: a register of output `at` of this part, as the caller promises.
                unsafe {
                    let part_sums = Self::load(sums.add((part * count + at) * Self::WIDTH));
                    part_sums.store(lanes.as_mut_ptr().add(part * Self::WIDTH));
                }
            }
            // One output after the other: folded side by side, their lanes would be gathered one by one.
            // SAFETY: `out` has room.
            unsafe { *out.add(at) = fold(std::hint::black_box(&lanes)) };
        }
    }
}

/// A register of whatever width the compiler makes of four lanes.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

// SAFETY: plain arrays need no instruction set.
unsafe impl Register for Plain {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: four numbers, as the caller promises.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) };
    }

    #[inline(always)]
    unsafe fn widen<E: Number>(from: *const E) -> Self {
        // SAFETY: as above.
        Self(E::widen_all(unsafe { &*from.cast::<[E; 4]>() }))
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, mut sum: Self) -> Self {
        for lane in 0..4 {
            sum.0[lane] = self.0[lane].mul_add(factor.0[lane], sum.0[lane]);
        }
        sum
    }
}
