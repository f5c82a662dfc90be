//! What is read, and how.

use std::path::PathBuf;

use sage_actors::config::MindConfig;

use crate::core::Limit;

/// What is read, and how.
#[derive(Clone, Debug)]
pub struct SalienceEvalSettings {
    /// A file a domain; documents are separated by `<|endoftext|>`.
    pub texts: Vec<PathBuf>,
    /// Whether control tokens that are spelled in the texts are such.
    pub control_tokens: bool,
    /// Tokens of an observation, about.
    pub piece_tokens: usize,
    /// Cuts of every ordered pair of domains, each from and to another place.
    pub cuts: usize,
    /// Pieces before a cut.
    pub before: usize,
    /// Pieces after a cut.
    pub after: usize,
    /// What follows a cut comes from the same source, and its context goes on.
    pub same_source: bool,
    /// Policies and budgets.
    pub mind: MindConfig,
    /// Memory of the process.
    pub limit: Limit,
    /// Tokens of a context.
    pub context_tokens: usize,
}
