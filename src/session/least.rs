//! The least memory that a model runs in.

use super::chunks::SHORTEST_CHUNK_TOKENS;
use super::kv_choice;
use super::opening::{EngineOptions, PlannedMemory, plan};
use crate::core::EngineError;
use crate::core::limit::LimitPolicy;
use crate::input::Limit;
use crate::store::WeightSource;

/// Memory without a limit, with the least floor: a limit of so much is the least under which the model opens. Its chunks are
/// those that were asked for, else the shortest; its keys and values are kept as was asked for, else as takes the least.
///
/// # Errors
/// When the context is too long, or a tensor is missing.
pub fn least_plan(
    source: &dyn WeightSource,
    options: &EngineOptions,
) -> Result<PlannedMemory, EngineError> {
    let unlimited = |kv| {
        let options = EngineOptions {
            kv: Some(kv),
            chunk_tokens: options.chunk_tokens.or(Some(SHORTEST_CHUNK_TOKENS)),
            limit: Limit::None,
            limit_policy: LimitPolicy::AsGiven,
            ..options.clone()
        };
        plan(source, &options)
    };
    let asked = kv_choice::asked(options.kv, &options.mind);
    kv_choice::least(asked, unlimited, |planned| planned.memory.floor.total())
}
