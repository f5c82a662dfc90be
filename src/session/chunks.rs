//! How many tokens of a prompt are read at once, where nobody says it.
//!
//! An expert is read once a chunk, and its weights serve every row of the chunk that chose it: the longer the chunk, the
//! fewer bytes and the faster the reading. A longer chunk takes more memory, which the experts then lack. Here both are
//! weighed, once, as a model is opened; a recording has what came of it.

use crate::core::EngineError;
use crate::core::limit::LimitOrigin;
use crate::core::memory::MemoryPlan;
use crate::input::Limit;

/// Lengths that may be chosen, longest first. With the last the floor is least; it is chosen wherever no other can be.
const LENGTHS: [usize; 6] = [4096, 2048, 1024, 512, 256, SHORTEST_CHUNK_TOKENS];

/// Longer ones are of no use where every expert stays in memory, and an alarm gives up what was read of a chunk.
const LONGEST_WITHOUT_LIMIT: usize = 512;

/// Tokens of the shortest chunk that is chosen where nobody says a length.
pub const SHORTEST_CHUNK_TOKENS: usize = 128;

/// A longer chunk takes at most this part of the memory that experts would have beside the shortest.
const PART_OF_POOL: u64 = 8;

/// Memory with chunks of some length.
pub(super) struct ChunkPlan {
    pub(super) chunk_tokens: usize,
    pub(super) plan: MemoryPlan,
    pub(super) limit: Limit,
    pub(super) origin: LimitOrigin,
}

impl ChunkPlan {
    /// Whether these chunks, longer than those of `least`, leave the experts nearly as much. They never bring a limit
    /// about where there would be none.
    fn spares(&self, least: &Self) -> bool {
        if self.plan.limit_bytes.is_none() && self.chunk_tokens > LONGEST_WITHOUT_LIMIT {
            return false;
        }
        if self.plan.limit_bytes.is_none() || least.plan.limit_bytes.is_none() {
            return self.plan.limit_bytes == least.plan.limit_bytes;
        }
        let more = self.plan.floor.total() - least.plan.floor.total();
        more <= least.plan.pool_bytes / PART_OF_POOL
    }
}

/// The plan with chunks of the length `asked` for; else of the longest that `context_tokens` can use and the experts can
/// spare the memory for.
///
/// # Errors
/// Those of `plan`, for the length that was asked for or the shortest.
pub(super) fn choose(
    asked: Option<usize>,
    context_tokens: usize,
    plan: impl Fn(usize) -> Result<ChunkPlan, EngineError>,
) -> Result<ChunkPlan, EngineError> {
    if let Some(asked) = asked {
        return plan(asked.max(1));
    }
    let [longer @ .., shortest] = LENGTHS;
    let least = plan(shortest)?;
    // Half of a chunk at least has to be of use.
    let useful = longer
        .into_iter()
        .filter(|length| length / 2 < context_tokens);
    let chosen = useful
        .filter_map(|length| plan(length).ok())
        .find(|longer| longer.spares(&least));
    Ok(chosen.unwrap_or(least))
}
