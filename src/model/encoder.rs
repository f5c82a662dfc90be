//! What the encoders of sound and pictures share: norms with a bias, and attention that looks both ways.

use std::ops::Range;

use super::heads::{Heads, attend_rows};
use super::load::{LoadError, Loader};
use crate::kernels::pointwise::layer_norm;

/// A LayerNorm with weight and bias.
#[derive(Debug)]
pub struct LayerNorm {
    /// `[width]`.
    pub weight: Vec<f32>,
    /// `[width]`.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub(super) fn load(
        loader: &Loader<'_>,
        name: &str,
        width: usize,
        eps: f32,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            weight: loader.vector(&format!("{name}.weight"), width)?,
            bias: loader.vector(&format!("{name}.bias"), width)?,
            eps,
        })
    }

    /// Every row of `x` `[rows, width]` normed.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let width = self.weight.len();
        let mut out = vec![0.0; x.len()];
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            layer_norm(x, &self.weight, &self.bias, self.eps, out);
        }
        out
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        ((self.weight.len() + self.bias.len()) * size_of::<f32>()) as u64
    }
}

/// Attention of every row over the rows of its own range and no other: `q`, `k` and `v` are `[rows, heads * dim]`, the
/// ranges follow one another and cover all rows. Returns the same shape.
pub fn attend_within(
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    heads: usize,
    dim: usize,
    ranges: &[Range<usize>],
) -> Vec<f32> {
    let shape = Heads {
        query: heads,
        kv: heads,
        dim,
    };
    attend_rows(q, k, v, shape, |row| {
        let range = ranges.partition_point(|range| range.end <= row);
        ranges.get(range).cloned().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_see_each_other() {
        let (q, k) = (vec![0.0; 4], vec![1.0; 4]);
        let v = [1.0, 3.0, 10.0, 30.0];
        // One head of one number: equal scores, so the mean of the range's values.
        let mixed = attend_within(q, k, v.to_vec(), 1, 1, &[0..2, 2..4]);
        assert_eq!(mixed, [2.0, 2.0, 20.0, 20.0]);
    }
}
