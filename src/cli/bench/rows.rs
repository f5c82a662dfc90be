//! The figures of every arm and length in one table, whose keys stay as they are.

use serde::Serialize;

use super::arm_report::ArmReport;
use super::figures::BenchLength;
use crate::checkpoint::Component;
use crate::model::Thinker;
use crate::store::WeightSource;

/// One length in one arm, read again in every round.
#[derive(Debug, Serialize)]
pub(super) struct BenchRow {
    arm: String,
    /// Read first, with no expert in memory.
    cold: bool,
    prompt_tokens: usize,
    /// None: no limit.
    limit_bytes: Option<u64>,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    time_to_first_token_ms: f64,
    /// Of experts that were not in memory, for each decoded token.
    bytes_per_token: f64,
    logical_hit_rate: f64,
    stall_ms_per_token: f64,
    disk_bytes_per_second: Option<f64>,
    /// Of the weights that decoding reads from memory; none where tokens have different numbers of experts.
    memory_bytes_per_second: Option<f64>,
    /// Of the arm, and so are the faults.
    peak_rss_bytes: u64,
    major_faults: u64,
}

/// The rows of an arm. `token_bytes`: weights that one decoded token reads.
pub(super) fn rows(arm: &str, report: &ArmReport, token_bytes: Option<u64>) -> Vec<BenchRow> {
    let row = |cold: bool, length: &BenchLength| {
        let figures = &length.median;
        let decode = figures.decode_tokens_per_second;
        BenchRow {
            arm: arm.to_owned(),
            cold,
            prompt_tokens: length.prompt_tokens,
            limit_bytes: report.mode.as_ref().and_then(|mode| mode.limit_bytes),
            prefill_tokens_per_second: figures.prefill_tokens_per_second,
            decode_tokens_per_second: decode,
            time_to_first_token_ms: figures.time_to_first_token_ms,
            bytes_per_token: figures.decode_bytes_per_token,
            logical_hit_rate: figures.decode_hit_rate,
            stall_ms_per_token: figures.stall_ms_per_token,
            disk_bytes_per_second: figures.disk_bytes_per_second,
            memory_bytes_per_second: token_bytes.map(|bytes| bytes as f64 * decode),
            peak_rss_bytes: report.peak_rss_bytes,
            major_faults: report.page_faults.major,
        }
    };
    let cold = std::iter::once(row(true, &report.cold));
    cold.chain(report.lengths.iter().map(|length| row(false, length)))
        .collect()
}

/// Bytes of the weights that one token reads with as many experts as were trained, or are forced: everything but the table of embeddings,
/// of which a token reads one row, unless it is the head as well. None where the model lacks a part.
pub(super) fn token_bytes(source: &dyn WeightSource, forced_k: Option<usize>) -> Option<u64> {
    let text = &source.config().thinker.text;
    let resident_bytes = Thinker::token_bytes(source).ok()?;
    let experts = text.sparse_layers().map(|layer| {
        let one = source.expert(Component::Thinker, layer, 0).ok()?;
        let k = forced_k.unwrap_or(text.num_experts_per_tok);
        Some(one.len_bytes as u64 * k as u64)
    });
    Some(resident_bytes + experts.sum::<Option<u64>>()?)
}
