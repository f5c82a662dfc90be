//! What the process of an arm says, line by line.

use serde::{Deserialize, Serialize};

use super::metrics::{DocumentResult, PartConditions};

/// The answer to an item, as tokens: the process has no tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ItemAnswer {
    pub(super) answer: Vec<u32>,
    /// Of prompt and answer.
    pub(super) tokens: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) miss_bytes: u64,
    pub(super) seconds: f64,
}

/// A line from a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WorkerMessage {
    Document(DocumentResult),
    Item(ItemAnswer),
    Done(PartConditions),
}
