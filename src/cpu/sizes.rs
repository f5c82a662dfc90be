//! What computing on this machine's processor takes of its memory.

use crate::checkpoint::config::TextConfig;
use crate::core::ports::LOGIT_ROWS;
use crate::model::KvCache;
use crate::model::heads::SCORE_ROWS;

/// Bytes of keys and values of a decoder, for `tokens` tokens.
pub fn kv_bytes(config: &TextConfig, tokens: usize) -> u64 {
    let row = config.num_key_value_heads * config.head_dim;
    KvCache::bytes(config.num_hidden_layers, row, tokens)
}

/// Bytes of the activations of one chunk, at their peak: where rows see all of the context, inside a layer's experts, or
/// in the vocabulary.
pub fn workspace_bytes(config: &TextConfig, chunk_tokens: usize, context_tokens: usize) -> u64 {
    let (hidden, heads) = (
        config.hidden_size,
        config.num_attention_heads * config.head_dim,
    );
    let kv = config.num_key_value_heads * config.head_dim;
    let residual = 3 * hidden;
    let attention = 3 * heads + 3 * kv + hidden;
    let inner = config.moe_intermediate_size.max(config.intermediate_size);
    let experts =
        config.num_experts_per_tok.min(config.num_experts) * 2 * hidden + 4 * hidden + 4 * inner;
    let per_token = residual + attention.max(experts + config.num_experts * 2);
    let logits = LOGIT_ROWS * 2 * config.vocab_size;
    // Two rows of the context beside the experts have always been planned for: a recording's pool depends on them.
    let experts = chunk_tokens * per_token + context_tokens * 2;
    let scores = chunk_tokens * (residual + attention) + context_tokens * SCORE_ROWS;
    ((experts.max(scores) + logits) * size_of::<f32>()) as u64
}
