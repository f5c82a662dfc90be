//! Query rows, what they see, and their scores.

use std::ops::Range;

use crate::formats::WeightFormat;
use crate::kernels::MatrixView;

/// Query rows that share what is loaded.
pub(super) const GROUP: usize = 4;

/// Keys or values of one head, a row a token.
#[derive(Clone, Copy)]
pub enum HeadRows<'a> {
    /// `[tokens, dim]`.
    Numbers(&'a [f32]),
    /// The same in some other format: they are widened, a block at a time, and then computed with as if they had been so
    /// all along.
    Stored(MatrixView<'a>),
}

impl<'a> HeadRows<'a> {
    /// Rows as they are stored.
    pub fn of(stored: MatrixView<'a>) -> Self {
        match stored.format() {
            WeightFormat::F32 => Self::Numbers(stored.numbers()),
            _ => Self::Stored(stored),
        }
    }

    /// Tokens, where a row has `dim` numbers.
    pub(super) fn tokens(&self, dim: usize) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len() / dim,
            Self::Stored(rows) => rows.rows(),
        }
    }

    /// Rows of `keys`, in `wide` where they have to be widened.
    pub(super) fn block<'b>(
        &'b self,
        keys: &Range<usize>,
        dim: usize,
        wide: &'b mut [f32],
    ) -> BlockRows<'b> {
        let rows = match self {
            Self::Numbers(numbers) => &numbers[keys.start * dim..keys.end * dim],
            Self::Stored(stored) => {
                let wide = &mut wide[..keys.len() * dim];
                stored.widen_rows(keys.start, wide);
                wide
            }
        };
        BlockRows {
            first: keys.start,
            rows,
        }
    }
}

/// Keys or values of a block, as numbers.
#[derive(Clone, Copy)]
pub(super) struct BlockRows<'a> {
    /// The token of the first.
    first: usize,
    /// `[tokens of the block, dim]`.
    rows: &'a [f32],
}

impl<'a> BlockRows<'a> {
    /// The rows from `token` on.
    pub(super) fn from(&self, token: usize, dim: usize) -> &'a [f32] {
        &self.rows[(token - self.first) * dim..]
    }
}

/// Query rows over one head.
#[derive(Clone, Copy)]
pub struct HeadAttention<'a> {
    /// `[rows, dim]`.
    pub queries: &'a [f32],
    /// What each row sees of the keys.
    pub seen: &'a [Range<usize>],
    /// Keys, after rotation.
    pub keys: HeadRows<'a>,
    /// Values.
    pub values: HeadRows<'a>,
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
    values: BlockRows<'_>,
    keys: Range<usize>,
    scores: &Scores<'_>,
    out: &mut [f32],
) {
    let dim = head.dim;
    let values = values.from(keys.start, dim).chunks_exact(dim);
    let out = &mut out[row * dim..(row + 1) * dim];
    for (probability, value) in scores.of(row, &keys).iter().zip(values) {
        for (out, value) in out.iter_mut().zip(value) {
            *out = probability.mul_add(*value, *out);
        }
    }
}
