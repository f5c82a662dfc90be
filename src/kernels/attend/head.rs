//! Query rows, what they see, and their scores.

use std::ops::Range;

/// Query rows that share what is loaded.
pub(super) const GROUP: usize = 4;

/// Query rows over one head.
#[derive(Clone, Copy)]
pub struct HeadAttention<'a> {
    /// `[rows, dim]`.
    pub queries: &'a [f32],
    /// What each row sees of the keys.
    pub seen: &'a [Range<usize>],
    /// `[tokens, dim]`.
    pub keys: &'a [f32],
    /// `[tokens, dim]`.
    pub values: &'a [f32],
    /// Numbers of a head.
    pub dim: usize,
}

impl HeadAttention<'_> {
    /// Row `row` of the queries.
    pub(super) fn query(&self, row: usize) -> &[f32] {
        &self.queries[row * self.dim..(row + 1) * self.dim]
    }
}

/// Scores `[rows, stride]` of the keys from `first` on.
pub(super) struct Scores<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) first: usize,
}

impl Scores<'_> {
    /// Where the score of a row for a key is.
    pub(super) fn at(&self, row: usize, key: usize) -> usize {
        row * self.stride + key - self.first
    }

    pub(super) fn of(&self, row: usize, keys: &Range<usize>) -> &[f32] {
        let at = self.at(row, keys.start);
        &self.numbers[at..at + keys.len()]
    }

    pub(super) fn of_mut(&mut self, row: usize, keys: &Range<usize>) -> &mut [f32] {
        let at = self.at(row, keys.start);
        &mut self.numbers[at..at + keys.len()]
    }
}

/// `block` as far as every one of some rows sees it; empty where they see nothing together.
pub(super) fn common(seen: &[Range<usize>], block: &Range<usize>) -> Range<usize> {
    let together =
        |all: Range<usize>, one: &Range<usize>| all.start.max(one.start)..all.end.min(one.end);
    let all = seen.iter().fold(block.clone(), together);
    all.start..all.end.max(all.start)
}

/// Adds the values of `keys` to one row's output, one after the other.
#[inline(always)]
pub(super) fn mix_row(
    head: &HeadAttention<'_>,
    row: usize,
    keys: Range<usize>,
    scores: &Scores<'_>,
    out: &mut [f32],
) {
    let dim = head.dim;
    let values = head.values[keys.start * dim..keys.end * dim].chunks_exact(dim);
    let out = &mut out[row * dim..(row + 1) * dim];
    for (probability, value) in scores.of(row, &keys).iter().zip(values) {
        for (out, value) in out.iter_mut().zip(value) {
            *out = probability.mul_add(*value, *out);
        }
    }
}
