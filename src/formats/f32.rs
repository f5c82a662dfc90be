//! 32-bit floats.

use super::{Number, WeightFormat};

// SAFETY: every 32 bits are a float.
unsafe impl Number for f32 {
    const FORMAT: WeightFormat = WeightFormat::F32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen_all<const N: usize>(numbers: &[f32; N]) -> [f32; N] {
        *numbers
    }
}
