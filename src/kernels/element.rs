//! Stored numbers, and the f32 of the same value.

use half::{bf16, f16};

/// A stored number that widens to f32 without rounding.
pub trait Element: Copy + Send + Sync + 'static {
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

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen_all<const N: usize>(numbers: &[f32; N]) -> [f32; N] {
        *numbers
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Element for f16 {
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
