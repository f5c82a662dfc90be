//! Integer products with one row of x, on registers of 256 bits: eight rows of weights beside each other, each read
//! where it lies.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::rounded::RoundedStrip;
use crate::formats::{Blocks, Q2K, Q4_0, Q4K, Q6K, Q8_0};
use crate::kernels::prefetch::prefetch_bytes;

/// Rows of weights together.
const ROWS: usize = 8;

/// What a block format does in registers.
///
/// # Safety
/// To be inlined into functions that enable AVX2, F16C and FMA; pointers lead to a block, and to what x has for it.
pub(in crate::kernels) unsafe trait RowBlocks: Blocks {
    /// Eight sums whose total is the block's scaled sum of products, without what BIAS takes away in formats of one group.
    unsafe fn products(block: *const u8, x: *const i8, sums: *const i16) -> __m256i;

    /// Eight sums whose total is that of mins times sums of x.
    #[inline(always)]
    unsafe fn mins(_block: *const u8, _sums: *const i16) -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
}

#[inline(always)]
unsafe fn load_x(x: *const i8, at: usize) -> __m256i {
    unsafe { _mm256_loadu_si256(x.add(at).cast()) }
}

unsafe impl RowBlocks for Q8_0 {
    /// Magnitudes of weights times x with the sign of the weight: no pair of products is beyond 2 * 128 * 127.
    #[inline(always)]
    unsafe fn products(block: *const u8, x: *const i8, _sums: *const i16) -> __m256i {
        unsafe {
            let w = _mm256_loadu_si256(block.add(2).cast());
            let x = _mm256_sign_epi8(load_x(x, 0), w);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), x);
            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
        }
    }
}

unsafe impl RowBlocks for Q4_0 {
    #[inline(always)]
    unsafe fn products(block: *const u8, x: *const i8, _sums: *const i16) -> __m256i {
        unsafe {
            let packed = _mm_loadu_si128(block.add(2).cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
            let w = _mm256_and_si256(both, _mm256_set1_epi8(15));
            // Eight is taken from every number here: what is left is signed.
            let w = _mm256_sub_epi8(w, _mm256_set1_epi8(8));
            let x = _mm256_sign_epi8(load_x(x, 0), w);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), x);
            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
        }
    }
}

/// Scales and mins of a block of [`Q4K`], eight bytes each.
#[inline(always)]
unsafe fn scales_and_mins(block: *const u8) -> (u64, u64) {
    // SAFETY: twelve bytes from the fourth on.
    let (low, high) = unsafe {
        let packed = block.add(4);
        (
            packed.cast::<u64>().read_unaligned(),
            packed.add(8).cast::<u32>().read_unaligned(),
        )
    };
    let (first, second, third) = (low as u32, (low >> 32) as u32, high);
    const SIX: u32 = 0x3f3f_3f3f;
    const FOUR: u32 = 0x0f0f_0f0f;
    const UPPER: u32 = 0x3030_3030;
    let scales = u64::from(first & SIX) | u64::from((third & FOUR) | (first >> 2 & UPPER)) << 32;
    let mins =
        u64::from(second & SIX) | u64::from((third >> 4 & FOUR) | (second >> 2 & UPPER)) << 32;
    (scales, mins)
}

/// The scale of one group in every place of 16 bits; both halves of `all` hold the same eight scales.
#[inline(always)]
unsafe fn one_scale(all: __m256i, group: usize) -> __m256i {
    let places = ((2 * group) | ((2 * group + 1) << 8)) as i16;
    unsafe { _mm256_shuffle_epi8(all, _mm256_set1_epi16(places)) }
}

unsafe impl RowBlocks for Q4K {
    #[inline(always)]
    unsafe fn products(block: *const u8, x: *const i8, _sums: *const i16) -> __m256i {
        unsafe {
            let (scales, _) = scales_and_mins(block);
            let scales = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(scales as i64));
            let scales = _mm256_broadcastsi128_si256(scales);
            let mask = _mm256_set1_epi8(15);
            let mut total = _mm256_setzero_si256();
            for at in 0..4 {
                let packed = _mm256_loadu_si256(block.add(16 + at * 32).cast());
                let low = _mm256_and_si256(packed, mask);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), mask);
                let low = _mm256_maddubs_epi16(low, load_x(x, at * 64));
                let high = _mm256_maddubs_epi16(high, load_x(x, at * 64 + 32));
                total = _mm256_add_epi32(total, _mm256_madd_epi16(low, one_scale(scales, 2 * at)));
                total = _mm256_add_epi32(
                    total,
                    _mm256_madd_epi16(high, one_scale(scales, 2 * at + 1)),
                );
            }
            total
        }
    }

    #[inline(always)]
    unsafe fn mins(block: *const u8, sums: *const i16) -> __m256i {
        unsafe {
            let (_, mins) = scales_and_mins(block);
            let mins = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(mins as i64));
            let taken = _mm_madd_epi16(mins, _mm_loadu_si128(sums.cast()));
            _mm256_zextsi128_si256(taken)
        }
    }
}

