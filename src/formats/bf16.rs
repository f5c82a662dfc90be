//! Brain floats: the upper half of an f32.

use half::bf16;

use super::{Number, WeightFormat};

// SAFETY: every 16 bits are a brain float.
unsafe impl Number for bf16 {
    const FORMAT: WeightFormat = WeightFormat::BF16;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}
