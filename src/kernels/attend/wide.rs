//! Scores and mixtures in registers of 512 bits, for heads of whole multiples of 64 numbers.

// Iterators over arrays are calls that the compiler does not always inline in functions as large as these.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};
use std::ops::Range;

use super::super::wide_fold::fold_16_sums;
use super::head::{BlockRows, GROUP, HeadAttention, Scores, common, mix_row};

/// Numbers of a head come in multiples of so many.
pub(super) const DIMS: usize = 64;

/// Numbers of a register.
const WIDTH: usize = 16;

/// Registers that hold a part of a row's output.
const PARTS: usize = DIMS / WIDTH;

/// Keys whose scores are summed together with those of a group of rows.
const KEYS: usize = 4;

/// Sums over one half of the lanes of every block, that which begins at number `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn half_products(
    rows: [*const f32; GROUP],
    keys: [*const f32; KEYS],
    dim: usize,
    mut at: usize,
) -> [[__m512; GROUP]; KEYS] {
    let mut lanes = [[_mm512_setzero_ps(); GROUP]; KEYS];
    while at < dim {
        let mut query = [_mm512_setzero_ps(); GROUP];
        for row in 0..GROUP {
            // SAFETY: the caller's rows and keys have `dim` numbers, which are whole blocks of both halves.
            query[row] = unsafe { _mm512_loadu_ps(rows[row].add(at)) };
        }
        for key in 0..KEYS {
            // SAFETY: as above.
            let numbers = unsafe { _mm512_loadu_ps(keys[key].add(at)) };
            for row in 0..GROUP {
                lanes[key][row] = _mm512_fmadd_ps(numbers, query[row], lanes[key][row]);
            }
        }
        at += 2 * WIDTH;
    }
    lanes
}

/// Products of four rows with four keys, `dim` numbers each: number `KEYS * row + key`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn products(rows: [*const f32; GROUP], keys: [*const f32; KEYS], dim: usize) -> __m512 {
    // SAFETY: as the caller promises.
    let mut lanes = unsafe { half_products(rows, keys, dim, 0) };
    // SAFETY: as above.
    let high = unsafe { half_products(rows, keys, dim, WIDTH) };
    for key in 0..KEYS {
        for row in 0..GROUP {
            lanes[key][row] = _mm512_add_ps(lanes[key][row], high[key][row]);
        }
    }
    // SAFETY: this function enables the instructions.
    unsafe { fold_16_sums(|at| lanes[at % KEYS][at / KEYS]) }
}

/// The scores of a group's rows for the keys of a block.
///
/// # Safety
/// The processor has AVX-512, rows and keys are there, and `dim` is a multiple of [`DIMS`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn score(
    head: &HeadAttention<'_>,
    keys: BlockRows<'_>,
    rows: Range<usize>,
    block: Range<usize>,
    scores: &mut Scores<'_>,
) {
    // Where there are fewer than a group, the last is computed more than once.
    let row = |at: usize| head.query((rows.start + at).min(rows.end - 1)).as_ptr();
    let queries = [row(0), row(1), row(2), row(3)];
    let mut first = block.start;
    while first < block.end {
        let count = KEYS.min(block.end - first);
        let key = |at: usize| keys.from(first + at.min(count - 1), head.dim).as_ptr();
        // SAFETY: each has `dim` numbers.
        let sums = unsafe { products(queries, [key(0), key(1), key(2), key(3)], head.dim) };
        let mut numbers = [0.0; GROUP * KEYS];
        // SAFETY: a register has as many.
        unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), sums) };
        for (row, sums) in rows.clone().zip(numbers.as_chunks::<KEYS>().0) {
            let at = scores.at(row, first);
            scores.numbers[at..at + count].copy_from_slice(&sums[..count]);
        }
        first += KEYS;
    }
}

/// Adds the values of a block to the outputs of a group's rows.
///
/// # Safety
/// As for [`score`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn mix(
    head: &HeadAttention<'_>,
    values: BlockRows<'_>,
    rows: Range<usize>,
    block: Range<usize>,
    scores: &Scores<'_>,
    out: &mut [f32],
) {
    let seen = &head.seen[rows.clone()];
    let together = common(seen, &block);
    if rows.len() < GROUP || together.is_empty() {
        for row in rows {
            let keys = common(std::slice::from_ref(&head.seen[row]), &block);
            mix_row(head, row, values, keys, scores, out);
        }
        return;
    }
    for (row, seen) in rows.clone().zip(seen) {
        let keys = common(std::slice::from_ref(seen), &block);
        mix_row(head, row, values, keys.start..together.start, scores, out);
    }
    let first = rows.start;
    let of_row = |row: usize| scores.of(first + row, &together).as_ptr();
    let probabilities = [of_row(0), of_row(1), of_row(2), of_row(3)];
    let numbers = values.from(together.start, head.dim).as_ptr();
    for dims in (0..head.dim).step_by(DIMS) {
        // SAFETY: outputs of `dim` numbers, probabilities and values of every key of `together`.
        unsafe {
            let out = out.as_mut_ptr().add(first * head.dim + dims);
            mix_part(
                probabilities,
                numbers.add(dims),
                together.len(),
                head.dim,
                out,
            );
        }
    }
    for (row, seen) in rows.zip(seen) {
        let keys = common(std::slice::from_ref(seen), &block);
        mix_row(head, row, values, together.end..keys.end, scores, out);
    }
}

/// Adds `keys` values to [`DIMS`] numbers of four rows' outputs; values and outputs are `dim` numbers apart.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn mix_part(
    probabilities: [*const f32; GROUP],
    values: *const f32,
    keys: usize,
    dim: usize,
    out: *mut f32,
) {
    let mut sums = [[_mm512_setzero_ps(); PARTS]; GROUP];
    for row in 0..GROUP {
        for part in 0..PARTS {
            // SAFETY: as the caller promises.
            sums[row][part] = unsafe { _mm512_loadu_ps(out.add(row * dim + part * WIDTH)) };
        }
    }
    for key in 0..keys {
        let mut value = [_mm512_setzero_ps(); PARTS];
        for part in 0..PARTS {
            // SAFETY: as above.
            value[part] = unsafe { _mm512_loadu_ps(values.add(key * dim + part * WIDTH)) };
        }
        for row in 0..GROUP {
            // SAFETY: as above.
            let probability = _mm512_set1_ps(unsafe { *probabilities[row].add(key) });
            for part in 0..PARTS {
                sums[row][part] = _mm512_fmadd_ps(probability, value[part], sums[row][part]);
            }
        }
    }
    for row in 0..GROUP {
        for part in 0..PARTS {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(out.add(row * dim + part * WIDTH), sums[row][part]) };
        }
    }
}
