//! The decoder from tokens to logits, a layer at a time.

use std::ops::Range;

use candle_core::Tensor;
use candle_nn::ops::rms_norm;

use super::ReferenceError;
use super::attention::{Rotation, attend};
use super::experts::feed_forward;
use super::weights::{Weights, table_bytes, widening_bytes};
use super::witness::ReferenceProbe;
use crate::checkpoint::config::TextConfig;
use crate::checkpoint::{Component, Role, expected_tensors};
use crate::store::WeightSource;

const EMBEDDING: &str = "thinker.model.embed_tokens.weight";
const HEAD: &str = "thinker.lm_head.weight";

/// What of the model is computed.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Decoder layers from the first on; with all of them the final norm and the logits follow.
    pub layers: usize,
    /// Tokens whose logits are wanted.
    pub logits_of: Range<usize>,
}

/// Runs the thinker on `tokens` of text, all in one pass; `witness` hears every result.
///
/// Beside the hidden states there is one matrix of weights in memory at a time; see [`working_bytes`].
///
/// # Errors
/// When a weight is missing, damaged or of another shape, or a token is unknown.
pub fn run(
    source: &dyn WeightSource,
    tokens: &[u32],
    extent: &Extent,
    witness: &mut dyn ReferenceProbe,
) -> Result<(), ReferenceError> {
    let config = &source.config().thinker.text;
    let weights = Weights(source);
    let hidden = config.hidden_size;
    let table = [config.vocab_size, hidden];
    let norm = |name: &str, x: &Tensor| -> Result<Tensor, ReferenceError> {
        let weight = weights.tensor(name, &[hidden])?;
        Ok(rms_norm(x, &weight, config.rms_norm_eps)?)
    };
    let mut x = weights.rows(EMBEDDING, table, tokens)?;
    witness.tensor("thinker.inputs_embeds", hidden, &numbers(&x)?);
    let rotation = Rotation::of_text(config, tokens.len())?;
    for layer in 0..extent.layers.min(config.num_hidden_layers) {
        let prefix = format!("thinker.model.layers.{layer}");
        let normed = norm(&format!("{prefix}.input_layernorm.weight"), &x)?;
        x = (x + attend(weights, config, layer, &normed, &rotation)?)?;
        let normed = norm(&format!("{prefix}.post_attention_layernorm.weight"), &x)?;
        x = (x + feed_forward(weights, config, layer, &normed, witness)?)?;
        witness.tensor(&format!("thinker.layer_out.{layer}"), hidden, &numbers(&x)?);
        witness.layer_done(layer);
    }
    if extent.layers < config.num_hidden_layers {
        return Ok(());
    }
    let normed = norm("thinker.model.norm.weight", &x)?;
    witness.tensor("thinker.final_norm", hidden, &numbers(&normed)?);
    if extent.logits_of.is_empty() {
        return Ok(());
    }
    let rows = normed.narrow(0, extent.logits_of.start, extent.logits_of.len())?;
    let logits = weights.product(head(config), table, &rows)?;
    witness.tensor("thinker.logits", config.vocab_size, &numbers(&logits)?);
    Ok(())
}

fn numbers(x: &Tensor) -> candle_core::Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

fn head(config: &TextConfig) -> &'static str {
    match config.tie_word_embeddings {
        true => EMBEDDING,
        false => HEAD,
    }
}

/// The most bytes that [`run`] holds at a time for `tokens` tokens, beside what the process holds already: the larger of the
/// embedding table or head as it is stored and the largest other matrix while it is widened, a layer's hidden states, and
/// the scores of one key-value head.
///
/// # Errors
/// When a tensor that the configuration asks for is missing.
pub fn working_bytes(source: &dyn WeightSource, tokens: usize) -> Result<u64, ReferenceError> {
    let config = &source.config().thinker.text;
    let mut matrix = 0;
    let mut expert_seen = false;
    for tensor in expected_tensors(source.config()) {
        if tensor.component != Component::Thinker {
            continue;
        }
        let of_expert = matches!(tensor.role, Role::Expert { .. });
        // All experts are of one shape and type.
        if of_expert && expert_seen {
            continue;
        }
        matrix = matrix.max(match &*tensor.name {
            EMBEDDING | HEAD => table_bytes(source, &tensor.name, config.hidden_size)?,
            name => widening_bytes(source, name)?,
        });
        expert_seen |= of_expert;
    }
    let heads = config.num_attention_heads * config.head_dim;
    let inner = config.intermediate_size.max(config.moe_intermediate_size);
    // Residual stream, normed, and what is added to it; queries, keys and values before and after they are turned; the
    // inner features of a gated block, three times.
    let states = tokens * (6 * config.hidden_size + 8 * heads + 3 * inner + 4 * config.num_experts);
    let group = config.num_attention_heads / config.num_key_value_heads.max(1);
    let scores = 4 * group * tokens * tokens;
    Ok(matrix + 4 * (states + scores) as u64)
}
