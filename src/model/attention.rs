//! Causal grouped-query attention with q/k norm and rotation.

use super::heads::{self, Heads};
use super::kv::KvCache;
use super::rope::Angles;
use crate::kernels::pointwise::{
    add_scaled, for_each_row, rms_norm_in_place, rms_norm_rows, rotate_half,
};
use crate::kernels::{Matrix, matmul};

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
        let (past, kv) = (kv.len(), &*kv);
        heads::attend(
            &mut q,
            self.heads,
            |head| kv.head(layer, head, rows),
            |row| 0..past + row + 1,
        );
        self.o_proj.apply(&q, rows, scratch)
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
        let turn = |(token, x): (usize, &mut [f32])| {
            let at = token * angles.half..(token + 1) * angles.half;
            for head in x.chunks_exact_mut(self.heads.dim) {
                rms_norm_in_place(head, norm, self.eps);
                rotate_half(head, &angles.cos[at.clone()], &angles.sin[at.clone()]);
            }
        };
        for_each_row(x, heads * self.heads.dim, turn);
    }
}
