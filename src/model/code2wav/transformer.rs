//! The transformer that codec frames pass before they become sound.

use super::super::attention::Projection;
use super::super::axes::Positions;
use super::super::experts::{ExpertScratch, GatedBlock};
use super::super::heads::{Heads, attend_rows};
use super::super::load::{LoadError, Loader};
use super::super::rope::{Angles, RotaryTable};
use super::Probe;
use crate::checkpoint::config::Code2WavConfig;
use crate::kernels::panel_bytes;
use crate::kernels::pointwise::{rms_norm_rows, rotate_half};

/// `pre_transformer`: pre-norm layers with a causal window and a scale a channel on what each block adds.
#[derive(Debug)]
pub(super) struct Transformer {
    layers: Vec<VocoderLayer>,
    norm: Vec<f32>,
    eps: f32,
    /// Keys that a query sees, itself included.
    window: usize,
    heads: Heads,
    rotary: RotaryTable,
}

#[derive(Debug)]
struct VocoderLayer {
    input_norm: Vec<f32>,
    q_proj: Projection,
    k_proj: Projection,
    v_proj: Projection,
    o_proj: Projection,
    attention_scale: Vec<f32>,
    post_norm: Vec<f32>,
    mlp: GatedBlock,
    mlp_scale: Vec<f32>,
}

impl VocoderLayer {
    fn load(loader: &Loader<'_>, at: usize, config: &Code2WavConfig) -> Result<Self, LoadError> {
        let prefix = format!("code2wav.pre_transformer.layers.{at}");
        let hidden = config.hidden_size;
        let kv = config.num_key_value_heads * config.head_dim();
        let vector = |name: &str| loader.vector(&format!("{prefix}.{name}"), hidden);
        let projection = |name: &str, out: usize, input: usize| {
            let name = format!("{prefix}.self_attn.{name}");
            loader.projection(&name, out, input, config.attention_bias)
        };
        Ok(Self {
            input_norm: vector("input_layernorm.weight")?,
            q_proj: projection("q_proj", hidden, hidden)?,
            k_proj: projection("k_proj", kv, hidden)?,
            v_proj: projection("v_proj", kv, hidden)?,
            o_proj: projection("o_proj", hidden, hidden)?,
            attention_scale: vector("self_attn_layer_scale.scale")?,
            post_norm: vector("post_attention_layernorm.weight")?,
            mlp: loader.gated(&format!("{prefix}.mlp"), hidden, config.intermediate_size)?,
            mlp_scale: vector("mlp_layer_scale.scale")?,
        })
    }
}

impl Transformer {
    /// Loads `code2wav.pre_transformer`.
    ///
    /// # Errors
    /// When a tensor is missing or misshapen.
    pub(super) fn load(loader: &Loader<'_>, config: &Code2WavConfig) -> Result<Self, LoadError> {
        let dim = config.head_dim();
        Ok(Self {
            layers: (0..config.num_hidden_layers)
                .map(|at| VocoderLayer::load(loader, at, config))
                .collect::<Result<_, _>>()?,
            norm: loader.vector("code2wav.pre_transformer.norm.weight", config.hidden_size)?,
            eps: config.rms_norm_eps,
            window: config.sliding_window.max(1),
            heads: Heads {
                query: config.num_attention_heads,
                kv: config.num_key_value_heads,
                dim,
            },
            // Plain rotation: every frequency turns with time.
            rotary: RotaryTable::new(dim, config.rope_theta, [dim / 2, 0, 0]),
        })
    }

    /// All layers and the last norm over x `[frames, hidden]`; positions count from 0.
    pub(super) fn apply(&self, mut x: Vec<f32>, probe: &mut Option<Probe<'_>>) -> Vec<f32> {
        let frames = x.len() / self.norm.len();
        let angles = self.rotary.angles(&Positions::text(0, frames));
        let mut scratch = ExpertScratch::default();
        for (at, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm_rows(&x, &layer.input_norm, self.eps);
            let added = self.attend(layer, &normed, frames, &angles, &mut scratch.transposed);
            add_channels(&mut x, &added, &layer.attention_scale);
            let normed = rms_norm_rows(&x, &layer.post_norm, self.eps);
            let added = layer.mlp.apply(&normed, frames, &mut scratch);
            add_channels(&mut x, &added, &layer.mlp_scale);
            if let Some(probe) = probe {
                probe(&format!("code2wav.layer_out.{at}"), &x);
            }
        }
        rms_norm_rows(&x, &self.norm, self.eps)
    }

    fn attend(
        &self,
        layer: &VocoderLayer,
        normed: &[f32],
        frames: usize,
        angles: &Angles,
        scratch: &mut Vec<f32>,
    ) -> Vec<f32> {
        let heads = self.heads;
        let mut q = layer.q_proj.apply(normed, frames, scratch);
        let mut k = layer.k_proj.apply(normed, frames, scratch);
        let v = layer.v_proj.apply(normed, frames, scratch);
        rotate(&mut q, heads.query, angles);
        rotate(&mut k, heads.kv, angles);
        let mixed = attend_rows(q, k, v, heads, |row| {
            (row + 1).saturating_sub(self.window)..row + 1
        });
        layer.o_proj.apply(&mixed, frames, scratch)
    }

    /// Bytes at most that [`Self::apply`] takes for `frames` frames, its input included.
    pub(super) fn workspace_bytes(config: &Code2WavConfig, frames: usize) -> usize {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let kv = config.num_key_value_heads * config.head_dim();
        // x, normed, q, mixed, the projection's output; keys and values.
        let attention = 5 * hidden + 2 * kv;
        // x, normed, the block's output; gate, up.
        let mlp = 3 * hidden + 2 * inner;
        let angles = config.head_dim();
        // What the buffers of a gated block keep from layer to layer.
        let rows = (attention.max(mlp) + 2 * inner + angles) * frames * size_of::<f32>();
        rows + panel_bytes(frames, hidden.max(inner))
    }
}

/// `x += added * scale`, channel by channel.
fn add_channels(x: &mut [f32], added: &[f32], scale: &[f32]) {
    let rows = x.chunks_exact_mut(scale.len());
    for (x, added) in rows.zip(added.chunks_exact(scale.len())) {
        for ((x, added), scale) in x.iter_mut().zip(added).zip(scale) {
            *x += added * scale;
        }
    }
}

fn rotate(x: &mut [f32], heads: usize, angles: &Angles) {
    for (at, head) in x.chunks_exact_mut(2 * angles.half).enumerate() {
        let turn = at / heads * angles.half..(at / heads + 1) * angles.half;
        rotate_half(head, &angles.cos[turn.clone()], &angles.sin[turn]);
    }
}
