//! IEEE half precision.

use half::f16;

use super::{Number, WeightFormat};

// SAFETY: every 16 bits are a half.
unsafe impl Number for f16 {
    const FORMAT: WeightFormat = WeightFormat::F16;

    /// Without a branch and without an instruction that not every processor has, so that the loops around it become
    /// vector code.
    #[inline(always)]
    fn widen(self) -> f32 {
        // Exponents of an f32 count from 112 lower: one more step, and a subtraction that is exact, for subnormals.
        const REBIAS: u32 = 112 << 23;
        const ONE_STEP: u32 = 113 << 23;
        let bits = u32::from(self.to_bits());
        let magnitude = bits & 0x7fff;
        let shifted = magnitude << 13;
        let subnormal = f32::from_bits(shifted + ONE_STEP) - f32::from_bits(ONE_STEP);
        let finite = if magnitude < 0x0400 {
            subnormal.to_bits()
        } else {
            shifted + REBIAS
        };
        let wide = if magnitude >= 0x7c00 {
            shifted | 0x7f80_0000
        } else {
            finite
        };
        f32::from_bits(wide | (bits & 0x8000) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_to_its_own_value() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (found, due) = (half.widen(), half.to_f32());
            let same = found.to_bits() == due.to_bits() || (found.is_nan() && due.is_nan());
            assert!(same, "{bits:#06x} is {found}, not {due}");
        }
    }
}