/// The scale of one group in the lower 16 bytes' places of 16 bits, of the next in the upper ones.
#[inline(always)]
unsafe fn two_scales(all: __m256i, pair: usize) -> __m256i {
    // Both halves of `all` hold the same eight scales.
    let at = (2 * pair) % 8;
    let places = |group: usize| ((2 * group) | ((2 * group + 1) << 8)) as i16;
    unsafe {
        let low = _mm_set1_epi16(places(at));
        let high = _mm_set1_epi16(places(at + 1));
        _mm256_shuffle_epi8(all, _mm256_set_m128i(high, low))
    }
}

unsafe impl RowBlocks for Q6K {
    #[inline(always)]
    unsafe fn products(block: *const u8, x: *const i8, _sums: *const i16) -> __m256i {
        unsafe {
            let scales = _mm256_cvtepi8_epi16(_mm_loadu_si128(block.add(192).cast()));
            let halves = [
                _mm256_permute4x64_epi64::<0b01_00_01_00>(scales),
                _mm256_permute4x64_epi64::<0b11_10_11_10>(scales),
            ];
            let (four, two) = (_mm256_set1_epi8(15), _mm256_set1_epi8(3));
            let bias = _mm256_set1_epi8(32);
            let mut total = _mm256_setzero_si256();
            for half in 0..2 {
                let first = _mm256_loadu_si256(block.add(half * 64).cast());
                let second = _mm256_loadu_si256(block.add(half * 64 + 32).cast());
                let upper = _mm256_loadu_si256(block.add(128 + half * 32).cast());
                // The upper two bits of each byte's number, in place.
                let upper_0 = _mm256_slli_epi16::<4>(_mm256_and_si256(upper, two));
                let upper_1 =
                    _mm256_slli_epi16::<2>(_mm256_and_si256(upper, _mm256_slli_epi16::<2>(two)));
                let upper_2 = _mm256_and_si256(upper, _mm256_slli_epi16::<4>(two));
                let upper_3 =
                    _mm256_srli_epi16::<2>(_mm256_and_si256(upper, _mm256_slli_epi16::<6>(two)));
                let lower_2 = _mm256_srli_epi16::<4>(first);
                let lower_3 = _mm256_srli_epi16::<4>(second);
                let numbers = [
                    _mm256_or_si256(_mm256_and_si256(first, four), upper_0),
                    _mm256_or_si256(_mm256_and_si256(second, four), upper_1),
                    _mm256_or_si256(_mm256_and_si256(lower_2, four), upper_2),
                    _mm256_or_si256(_mm256_and_si256(lower_3, four), upper_3),
                ];
                for at in 0..4 {
                    let x = load_x(x, half * 128 + at * 32);
                    let pairs = _mm256_maddubs_epi16(numbers[at], x);
                    let pairs = _mm256_sub_epi16(pairs, _mm256_maddubs_epi16(bias, x));
                    let scaled = _mm256_madd_epi16(pairs, two_scales(halves[half], at));
                    total = _mm256_add_epi32(total, scaled);
                }
            }
            total
        }
    }
}

unsafe impl RowBlocks for Q2K {
    #[inline(always)]
    unsafe fn products(block: *const u8, x: *const i8, _sums: *const i16) -> __m256i {
        unsafe {
            let packed = _mm_and_si128(_mm_loadu_si128(block.cast()), _mm_set1_epi8(15));
            let scales = _mm256_cvtepu8_epi16(packed);
            let halves = [
                _mm256_permute4x64_epi64::<0b01_00_01_00>(scales),
                _mm256_permute4x64_epi64::<0b11_10_11_10>(scales),
            ];
            let mask = _mm256_set1_epi8(3);
            let mut total = _mm256_setzero_si256();
            for half in 0..2 {
                let stored = _mm256_loadu_si256(block.add(16 + half * 32).cast());
                let numbers = [
                    stored,
                    _mm256_srli_epi16::<2>(stored),
                    _mm256_srli_epi16::<4>(stored),
                    _mm256_srli_epi16::<6>(stored),
                ];
                for at in 0..4 {
                    let x = load_x(x, half * 128 + at * 32);
                    let pairs = _mm256_maddubs_epi16(_mm256_and_si256(numbers[at], mask), x);
                    let scaled = _mm256_madd_epi16(pairs, two_scales(halves[half], at));
                    total = _mm256_add_epi32(total, scaled);
                }
            }
            total
        }
    }

