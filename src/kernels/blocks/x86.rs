//! Sums of x86-64.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::ints::{Sums, interleave_fours};

/// Eight rows.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256i);

// SAFETY: instructions of AVX2 and FMA.
unsafe impl Sums for Avx2 {
    type Floats = __m256;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(number: i32) -> Self {
        Self(unsafe { _mm256_set1_epi32(number) })
    }

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    /// Pairs of products are below 2 * 63 * 127 and fit 16 bits.
    #[inline(always)]
    unsafe fn dot(self, w: *const u8, x: i32) -> Self {
        unsafe {
            let w = _mm256_loadu_si256(w.cast());
            let pairs = _mm256_maddubs_epi16(w, _mm256_set1_epi32(x));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            Self(_mm256_add_epi32(self.0, fours))
        }
    }

    #[inline(always)]
    unsafe fn signed_start(_x_sum: i32) -> Self {
        Self(unsafe { _mm256_setzero_si256() })
    }

    /// Magnitudes of weights, up to 128, times x with the sign of the weight, of which no byte is -128: pairs of
    /// products are at most 2 * 128 * 127 and fit 16 bits.
    #[inline(always)]
    unsafe fn signed_dot(self, w: *const u8, x: i32) -> Self {
        unsafe {
            let w = _mm256_loadu_si256(w.cast());
            let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
            let x = _mm256_sign_epi8(_mm256_set1_epi32(x), w);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), x);
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            Self(_mm256_add_epi32(self.0, fours))
        }
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { _mm256_add_epi32(_mm256_mullo_epi32(self.0, factor.0), sum.0) })
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: __m256, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, floats) };
    }

    #[inline(always)]
    unsafe fn scaled(floats: __m256, number: f32) -> __m256 {
        unsafe { _mm256_mul_ps(floats, _mm256_set1_ps(number)) }
    }

    #[inline(always)]
    unsafe fn fused(a: __m256, b: __m256, sum: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    unsafe fn fused_minus(a: __m256, b: __m256, sum: __m256) -> __m256 {
        unsafe { _mm256_fnmadd_ps(a, b, sum) }
    }
}

/// Sixteen rows.
#[derive(Clone, Copy)]
pub(super) struct Vnni(__m512i);

// SAFETY: instructions of AVX-512 with VNNI.
unsafe impl Sums for Vnni {
    type Floats = __m512;
    const ROWS: usize = 16;

    #[inline(always)]
    unsafe fn splat(number: i32) -> Self {
        Self(unsafe { _mm512_set1_epi32(number) })
    }

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn dot(self, w: *const u8, x: i32) -> Self {
        unsafe {
            let w = _mm512_loadu_si512(w.cast());
            Self(_mm512_dpbusd_epi32(self.0, w, _mm512_set1_epi32(x)))
        }
    }

    #[inline(always)]
    unsafe fn signed_start(x_sum: i32) -> Self {
        Self(unsafe { _mm512_set1_epi32(-128 * x_sum) })
    }

    #[inline(always)]
    unsafe fn signed_dot(self, w: *const u8, x: i32) -> Self {
        unsafe { self.dot(w, x) }
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { _mm512_add_epi32(_mm512_mullo_epi32(self.0, factor.0), sum.0) })
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_floats(floats: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, floats) };
    }

    #[inline(always)]
    unsafe fn scaled(floats: __m512, number: f32) -> __m512 {
        unsafe { _mm512_mul_ps(floats, _mm512_set1_ps(number)) }
    }

    #[inline(always)]
    unsafe fn fused(a: __m512, b: __m512, sum: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    unsafe fn fused_minus(a: __m512, b: __m512, sum: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, sum) }
    }

    /// Fours of sixteen rows, a square of them at a time.
    #[inline(always)]
    unsafe fn interleave(from: *const u8, stride: usize, numbers: usize, to: *mut u8) {
        let mut first = 0;
        while first + 64 <= numbers {
            unsafe {
                let mut rows = [_mm512_setzero_si512(); 16];
                for row in 0..16 {
                    rows[row] = _mm512_loadu_si512(from.add(row * stride + first).cast());
                }
                let columns = transposed(rows);
                for column in 0..16 {
                    _mm512_storeu_si512(to.add((first / 4 + column) * 64).cast(), columns[column]);
                }
            }
            first += 64;
        }
        // SAFETY: as the caller promises.
        unsafe { interleave_fours(Self::ROWS, first / 4..numbers / 4, from, stride, to) };
    }
}

/// A square of 16 words by 16 with rows and columns exchanged.
#[inline(always)]
unsafe fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    unsafe {
        let zero = _mm512_setzero_si512();
        let (mut pairs, mut fours) = ([zero; 16], [zero; 16]);
        for at in 0..8 {
            pairs[2 * at] = _mm512_unpacklo_epi32(rows[2 * at], rows[2 * at + 1]);
            pairs[2 * at + 1] = _mm512_unpackhi_epi32(rows[2 * at], rows[2 * at + 1]);
        }
        // fours[4 g + c]: in quarter q, column 4 q + c of rows 4 g to 4 g + 3.
        for g in 0..4 {
            let [a, b, c, d] = [
                pairs[4 * g],
                pairs[4 * g + 1],
                pairs[4 * g + 2],
                pairs[4 * g + 3],
            ];
            fours[4 * g] = _mm512_unpacklo_epi64(a, c);
            fours[4 * g + 1] = _mm512_unpackhi_epi64(a, c);
            fours[4 * g + 2] = _mm512_unpacklo_epi64(b, d);
            fours[4 * g + 3] = _mm512_unpackhi_epi64(b, d);
        }
        let mut columns = [zero; 16];
        for c in 0..4 {
            let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
            // Quarters 0 and 1, then 2 and 3, of two groups of rows each.
            let low_ab = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
            let high_ab = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
            let low_de = _mm512_shuffle_i32x4::<0b01_00_01_00>(d, e);
            let high_de = _mm512_shuffle_i32x4::<0b11_10_11_10>(d, e);
            columns[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_ab, low_de);
            columns[4 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_ab, low_de);
            columns[8 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high_ab, high_de);
            columns[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high_ab, high_de);
        }
        columns
    }
}
