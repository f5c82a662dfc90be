//! A layer of the encoder, and the head.

use rayon::prelude::*;

use crate::checkpoint::config::AudioConfig;
use crate::kernels::pointwise::{add_scaled, gelu};

use super::super::attention::Projection;
use super::super::encoder::{LayerNorm, attend_within};
use super::super::load::{LoadError, Loader};

/// How the names of all its tensors begin.
pub(super) const PREFIX: &str = "thinker.audio_tower";

/// Of every norm of the tower.
const EPS: f32 = 1e-5;

/// Numbers that one task of a parallel section turns.
const BLOCK: usize = 4096;

/// Exact GELU of every number.
pub(super) fn gelu_all(x: &mut [f32]) {
    x.par_chunks_mut(BLOCK)
        .for_each(|x| x.iter_mut().for_each(|x| *x = gelu(*x)));
}

/// One encoder layer.
#[derive(Debug)]
pub struct EncoderLayer {
    heads: usize,
    self_attn_layer_norm: LayerNorm,
    q_proj: Projection,
    k_proj: Projection,
    v_proj: Projection,
    out_proj: Projection,
    final_layer_norm: LayerNorm,
    fc1: Projection,
    fc2: Projection,
}

impl EncoderLayer {
    pub(super) fn load(
        loader: &Loader<'_>,
        layer: usize,
        config: &AudioConfig,
    ) -> Result<Self, LoadError> {
        let prefix = format!("{PREFIX}.layers.{layer}");
        let (width, inner) = (config.d_model, config.encoder_ffn_dim);
        let norm = |name: &str| LayerNorm::load(loader, &format!("{prefix}.{name}"), width, EPS);
        let linear = |name: &str, rows, cols| {
            loader.projection(&format!("{prefix}.{name}"), rows, cols, true)
        };
        Ok(Self {
            heads: config.encoder_attention_heads,
            self_attn_layer_norm: norm("self_attn_layer_norm")?,
            q_proj: linear("self_attn.q_proj", width, width)?,
            k_proj: linear("self_attn.k_proj", width, width)?,
            v_proj: linear("self_attn.v_proj", width, width)?,
            out_proj: linear("self_attn.out_proj", width, width)?,
            final_layer_norm: norm("final_layer_norm")?,
            fc1: linear("fc1", inner, width)?,
            fc2: linear("fc2", width, inner)?,
        })
    }

    /// One window in place, `[rows, d_model]`: every row attends to every row of it.
    pub(super) fn apply(&self, x: &mut [f32], scratch: &mut Vec<f32>) {
        self.attend(x, scratch);
        self.feed_forward(x, scratch);
    }

    /// `x += out_proj(attention(norm(x)))`.
    fn attend(&self, x: &mut [f32], scratch: &mut Vec<f32>) {
        let width = self.out_proj.weight.rows();
        let rows = x.len() / width;
        let normed = self.self_attn_layer_norm.apply(x);
        let q = self.q_proj.apply(&normed, rows, scratch);
        let k = self.k_proj.apply(&normed, rows, scratch);
        let v = self.v_proj.apply(&normed, rows, scratch);
        drop(normed);
        let all = 0..rows;
        let mixed = attend_within(q, k, v, self.heads, width / self.heads, &[all]);
        add_scaled(x, &self.out_proj.apply(&mixed, rows, scratch), 1.0);
    }

    /// `x += fc2(gelu(fc1(norm(x))))`.
    fn feed_forward(&self, x: &mut [f32], scratch: &mut Vec<f32>) {
        let rows = x.len() / self.fc2.weight.rows();
        let normed = self.final_layer_norm.apply(x);
        let mut inner = self.fc1.apply(&normed, rows, scratch);
        gelu_all(&mut inner);
        add_scaled(x, &self.fc2.apply(&inner, rows, scratch), 1.0);
    }
}

/// From the encoder to the thinker.
#[derive(Debug)]
pub struct Head {
    ln_post: LayerNorm,
    proj1: Projection,
    proj2: Projection,
}

impl Head {
    pub(super) fn load(loader: &Loader<'_>, config: &AudioConfig) -> Result<Self, LoadError> {
        let (width, out) = (config.d_model, config.output_dim);
        Ok(Self {
            ln_post: LayerNorm::load(loader, &format!("{PREFIX}.ln_post"), width, EPS)?,
            proj1: loader.projection(&format!("{PREFIX}.proj1"), width, width, true)?,
            proj2: loader.projection(&format!("{PREFIX}.proj2"), out, width, true)?,
        })
    }

    /// `proj2(gelu(proj1(norm(x))))`: x `[rows, d_model]`, returns `[rows, output_dim]`.
    pub(super) fn apply(&self, x: &[f32], scratch: &mut Vec<f32>) -> Vec<f32> {
        let rows = x.len() / self.proj1.weight.rows();
        let normed = self.ln_post.apply(x);
        let mut inner = self.proj1.apply(&normed, rows, scratch);
        gelu_all(&mut inner);
        self.proj2.apply(&inner, rows, scratch)
    }
}
