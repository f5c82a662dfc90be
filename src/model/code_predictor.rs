//! The decoder of a frame's remaining codec groups.
//!
//! It starts anew with every frame: what the talker heard of the frame and its first code are its first two tokens, and
//! each code that is chosen becomes the next.

use super::attention::Attention;
use super::axes::Positions;
use super::experts::{ExpertScratch, GatedBlock};
use super::heads::Heads;
use super::kv::{KvCache, KvShape};
use super::load::{LoadError, Loader, resident_bytes};
use super::rope::RotaryTable;
use super::speech::Frame;
use super::talker_config::{CODE_PREDICTOR_PREFIX as PREFIX, config_of};
use crate::checkpoint::config::CodePredictorConfig;
use crate::formats::WeightFormat;
use crate::kernels::Matrix;
use crate::kernels::pointwise::{add_scaled, rms_norm_rows};
use crate::store::WeightSource;

#[derive(Debug)]
struct PredictorLayer {
    input_norm: Vec<f32>,
    attention: Attention,
    post_norm: Vec<f32>,
    mlp: GatedBlock,
}

/// `talker.code_predictor`: a dense decoder with a table and a head for every group but the first.
#[derive(Debug)]
pub struct CodePredictor {
    /// Sizes as config.json says them.
    pub config: CodePredictorConfig,
    layers: Vec<PredictorLayer>,
    norm: Vec<f32>,
    /// Table g - 1 holds group g's vectors, `[codes, hidden]`.
    codec_embedding: Vec<Matrix>,
    /// Head g - 1 gives group g's logits, `[codes, hidden]`.
    lm_head: Vec<Matrix>,
    rotary: RotaryTable,
}

/// Memory that frames share, one after another.
#[derive(Debug)]
pub struct FrameCache {
    kv: KvCache,
    scratch: ExpertScratch,
}

impl CodePredictor {
    /// Loads the code predictor.
    ///
    /// # Errors
    /// When the model has none, or a tensor is missing, misshapen, damaged, or stored in a format without kernels.
    pub fn load(source: &dyn WeightSource) -> Result<Self, LoadError> {
        let config = config_of(source)?.code_predictor.clone();
        let loader = Loader::new(source);
        let (hidden, dim) = (config.hidden_size, config.head_dim);
        let groups = 0..config.num_code_groups.saturating_sub(1);
        let tables = |table: &str| {
            let name = |group| format!("{PREFIX}{table}.{group}.weight");
            let groups = groups.clone();
            groups
                .map(|group| loader.matrix(&name(group), config.vocab_size, hidden))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            layers: (0..config.num_hidden_layers)
                .map(|at| layer(&loader, at, &config))
                .collect::<Result<_, _>>()?,
            norm: loader.vector(&format!("{PREFIX}model.norm.weight"), hidden)?,
            codec_embedding: tables("model.codec_embedding")?,
            lm_head: tables("lm_head")?,
            // Plain rotation: every frequency turns with time.
            rotary: RotaryTable::new(dim, config.rope_theta, [dim / 2, 0, 0]),
            config,
        })
    }

    /// Bytes of the weights that [`Self::load`] will read and keep.
    ///
    /// # Errors
    /// When the model has no talker, or a tensor that the configuration asks for is missing.
    pub fn weights_bytes(source: &dyn WeightSource) -> Result<u64, LoadError> {
        config_of(source)?;
        resident_bytes(source, |tensor| tensor.name.starts_with(PREFIX))
    }

    /// Its keys and values, as they are computed.
    pub fn kv_shape(config: &CodePredictorConfig) -> KvShape {
        KvShape {
            layers: config.num_hidden_layers,
            heads: config.num_key_value_heads,
            dim: config.head_dim,
            format: WeightFormat::F32,
        }
    }

    /// Memory for frames: keys and values of `num_code_groups` tokens.
    ///
    /// # Errors
    /// The system's, when it cannot map the memory.
    pub fn cache(&self) -> std::io::Result<FrameCache> {
        Ok(FrameCache {
            kv: KvCache::new(Self::kv_shape(&self.config), self.config.num_code_groups)?,
            scratch: ExpertScratch::default(),
        })
    }

    /// Completes a frame. `talker_hidden` is the talker's last state after its final norm, `first_embedding` its
    /// embedding of the first group's code, both `[hidden]`; `choose(group, logits)` chooses the code of group 1, 2, ….
    ///
    /// Panics when `choose` gives a code beyond the logits.
    pub fn frame(
        &self,
        talker_hidden: &[f32],
        first_embedding: &[f32],
        cache: &mut FrameCache,
        choose: &mut dyn FnMut(usize, &[f32]) -> u32,
    ) -> Frame {
        let hidden = self.config.hidden_size;
        cache.kv.truncate(0);
        let mut x = [talker_hidden, first_embedding].concat();
        let mut frame = Frame {
            codes: Vec::with_capacity(self.lm_head.len()),
            embedding_sum: first_embedding.to_vec(),
        };
        let mut embedding = vec![0.0; hidden];
        for (at, (head, table)) in self.lm_head.iter().zip(&self.codec_embedding).enumerate() {
            let last = self.step(x, cache);
            let logits = head.product(&last, &mut cache.scratch.transposed);
            let code = choose(at + 1, &logits);
            table.view().widen_row(code as usize, &mut embedding);
            add_scaled(&mut frame.embedding_sum, &embedding, 1.0);
            frame.codes.push(code);
            x = embedding.clone();
        }
        frame
    }

    /// Runs new tokens x `[rows, hidden]`; the last one's state after the final norm.
    fn step(&self, mut x: Vec<f32>, cache: &mut FrameCache) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let rows = x.len() / hidden;
        let FrameCache { kv, scratch } = cache;
        let angles = self.rotary.angles(&Positions::text(kv.len(), rows));
        for (at, layer) in self.layers.iter().enumerate() {
            let transposed = &mut scratch.transposed;
            layer
                .attention
                .add_to(&mut x, &layer.input_norm, at, kv, &angles, transposed);
            let normed = rms_norm_rows(&x, &layer.post_norm, self.config.rms_norm_eps);
            add_scaled(&mut x, &layer.mlp.apply(&normed, rows, scratch), 1.0);
        }
        kv.advance(rows);
        let last = &x[(rows - 1) * hidden..];
        rms_norm_rows(last, &self.norm, self.config.rms_norm_eps)
    }
}

fn layer(
    loader: &Loader<'_>,
    at: usize,
    config: &CodePredictorConfig,
) -> Result<PredictorLayer, LoadError> {
    let prefix = format!("{PREFIX}model.layers.{at}");
    let hidden = config.hidden_size;
    let heads = Heads {
        query: config.num_attention_heads,
        kv: config.num_key_value_heads,
        dim: config.head_dim,
    };
    Ok(PredictorLayer {
        input_norm: loader.vector(&format!("{prefix}.input_layernorm.weight"), hidden)?,
        attention: loader.attention(
            &format!("{prefix}.self_attn"),
            hidden,
            heads,
            config.attention_bias,
            config.rms_norm_eps,
        )?,
        post_norm: loader.vector(&format!("{prefix}.post_attention_layernorm.weight"), hidden)?,
        mlp: loader.gated(&format!("{prefix}.mlp"), hidden, config.intermediate_size)?,
    })
}
