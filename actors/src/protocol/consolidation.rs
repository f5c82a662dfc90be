//! What Rest and Dream make of recorded episodes: scores of denied experts, frequencies of use, and what became of
//! memory.

use serde::{Deserialize, Serialize};

use super::ids::{Module, State};

/// How many tokens of a recorded segment used an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertUse {
    /// Layer index in the checkpoint.
    pub layer: u16,
    /// Number of the expert in its layer.
    pub expert: u16,
    /// Tokens that used it, at least 1.
    pub tokens: u32,
}

/// Asks the ledger which experts of a segment are to be scored next: of one layer, because they share their passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {
    /// Module that the experts are of.
    pub module: Module,
    /// Those that the segment used and that were not scored on it yet.
    pub used: Vec<ExpertUse>,
    /// At most so many.
    pub most: usize,
}

/// What came of denying one expert to the tokens that had used it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Layer index in the checkpoint.
    pub layer: u16,
    /// Number of the expert in its layer.
    pub expert: u16,
    /// Tokens that had used it and whose successor is known.
    pub tokens: u32,
    /// Sum of their losses without it minus with it, nats.
    pub increase: f64,
}

/// Recorded routing of one episode, for the cache to expect more of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habit {
    /// Module that the experts are of.
    pub module: Module,
    /// The state that it was recorded in.
    pub state: State,
    /// Where it came from.
    pub domain: String,
    /// Tokens of the episode.
    pub tokens: u32,
    /// Who worked on them.
    pub uses: Vec<ExpertUse>,
}

/// What pruning did to the memory of episodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Episodes that were merged into an earlier one nearly alike.
    pub merged: u32,
    /// Episodes that are left.
    pub kept: u32,
}
