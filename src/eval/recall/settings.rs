//! What is compared, and on what.

use std::path::PathBuf;

use super::arm::RecallArm;
use crate::core::Limit;
use crate::session::MindConfig;

/// What is compared, and on what.
#[derive(Clone, Debug)]
pub struct RecallSettings {
    /// Files of items.
    pub items: Vec<PathBuf>,
    /// Items of each file at most; none: all.
    pub most_items: Option<usize>,
    /// The rules.
    pub arms: Vec<RecallArm>,
    /// The mind; its memory's numbers are those of every arm, but for what the arm changes.
    pub mind: MindConfig,
    /// Tokens of context of every arm but the unlimited.
    pub context_tokens: usize,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Memory limit of the process.
    pub limit: Limit,
}
