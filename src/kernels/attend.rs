//! Attention of some query rows over the keys and values of one head, block by block, with the bits of one row alone.
//!
//! A score is a dot product over lanes, times the scale; the largest score is taken away, exponentials are summed in the
//! order of the keys, and each is divided by the sum; every number of the output sums `probability * value` in the order
//! of the keys, each with one fused multiply-add. Rows are computed together so that a key or value that was loaded serves many of them.

mod head;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::ops::Range;

use head::{BlockRows, GROUP, Scores, common, mix_row};
pub use head::{HeadAttention, HeadRows};

use super::dense::multiply_row;
use super::exp::exp_all;
use super::instructions::InstructionSet;

/// Keys that are gone through for one group of query rows after the other: with their values they stay in the second
/// cache.
const BLOCK_KEYS: usize = 256;

/// Keys or values that are widened at a time where they are not stored as they are computed with, of one head and thread.
pub const WIDENED_ROWS: usize = BLOCK_KEYS;

/// Adds the values of a block to the outputs of some rows.
type Mix = unsafe fn(
    &HeadAttention<'_>,
    values: BlockRows<'_>,
    rows: Range<usize>,
    block: Range<usize>,
    scores: &Scores<'_>,
    out: &mut [f32],
);

/// What a processor does of it in its own way: to the same bits.
#[derive(Clone, Copy)]
struct Steps {
    /// Scores of `rows` before they are scaled, for the keys of a block.
    score: unsafe fn(
        &HeadAttention<'_>,
        keys: BlockRows<'_>,
        rows: Range<usize>,
        block: Range<usize>,
        scores: &mut Scores<'_>,
    ),
    /// Scores of one row to probabilities, all but the division.
    exponentiate: unsafe fn(&mut [f32], scale: f32),
    /// Divides.
    divide: unsafe fn(&mut [f32], sum: f32),
    /// Adds the values of a block to the outputs of `rows`.
    mix: Mix,
}

impl HeadAttention<'_> {
    /// `out` `[rows, dim]`, which begins with zeros, gets what each row sees mixed; `scratch` is reused between calls.
    ///
    /// Panics when the lengths do not fit, or a row sees no key or one that is not there.
    pub fn apply(&self, scratch: &mut Vec<f32>, out: &mut [f32]) {
        self.apply_on(InstructionSet::best(), scratch, out);
    }

    fn apply_on(&self, set: InstructionSet, scratch: &mut Vec<f32>, out: &mut [f32]) {
        let rows = self.seen.len();
        assert_eq!(
            self.queries.len(),
            rows * self.dim,
            "queries of the wrong length"
        );
        assert_eq!(out.len(), rows * self.dim, "output of the wrong length");
        let first = self.seen.iter().map(|seen| seen.start).min().unwrap_or(0);
        let end = self.seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        let is_seen = |seen: &Range<usize>| !seen.is_empty();
        assert!(self.seen.iter().all(is_seen), "a row that sees no key");
        assert!(
            end <= self.keys.tokens(self.dim).min(self.values.tokens(self.dim)),
            "rows see {end} keys, more than there are"
        );
        let stride = end - first;
        let widened = match (self.keys, self.values) {
            (HeadRows::Numbers(_), HeadRows::Numbers(_)) => 0,
            _ => BLOCK_KEYS * self.dim,
        };
        scratch.resize(rows * stride + widened, 0.0);
        let (numbers, wide) = scratch.split_at_mut(rows * stride);
        let mut scores = Scores {
            numbers,
            stride,
            first,
        };
        let steps = steps(set, self.dim);
        let groups = || {
            (0..rows)
                .step_by(GROUP)
                .map(|row| row..(row + GROUP).min(rows))
        };
        let blocks = || {
            let starts = (first..end).step_by(BLOCK_KEYS);
            starts.map(|key| key..(key + BLOCK_KEYS).min(end))
        };
        // SAFETY: the processor has the instructions of `set`, and the lengths were compared above.
        unsafe {
            for block in blocks() {
                let keys = self.keys.block(&block, self.dim, wide);
                for rows in groups() {
                    (steps.score)(self, keys, rows, block.clone(), &mut scores);
                }
            }
            let scale = 1.0 / libm::sqrtf(self.dim as f32);
            for (row, seen) in self.seen.iter().enumerate() {
                (steps.exponentiate)(scores.of_mut(row, seen), scale);
            }
            for rows in groups() {
                for (row, sum) in rows.clone().zip(sums(&scores, rows, self.seen)) {
                    (steps.divide)(scores.of_mut(row, &self.seen[row]), sum);
                }
            }
            for block in blocks() {
                let values = self.values.block(&block, self.dim, wide);
                for rows in groups() {
                    (steps.mix)(self, values, rows, block.clone(), &scores, out);
                }
            }
        }
    }
}

