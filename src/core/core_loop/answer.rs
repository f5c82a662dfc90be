//! What the loop completed.

use super::meter::RequestCost;
use crate::core::request::RequestKind;
use crate::core::speech::Spoken;
use crate::events::Ended;

/// An answer that the loop gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of [`super::CoreLoop::submit`].
    pub id: u64,
    /// Who asked.
    pub source: String,
    /// What it answers.
    pub want: RequestKind,
    /// The question.
    pub question: String,
    /// The answer.
    pub text: String,
    /// Its tokens, stop tokens not included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub ended: Ended,
    /// What it took.
    pub cost: RequestCost,
    /// Tokens of the whole prompt, and of it what the context held already.
    pub prompt_tokens: usize,
}

/// An answer that was spoken.
#[derive(Clone, Debug)]
pub struct SpokenAnswer {
    /// Of [`super::CoreLoop::submit`].
    pub id: u64,
    /// What was spoken, and what it took.
    pub spoken: Spoken,
}

/// What was completed in a tick.
#[derive(Clone, Debug, Default)]
pub struct Completed {
    /// Answers in words.
    pub answers: Vec<Answer>,
    /// Answers that were spoken to their end.
    pub spoken: Vec<SpokenAnswer>,
}
