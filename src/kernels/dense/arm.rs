//! Registers of 64-bit ARM.

use std::arch::aarch64::*;

use super::register::Register;
use crate::formats::{Number, WeightFormat};

/// 128 bits.
#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t);

// SAFETY: each method is one or a few instructions of NEON.
unsafe impl Register for Neon {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(unsafe { vdupq_n_f32(0.0) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) };
    }

    #[inline(always)]
    unsafe fn widen<E: Number>(from: *const E) -> Self {
        unsafe {
            Self(match E::FORMAT {
                WeightFormat::BF16 => {
                    vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast())))
                }
                WeightFormat::F32 => vld1q_f32(from.cast()),
                _ => vld1q_f32(E::widen_all(&*from.cast::<[E; 4]>()).as_ptr()),
            })
        }
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { vfmaq_f32(sum.0, self.0, factor.0) })
    }
}