/// The sums of the scores that each of a group's rows sees, each in the order of its keys. Side by side, because each
/// addition of a sum waits for the one before.
fn sums(scores: &Scores<'_>, rows: Range<usize>, seen: &[Range<usize>]) -> [f32; GROUP] {
    let mut of_rows = [&[][..]; GROUP];
    for (of_row, row) in of_rows.iter_mut().zip(rows) {
        *of_row = scores.of(row, &seen[row]);
    }
    let mut sums = [0.0; GROUP];
    let common = of_rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let [a, b, c, d] = of_rows.map(|row| row[..common].iter());
    for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
        sums[0] += a;
        sums[1] += b;
        sums[2] += c;
        sums[3] += d;
    }
    for (sum, row) in sums.iter_mut().zip(of_rows) {
        for score in &row[common..] {
            *sum += score;
        }
    }
    sums
}

/// The rows of a group one by one.
#[inline(always)]
fn mix_rows(
    head: &HeadAttention<'_>,
    values: BlockRows<'_>,
    rows: Range<usize>,
    block: Range<usize>,
    scores: &Scores<'_>,
    out: &mut [f32],
) {
    for row in rows {
        let keys = common(std::slice::from_ref(&head.seen[row]), &block);
        mix_row(head, row, values, keys, scores, out);
    }
}

/// `e^(x * scale - max)` of each, where max is the largest `x * scale`.
#[inline(always)]
fn exponentiate_all(scores: &mut [f32], scale: f32) {
    const WIDTH: usize = 16;
    let mut largest = [f32::NEG_INFINITY; WIDTH];
    // What is not a number is passed over, as `f32::max` does.
    let larger = |largest: &mut f32, score: f32| {
        *largest = if score > *largest { score } else { *largest };
    };
    let (blocks, rest) = scores.as_chunks_mut::<WIDTH>();
    for block in blocks {
        for (score, largest) in block.iter_mut().zip(&mut largest) {
            *score *= scale;
            larger(largest, *score);
        }
    }
    for (score, largest) in rest.iter_mut().zip(&mut largest) {
        *score *= scale;
        larger(largest, *score);
    }
    let max = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score -= max;
    }
    exp_all(scores);
}

#[inline(always)]
fn divide_all(scores: &mut [f32], sum: f32) {
    for score in scores {
        *score /= sum;
    }
}

/// One row after the other, each with all keys of the block.
fn score_rows(
    set: InstructionSet,
    head: &HeadAttention<'_>,
    keys: BlockRows<'_>,
    rows: Range<usize>,
    block: &Range<usize>,
    scores: &mut Scores<'_>,
) {
    let keys = &keys.from(block.start, head.dim)[..block.len() * head.dim];
    for row in rows {
        multiply_row(set, keys, head.query(row), scores.of_mut(row, block));
    }
}

