//! How much of a text is scored at once, and what that takes.

use crate::checkpoint::config::TextConfig;

/// Tokens of a segment at most.
const SEGMENT_TOKENS: usize = 160;
/// Tokens of a segment at least that memory is found for.
const SEGMENT_TOKENS_MIN: usize = 16;
/// What the residual streams of a segment may take: of a large model's, fewer tokens are scored at once.
const STREAM_BYTES: usize = 16 << 20;
/// Experts of one layer that are denied together, each in a run of its own.
pub const VARIANTS: usize = 4;

/// Tokens of a segment at most, for this model.
pub fn segment_tokens(config: &TextConfig) -> usize {
    let token = (config.num_hidden_layers + 1) * config.hidden_size * size_of::<f32>();
    (STREAM_BYTES / token).clamp(SEGMENT_TOKENS_MIN, SEGMENT_TOKENS)
}

/// Memory of a shadow with one slot, at its peak.
pub fn bytes(config: &TextConfig, slot_bytes: u64) -> u64 {
    let (tokens, hidden) = (segment_tokens(config), config.hidden_size);
    let heads = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let streams = (config.num_hidden_layers + 1) * hidden;
    let attention = 3 * heads + 5 * kv + 3 * hidden + config.head_dim + tokens;
    let inner = config.moe_intermediate_size.max(config.intermediate_size);
    // Of every row of a batch: its stream, its normed copy, an expert's input, output and inner rows, router logits.
    let row = 5 * hidden + 4 * inner + 3 * config.num_experts;
    slot_bytes + (tokens * (streams + attention + VARIANTS * row) * size_of::<f32>()) as u64
}
