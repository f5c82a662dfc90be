//! A text that is told, on its way, and what the mind has not yet heard of the conversation.

use std::collections::VecDeque;
use std::ops::Range;

use sage_actors::protocol::Remember;

/// A text on its way into the conversation.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// What is not yet in it; the first is being read.
    pub(super) portions: VecDeque<String>,
    /// Pieces of the first.
    pub(super) pieces: Vec<Range<usize>>,
    /// Whether the portions were made.
    pub(super) is_cut: bool,
}

impl Telling {
    /// Drops portions that are nothing but white space: they are not read by themselves.
    pub(super) fn skip_blank(&mut self) {
        while self
            .portions
            .front()
            .is_some_and(|next| next.trim().is_empty())
        {
            self.portions.pop_front();
        }
    }
}

/// What the mind is to be told of the conversation.
#[derive(Debug, Default)]
pub(super) struct MemoryNews {
    /// What was said before is to be forgotten.
    pub(super) forget: bool,
    /// What was read.
    pub(super) read: Vec<Remember>,
    /// Feedback on what was read before.
    pub(super) feedback: Option<f32>,
}
