//! What computing on this machine's processor takes of its memory.

use super::arena::{READERS, SPARE};
use crate::checkpoint::config::TextConfig;
use crate::core::ports::{EXPERT_ROWS, LOGIT_ROWS};
use crate::formats::WeightFormat;
use crate::input::KvPrecision;
use crate::kernels::WIDENED_ROWS;
use crate::model::KvShape;
use crate::model::heads::SCORE_ROWS;

/// Tokens of a chunk that go through attention, or through a dense block, at a time.
pub(super) const BLOCK_TOKENS: usize = 128;

/// The keys and values of `layers` layers of a decoder, kept in `precision`.
pub fn kv_shape(config: &TextConfig, layers: usize, precision: KvPrecision) -> KvShape {
    KvShape {
        layers,
        heads: config.num_key_value_heads,
        dim: config.head_dim,
        format: match precision {
            KvPrecision::Exact => WeightFormat::F32,
            KvPrecision::Half => WeightFormat::BF16,
            KvPrecision::Quarter => WeightFormat::Q8_0,
        },
    }
}

/// Bytes of keys and values of a decoder, for `tokens` tokens; none where its heads are not whole blocks of the format.
pub fn kv_bytes(config: &TextConfig, tokens: usize, precision: KvPrecision) -> Option<u64> {
    let shape = kv_shape(config, config.num_hidden_layers, precision);
    shape.is_sound().then(|| shape.bytes(tokens))
}

/// Bytes of what is widened of keys and values that are not kept as they are computed with: a block of rows a task.
pub fn widened_bytes(config: &TextConfig, precision: KvPrecision) -> u64 {
    match precision {
        KvPrecision::Exact => 0,
        KvPrecision::Half | KvPrecision::Quarter => {
            (TASKS * WIDENED_ROWS * config.head_dim * size_of::<f32>()) as u64
        }
    }
}

/// Tasks of attention that run at the same time, each on a thread of its own; on a machine with more threads the floor is
/// exceeded by a block for each.
const TASKS: usize = 16;

/// Bytes of the activations of one chunk, at their peak: of every token its row, the row that experts see or the one behind
/// the final norm, a row that is added to it, and the router's numbers; and beside them what exists of some tokens at a time,
/// in attention, in the experts, or in the vocabulary.
pub fn workspace_bytes(config: &TextConfig, chunk_tokens: usize, context_tokens: usize) -> u64 {
    let (hidden, heads) = (
        config.hidden_size,
        config.num_attention_heads * config.head_dim,
    );
    let kv = config.num_key_value_heads * config.head_dim;
    let k = config.num_experts_per_tok.min(config.num_experts);
    // Twice the router's numbers on their way to the mind, and twice as many experts as were trained, chosen, with weights.
    let per_token = 3 * hidden + 2 * config.num_experts + 16 * k;
    let block = chunk_tokens.min(BLOCK_TOKENS);
    let attention = block * (3 * heads + 3 * kv + 2 * hidden) + context_tokens * SCORE_ROWS;
    let dense = block * (2 * hidden + 2 * config.intermediate_size);
    let outputs = EXPERT_ROWS.min(chunk_tokens * 2 * k).max(2 * k);
    let experts = outputs * (3 * hidden + 3 * config.moe_intermediate_size);
    let logits = LOGIT_ROWS * 2 * config.vocab_size;
    let some = attention.max(dense).max(experts);
    ((chunk_tokens * per_token + some + logits) * size_of::<f32>()) as u64
}

/// Records in memory beside those that the pool counts: being read for slots that may have moved on meanwhile, and kept for the
/// next reads.
pub const READ_RECORDS: u64 = (READERS + SPARE) as u64;
