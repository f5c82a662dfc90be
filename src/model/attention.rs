//! Causal grouped-query attention with q/k norm and rotation.

use rayon::prelude::*;

use super::kv::KvCache;
use super::rope::Angles;
use crate::kernels::pointwise::{
    add_scaled, rms_norm_in_place, rms_norm_rows, rotate_half, softmax,
};
use crate::kernels::{InstructionSet, Matrix, matmul, multiply};

/// Heads of an attention block.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; each serves `query / kv` consecutive query heads.
    pub kv: usize,
    /// Numbers of a head.
    pub dim: usize,
}

/// One projection with its bias, where the checkpoint has one.
#[derive(Debug)]
pub struct Projection {
    /// `[out, in]`.
    pub weight: Matrix,
    /// `[out]`.
    pub bias: Option<Vec<f32>>,
}

impl Projection {
    /// `y = W x + b`: x `[rows, in]`, returns `[rows, out]`.
    pub fn apply(&self, x: &[f32], rows: usize, scratch: &mut Vec<f32>) -> Vec<f32> {
        let mut y = vec![0.0; rows * self.weight.rows()];
        matmul(self.weight.view(), x, rows, &mut y, scratch);
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(bias.len())
                .for_each(|y| add_scaled(y, bias, 1.0));
        }
        y
    }
}

/// `self_attn` of a decoder layer.
#[derive(Debug)]
pub struct Attention {
    /// Shape.
    pub heads: Heads,
    /// `q_proj`.
    pub q_proj: Projection,
    /// `k_proj`.
    pub k_proj: Projection,
    /// `v_proj`.
    pub v_proj: Projection,
    /// `o_proj`.
    pub o_proj: Projection,
    /// `q_norm`, over a head, shared by all heads.
    pub q_norm: Vec<f32>,
    /// `k_norm`.
    pub k_norm: Vec<f32>,
    /// Of the norms.
    pub eps: f32,
}

impl Attention {
    /// Attention of new tokens over everything in the cache and themselves; their keys and values are written to
    /// layer `layer` of the cache, which does not count them yet. `x` `[rows, hidden]`, returns the same shape.
    pub fn apply(
        &self,
        x: &[f32],
        rows: usize,
        layer: usize,
        kv: &mut KvCache,
        angles: &Angles,
        scratch: &mut Vec<f32>,
    ) -> Vec<f32> {
        let mut q = self.q_proj.apply(x, rows, scratch);
        let mut k = self.k_proj.apply(x, rows, scratch);
        let v = self.v_proj.apply(x, rows, scratch);
        self.norm_and_rotate(&mut q, self.heads.query, &self.q_norm, angles);
        self.norm_and_rotate(&mut k, self.heads.kv, &self.k_norm, angles);
        kv.write(layer, &k, &v);
        let past = kv.len();
        let (keys, values) = kv.layer(layer, rows);
        let mut mixed = vec![0.0; q.len()];
        let heads = self.heads;
        let attend = |(at, (q, out)): (usize, (&[f32], &mut [f32]))| {
            let (row, head) = (at / heads.query, at % heads.query);
            attend_head(
                q,
                keys,
                values,
                past + row + 1,
                head / (heads.query / heads.kv),
                heads,
                out,
            );
        };
        let work = rows * heads.query * (past + rows) * heads.dim;
        if work < 1 << 16 {
            q.chunks_exact(heads.dim)
                .zip(mixed.chunks_exact_mut(heads.dim))
                .enumerate()
                .for_each(attend);
        } else {
            q.par_chunks_exact(heads.dim)
                .zip(mixed.par_chunks_exact_mut(heads.dim))
                .enumerate()
                .for_each(attend);
        }
        self.o_proj.apply(&mixed, rows, scratch)
    }

    /// Adds [`Self::apply`] of the normed `x` `[rows, norm.len()]` to it: the first half of a pre-norm layer.
    pub fn add_to(
        &self,
        x: &mut [f32],
        norm: &[f32],
        layer: usize,
        kv: &mut KvCache,
        angles: &Angles,
        scratch: &mut Vec<f32>,
    ) {
        let normed = rms_norm_rows(x, norm, self.eps);
        let added = self.apply(&normed, x.len() / norm.len(), layer, kv, angles, scratch);
        add_scaled(x, &added, 1.0);
    }

    fn norm_and_rotate(&self, x: &mut [f32], heads: usize, norm: &[f32], angles: &Angles) {
        for (at, head) in x.chunks_exact_mut(self.heads.dim).enumerate() {
            let turn = at / heads * angles.half..(at / heads + 1) * angles.half;
            rms_norm_in_place(head, norm, self.eps);
            rotate_half(head, &angles.cos[turn.clone()], &angles.sin[turn]);
        }
    }
}

/// One query head over the first `visible` tokens of its key-value head; `out` `[dim]` starts at zero.
pub(super) fn attend_head(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    visible: usize,
    kv_head: usize,
    heads: Heads,
    out: &mut [f32],
) {
    let (row, at) = (heads.kv * heads.dim, kv_head * heads.dim);
    let scale = 1.0 / libm::sqrtf(heads.dim as f32);
    let set = InstructionSet::best();
    let mut scores = vec![0.0; visible];
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(row)) {
        multiply(
            set,
            &key[at..at + heads.dim],
            heads.dim,
            q,
            1,
            std::slice::from_mut(score),
        );
        *score *= scale;
    }
    softmax(&mut scores);
    for (probability, value) in scores.iter().zip(values.chunks_exact(row)) {
        add_scaled(out, &value[at..at + heads.dim], *probability);
    }
}
