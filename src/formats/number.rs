//! Stored numbers, and the f32 of the same value.

use super::WeightFormat;

/// A stored number that widens to f32 without rounding.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes is a value of the type, in the byte order of a file: little-endian; and
/// they are numbers of [`Self::FORMAT`].
pub(crate) unsafe trait Number: Copy + Send + Sync + 'static {
    /// The format whose numbers these are.
    const FORMAT: WeightFormat;

    /// The f32 of the same value.
    fn widen(self) -> f32;

    /// The f32 of each.
    #[inline(always)]
    fn widen_all<const N: usize>(numbers: &[Self; N]) -> [f32; N] {
        let mut wide = [0.0; N];
        let mut at = 0;
        while at < N {
            wide[at] = numbers[at].widen();
            at += 1;
        }
        wide
    }
}

/// Stored bytes as the numbers that they are; none where they do not begin or end at one.
pub(crate) fn numbers_of<T: Number>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every bit pattern is a `Number`.
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

/// The f32 of every number.
pub(crate) fn widen<T: Number>(numbers: &[T], out: &mut [f32]) {
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = number.widen();
    }
}
