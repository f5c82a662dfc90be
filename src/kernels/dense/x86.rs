//! Registers of x86-64.

use std::arch::x86_64::*;

use super::register::Register;
use crate::formats::{Number, WeightFormat};
use crate::kernels::wide_fold::fold_16_sums;

/// 256 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

// SAFETY: each method is one or a few instructions of AVX2, FMA and F16C.
unsafe impl Register for Avx2 {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn widen<E: Number>(from: *const E) -> Self {
        unsafe {
            Self(match E::FORMAT {
                WeightFormat::BF16 => {
                    let upper = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
                }
                WeightFormat::F16 => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _ => _mm256_loadu_ps(from.cast()),
            })
        }
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
    }
}

/// 512 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

// SAFETY: each method is one or a few instructions of AVX-512.
unsafe impl Register for Avx512 {
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn widen<E: Number>(from: *const E) -> Self {
        unsafe {
            Self(match E::FORMAT {
                WeightFormat::BF16 => {
                    let upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
                }
                WeightFormat::F16 => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
                _ => _mm512_loadu_ps(from.cast()),
            })
        }
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    /// Sixteen outputs at a time.
    #[inline(always)]
    unsafe fn fold_all(sums: *const f32, count: usize, out: *mut f32) {
        let upper = count * Self::WIDTH;
        let mut first = 0;
        while first < count {
            // Where there are fewer than 16, the last is folded more than once.
            let lanes = |at: usize| unsafe {
                let from = sums.add((first + at).min(count - 1) * Self::WIDTH);
                _mm512_add_ps(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(upper)))
            };
            unsafe { _mm512_storeu_ps(out.add(first), fold_16_sums(lanes)) };
            first += 16;
        }
    }
}