    #[inline(always)]
    unsafe fn mins(block: *const u8, sums: *const i16) -> __m256i {
        unsafe {
            let stored = _mm_loadu_si128(block.cast());
            let mins = _mm_and_si128(_mm_srli_epi16::<4>(stored), _mm_set1_epi8(15));
            _mm256_madd_epi16(_mm256_cvtepu8_epi16(mins), _mm256_loadu_si256(sums.cast()))
        }
    }
}

/// The total of each of eight registers.
#[inline(always)]
unsafe fn totals(rows: [__m256i; ROWS]) -> __m256i {
    unsafe {
        let [a, b, c, d, e, f, g, h] = rows;
        let first = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let second = _mm256_hadd_epi32(_mm256_hadd_epi32(e, f), _mm256_hadd_epi32(g, h));
        // Halves of the first four, then of the second.
        let low = _mm256_permute2x128_si256::<0x20>(first, second);
        let high = _mm256_permute2x128_si256::<0x31>(first, second);
        _mm256_add_epi32(low, high)
    }
}

/// A half of each of eight blocks, widened.
#[inline(always)]
unsafe fn halves(blocks: [*const u8; ROWS], at: usize) -> __m256 {
    unsafe {
        let half = |row: usize| blocks[row].add(at).cast::<i16>().read_unaligned();
        let all = _mm_set_epi16(
            half(7),
            half(6),
            half(5),
            half(4),
            half(3),
            half(2),
            half(1),
            half(0),
        );
        _mm256_cvtph_ps(all)
    }
}

/// `out[o] = w[o] · x` for every row of `w` `[out.len(), blocks]`, and a strip of one row.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows_by_row<B: RowBlocks>(w: &[u8], x: RoundedStrip<'_>, out: &mut [f32]) {
    let blocks = x.scales.len();
    let row_bytes = blocks * B::BYTES;
    assert_eq!(
        w.len(),
        row_bytes * out.len(),
        "weights of the wrong length"
    );
    assert_eq!(
        x.bytes.len(),
        blocks * B::NUMBERS,
        "input of the wrong length"
    );
    let rows = out.len();
    let groups = B::NUMBERS / B::GROUP;
    for first in (0..rows).step_by(ROWS) {
        // Where there are fewer, the last is computed more than once.
        let mut at = [w.as_ptr(); ROWS];
        for (row, at) in at.iter_mut().enumerate() {
            *at = w[(first + row).min(rows - 1) * row_bytes..].as_ptr();
        }
        // SAFETY: blocks of each row, and what x has for them.
        unsafe {
            let mut sums = _mm256_setzero_ps();
            for block in 0..blocks {
                let bytes = x.bytes.as_ptr().add(block * B::NUMBERS);
                let x_sums = x.sums.as_ptr().add(block * groups);
                let x_scale = _mm256_set1_ps(*x.scales.as_ptr().add(block));
                let mut products = [_mm256_setzero_si256(); ROWS];
                for row in 0..ROWS {
                    products[row] = B::products(at[row], bytes, x_sums);
                }
                let scale = _mm256_mul_ps(halves(at, B::D_AT), x_scale);
                sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals(products)), scale, sums);
                if B::HAS_MINS {
                    let mut mins = [_mm256_setzero_si256(); ROWS];
                    for row in 0..ROWS {
                        mins[row] = B::mins(at[row], x_sums);
                    }
                    let scale = _mm256_mul_ps(halves(at, B::D_MIN_AT), x_scale);
                    sums = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(totals(mins)), scale, sums);
                }
                for at in &mut at {
                    // The rows of the next round stand right behind these: each begins too soon for the processor to see
                    // by itself what comes. Nothing is read there, so it need not be there.
                    let ahead = at.wrapping_add(ROWS * row_bytes);
                    prefetch_bytes(ahead, B::BYTES);
                    *at = at.add(B::BYTES);
                }
            }
            let mut all = [0.0; ROWS];
            _mm256_storeu_ps(all.as_mut_ptr(), sums);
            let count = ROWS.min(rows - first);
            out[first..first + count].copy_from_slice(&all[..count]);
        }
    }
}
