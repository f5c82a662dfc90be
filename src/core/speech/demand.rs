//! What speaking takes of the floor.

use crate::checkpoint::config::TalkerConfig;
use crate::core::EngineError;
use crate::core::memory::workspace_bytes;
use crate::host_memory::round_up_to_page;
use crate::model::code2wav::{CHUNK_FRAMES, LEFT_CONTEXT_FRAMES};
use crate::model::{Code2Wav, CodePredictor, KvCache, Talker};
use crate::store::WeightSource;

/// Rows of a talker's prompt beyond those of the thinker's: six that say how to speak.
pub(super) const EXTRA_ROWS: usize = 9;

/// Memory for speech, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeechDemand {
    /// Routed experts of the talker.
    pub experts: usize,
    /// What one of them takes in memory: whole pages.
    pub slot_bytes: u64,
    /// Experts that one token uses in training: no lease window is smaller.
    pub k_trained: usize,
    /// Weights, caches, activations, and what is kept of the thinker; everything but experts.
    pub bytes: u64,
}

/// What speaking takes for an answer in `context_tokens` tokens and `codes` codes, the prompt read in chunks.
///
/// # Errors
/// When the model has no talker, no code predictor or no vocoder.
pub fn demand(
    source: &dyn WeightSource,
    context_tokens: usize,
    chunk_tokens: usize,
    codes: usize,
) -> Result<SpeechDemand, EngineError> {
    let (expert, talker_bytes) = Talker::sizes(source)?;
    let weights =
        talker_bytes + CodePredictor::weights_bytes(source)? + Code2Wav::weights_bytes(source)?;
    let absent = || crate::model::load::LoadError::Absent {
        component: crate::checkpoint::Component::Talker,
        key: "talker_config",
    };
    let config = source.config().talker.as_ref().ok_or_else(absent)?;
    let vocoder = source.config().code2wav.as_ref();
    let (text, groups) = (&config.text, config.num_code_groups);
    let predictor = &config.code_predictor;
    let rows = context_tokens + EXTRA_ROWS + codes;
    let row = text.num_key_value_heads * text.head_dim;
    let predictor_row = predictor.num_key_value_heads * predictor.head_dim;
    let caches = KvCache::bytes(text.num_hidden_layers, row, rows)
        + KvCache::bytes(predictor.num_hidden_layers, predictor_row, groups);
    let frames = codes.min(CHUNK_FRAMES + LEFT_CONTEXT_FRAMES);
    // The prompt is made before the first frame, and no sound before that.
    let making = vocoder.map_or(0, |config| Code2Wav::workspace_bytes(config, frames));
    let making = making.max(prompt_bytes(config, context_tokens));
    let shared = chunk_tokens * 3 * text.shared_expert_intermediate_size * size_of::<f32>();
    Ok(SpeechDemand {
        experts: text.num_hidden_layers * text.num_experts,
        slot_bytes: round_up_to_page(expert.bytes()) as u64,
        k_trained: text.num_experts_per_tok,
        bytes: weights
            + caches
            + kept_bytes(config, context_tokens, chunk_tokens)
            + making
            + workspace_bytes(text, chunk_tokens, rows)
            + (shared + codes * groups * size_of::<u32>()) as u64,
    })
}

/// Of every fed token its embedding and a hidden state, and once more those of a chunk on their way; then the rows made of them.
fn kept_bytes(config: &TalkerConfig, context_tokens: usize, chunk_tokens: usize) -> u64 {
    let of_thinker = 2 * (context_tokens + chunk_tokens) * config.thinker_hidden_size;
    let rows = 3 * (context_tokens + EXTRA_ROWS) * config.text.hidden_size;
    ((of_thinker + rows) * size_of::<f32>()) as u64
}

/// Making the prompt: rows gathered and joined, between the projections' layers, turned for the product.
fn prompt_bytes(config: &TalkerConfig, context_tokens: usize) -> u64 {
    let a_row = 4 * config.thinker_hidden_size
        + 2 * config.text.intermediate_size
        + config.text.hidden_size;
    ((context_tokens + EXTRA_ROWS) * a_row * size_of::<f32>()) as u64
}