/// The steps as compiled for one instruction set.
macro_rules! compiled {
    ($name:ident, $set:expr $(, $features:literal)?) => {
        mod $name {
            use super::{BlockRows, HeadAttention, InstructionSet, Range, Scores, Steps};

            fn score(
                head: &HeadAttention<'_>,
                keys: BlockRows<'_>,
                rows: Range<usize>,
                block: Range<usize>,
                scores: &mut Scores<'_>,
            ) {
                super::score_rows($set, head, keys, rows, &block, scores);
            }

            $(#[target_feature(enable = $features)])?
            fn exponentiate(scores: &mut [f32], scale: f32) {
                super::exponentiate_all(scores, scale);
            }

            $(#[target_feature(enable = $features)])?
            fn divide(scores: &mut [f32], sum: f32) {
                super::divide_all(scores, sum);
            }

            $(#[target_feature(enable = $features)])?
            fn mix(
                head: &HeadAttention<'_>,
                values: BlockRows<'_>,
                rows: Range<usize>,
                block: Range<usize>,
                scores: &Scores<'_>,
                out: &mut [f32],
            ) {
                super::mix_rows(head, values, rows, block, scores, out);
            }

            pub(super) const STEPS: Steps = Steps { score, exponentiate, divide, mix };
        }
    };
}

compiled!(portable, InstructionSet::Portable);
#[cfg(target_arch = "aarch64")]
compiled!(neon, InstructionSet::Neon, "neon");
#[cfg(target_arch = "x86_64")]
compiled!(avx2, InstructionSet::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(
    avx512,
    InstructionSet::Avx512,
    "avx512f,avx512bw,avx512vl,avx512dq"
);

// Only some processors have a way of their own for some dimensions.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn steps(set: InstructionSet, dim: usize) -> Steps {
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 if dim.is_multiple_of(wide::DIMS) => Steps {
            score: wide::score,
            mix: wide::mix,
            ..avx512::STEPS
        },
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => avx512::STEPS,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => avx2::STEPS,
        #[cfg(target_arch = "aarch64")]
        InstructionSet::Neon => neon::STEPS,
        InstructionSet::Portable => portable::STEPS,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MatrixView, dense};
    use super::*;
    use crate::formats::{self, WeightFormat};
    use crate::host_memory::Mapped;

    /// In [-2, 2).
    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let halves = dense::tests::numbers(seed, count);
        halves.into_iter().map(|number| 4.0 * number).collect()
    }

    /// One row in the plainest form.
    fn by_definition(query: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let dim = query.len();
        let mut scores = vec![0.0; keys.len() / dim];
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(dim)) {
            let one = std::slice::from_mut(score);
            multiply_row(InstructionSet::Portable, key, query, one);
            *score *= 1.0 / libm::sqrtf(dim as f32);
        }
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for score in &mut scores {
            *score = libm::expf(*score - max);
            sum += *score;
        }
        for (score, value) in scores.iter().zip(values.chunks_exact(dim)) {
            let probability = score / sum;
            for (out, value) in out.iter_mut().zip(value) {
                *out = probability.mul_add(*value, *out);
            }
        }
    }

    /// Numbers as a format stores them, and what they are then.
    fn rounded(format: WeightFormat, numbers: &[f32], dim: usize) -> (Mapped, Vec<f32>) {
        let bytes = format.matrix_bytes(numbers.len() / dim, dim).unwrap();
        let mut stored = Mapped::new(bytes).unwrap();
        let out = &mut stored.pages_mut()[..bytes];
        match format {
            WeightFormat::Q8_0 => formats::pack_q8_0(numbers, out),
            plain => formats::narrow(numbers, plain, out).unwrap(),
        }
        let mut wide = vec![0.0; numbers.len()];
        formats::widen_all(format, stored.bytes(), &mut wide);
        (stored, wide)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Causal rows with several heads each, and rows that see a window: more keys than a block, and fewer.
        #[test]
        fn rows_together_have_the_bits_of_rows_alone(
            dim in proptest::sample::select(vec![8usize, 20, 64, 128]),
            past in 0usize..600,
            tokens in 1usize..8,
            heads in 1usize..6,
            window in proptest::sample::select(vec![3usize, 40, 10_000]),
            seed in 0u64..1 << 40,
        ) {
            let all = past + tokens;
            let (keys, values) = (numbers(seed, all * dim), numbers(seed + 1, all * dim));
            let queries = numbers(seed + 2, tokens * heads * dim);
            let seen: Vec<_> = (0..tokens * heads)
                .map(|row| past + row / heads + 1)
                .map(|end| end.saturating_sub(window)..end)
                .collect();
            // As they are, and where they have to be widened: then the same as of what they are widened to.
            let formats = [WeightFormat::F32, WeightFormat::BF16, WeightFormat::Q8_0];
            for format in formats.into_iter().filter(|format| format.row_bytes(dim).is_some()) {
                let (stored_keys, keys) = rounded(format, &keys, dim);
                let (stored_values, values) = rounded(format, &values, dim);
                let head = HeadAttention {
                    queries: &queries,
                    seen: &seen,
                    keys: HeadRows::of(MatrixView::new(format, stored_keys.bytes(), all, dim).unwrap()),
                    values: HeadRows::of(MatrixView::new(format, stored_values.bytes(), all, dim).unwrap()),
                    dim,
                };
                for set in InstructionSet::available() {
                    let mut out = vec![0.0; queries.len()];
                    head.apply_on(set, &mut vec![7.0; 3], &mut out);
                    for (row, seen) in seen.iter().enumerate() {
                        let span = seen.start * dim..seen.end * dim;
                        let mut due = vec![0.0; dim];
                        by_definition(head.query(row), &keys[span.clone()], &values[span], &mut due);
                        for (is, due) in out[row * dim..].iter().zip(&due) {
                            proptest::prop_assert_eq!(is.to_bits(), due.to_bits(), "{} {:?}, row {}", format, set, row);
                        }
                    }
                }
            }
        }
    }
}
