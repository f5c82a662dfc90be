//! Sixteen registers of 512 bits, each folded to one number, together.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_shuffle_ps, _mm512_unpackhi_pd, _mm512_unpacklo_pd,
};

/// Two lots of eight neighbouring sums that were sixteen: of `a` in the lower half, of `b` in the upper.
#[inline(always)]
unsafe fn fold_16(a: __m512, b: __m512) -> __m512 {
    unsafe {
        let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
        let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
        _mm512_add_ps(low, high)
    }
}

/// Four lots of four that were eight: of the two of `a`, then of the two of `b`.
#[inline(always)]
unsafe fn fold_8(a: __m512, b: __m512) -> __m512 {
    unsafe {
        let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
        _mm512_add_ps(low, high)
    }
}

/// Eight lots of two that were four: in each quarter one of `a`, then one of `b`.
#[inline(always)]
unsafe fn fold_4(a: __m512, b: __m512) -> __m512 {
    unsafe {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        let high = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        _mm512_add_ps(low, high)
    }
}

/// Sixteen sums that were pairs: in each quarter two of `a`, then two of `b`.
#[inline(always)]
unsafe fn fold_2(a: __m512, b: __m512) -> __m512 {
    unsafe {
        let even = _mm512_shuffle_ps::<0b10_00_10_00>(a, b);
        let odd = _mm512_shuffle_ps::<0b11_01_11_01>(a, b);
        _mm512_add_ps(even, odd)
    }
}

/// The sum of each of sixteen registers, folded in the order 8, 4, 2, 1; number i is that of `lanes(i)`.
///
/// # Safety
/// To be inlined into a function that enables AVX-512.
#[inline(always)]
pub(super) unsafe fn fold_16_sums(lanes: impl Fn(usize) -> __m512) -> __m512 {
    unsafe {
        let mut quarters = [_mm512_setzero_ps(); 4];
        let mut at = 0;
        while at < 4 {
            let low = fold_16(lanes(at), lanes(at + 4));
            let high = fold_16(lanes(at + 8), lanes(at + 12));
            quarters[at] = fold_8(low, high);
            at += 1;
        }
        let [a, b, c, d] = quarters;
        fold_2(fold_4(a, b), fold_4(c, d))
    }
}
