//! The text decoder.

use sage_actors::protocol::Module;

use super::attention::Attention;
use super::axes::Positions;
use super::embedding::Embedding;
use super::experts::{ExpertScratch, ExpertShape, Gated};
use super::kv::KvCache;
use super::rope::{Angles, RotaryTable};
use crate::checkpoint::config::TextConfig;
use crate::kernels::Matrix;
use crate::kernels::pointwise::rms_norm_rows;
use crate::spans;
use crate::store::StoreError;

/// What follows attention in a layer.
#[derive(Debug)]
pub enum FeedForward {
    /// Routed experts; only the router is resident.
    Sparse {
        /// `mlp.gate`, `[experts, hidden]`.
        router: Matrix,
    },
    /// One gated block.
    Dense {
        /// `mlp.gate_proj`.
        gate: Matrix,
        /// `mlp.up_proj`.
        up: Matrix,
        /// `mlp.down_proj`.
        down: Matrix,
    },
}

/// One decoder layer.
#[derive(Debug)]
pub struct DecoderLayer {
    /// `input_layernorm`.
    pub input_norm: Vec<f32>,
    /// `self_attn`.
    pub attention: Attention,
    /// `post_attention_layernorm`.
    pub post_norm: Vec<f32>,
    /// `mlp`.
    pub feed_forward: FeedForward,
}

/// The always-resident part of the thinker.
#[derive(Debug)]
pub struct Thinker {
    /// The text configuration.
    pub config: TextConfig,
    /// `embed_tokens`.
    pub embed_tokens: Embedding,
    /// Decoder layers in the order in which they run.
    pub layers: Vec<DecoderLayer>,
    /// `model.norm`.
    pub norm: Vec<f32>,
    /// `lm_head`; none when tied to the embedding.
    pub lm_head: Option<Matrix>,
    /// Shape of a routed expert.
    pub expert: ExpertShape,
    /// Frequencies by which positions turn queries and keys.
    pub rotary: RotaryTable,
}

impl Thinker {
    /// Embeddings of tokens, `[tokens, hidden]`. Panics on an id beyond the vocabulary: callers check.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, StoreError> {
        self.embed_tokens.rows(tokens, self.config.hidden_size)
    }

    /// Adds the attention of layer `layer` to `x` `[rows, hidden]`, with the keys and values of the layer in place `at` of the
    /// cache.
    pub fn attend(
        &self,
        layer: usize,
        at: usize,
        x: &mut [f32],
        kv: &mut KvCache,
        angles: &Angles,
        scratch: &mut ExpertScratch,
    ) {
        let _span = spans::attention(Module::Thinker, layer).entered();
        let block = &self.layers[layer];
        block.attention.add_to(
            x,
            &block.input_norm,
            at,
            kv,
            angles,
            &mut scratch.transposed,
        );
    }

    /// Input of layer `layer`'s feed-forward block: `post_attention_layernorm(x)`.
    pub fn feed_forward_input(&self, layer: usize, x: &[f32]) -> Vec<f32> {
        self.normed(x, &self.layers[layer].post_norm)
    }

    /// Router logits `[rows, experts]` of a sparse layer; none for a dense one.
    pub fn router_logits(
        &self,
        layer: usize,
        normed: &[f32],
        scratch: &mut ExpertScratch,
    ) -> Option<Vec<f32>> {
        let FeedForward::Sparse { router } = &self.layers[layer].feed_forward else {
            return None;
        };
        Some(router.product(normed, &mut scratch.transposed))
    }

    /// Output of a dense layer's block; none for a sparse one.
    pub fn dense(
        &self,
        layer: usize,
        normed: &[f32],
        scratch: &mut ExpertScratch,
    ) -> Option<Vec<f32>> {
        let FeedForward::Dense { gate, up, down } = &self.layers[layer].feed_forward else {
            return None;
        };
        let block = Gated {
            gate: gate.view(),
            up: up.view(),
            down: down.view(),
        };
        let mut out = vec![0.0; normed.len()];
        block.apply(
            normed,
            normed.len() / self.config.hidden_size,
            &mut out,
            scratch,
        );
        Some(out)
    }

    /// `model.norm(x)`, `[rows, hidden]`.
    pub fn final_norm(&self, x: &[f32]) -> Vec<f32> {
        self.normed(x, &self.norm)
    }

    /// Logits `[rows, vocabulary]` of normed rows.
    pub fn logits(&self, normed: &[f32], scratch: &mut ExpertScratch) -> Vec<f32> {
        let _span = spans::head(normed.len() / self.config.hidden_size).entered();
        let head = self.lm_head.as_ref().or(self.embed_tokens.matrix());
        // A table that is the head as well is kept.
        head.map_or_else(Vec::new, |head| {
            head.product(normed, &mut scratch.transposed)
        })
    }

    /// Cosines and sines for `positions`.
    pub fn angles(&self, positions: &Positions) -> Angles {
        self.rotary.angles(positions)
    }

    fn normed(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        rms_norm_rows(x, weight, self.config.rms_norm_eps)
    }
}
