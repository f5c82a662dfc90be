//! Messages of the memory: which segments of what was read stay in the context, and which come back.

use serde::{Deserialize, Serialize};

use super::Segment;
use super::salience::Salience;

/// A segment of what was read or said, in the order of reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remember {
    /// Ascending.
    pub id: u64,
    /// Its token ids, as they count against the context.
    pub tokens: Vec<u32>,
    /// Bytes that keeping it takes.
    pub bytes: u64,
    /// What reading it measured.
    pub segment: Segment,
    /// Declared urgency of what it is a part of, in [0, 1].
    pub urgency: f32,
    /// Feedback that came since the segment before, in [-1, 1]: on that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<f32>,
}

/// Answer to [`Remember`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The five numbers, against the segments before it.
    pub salience: Salience,
    /// Segments that are forgotten for good, since there was no room.
    pub forgotten: Vec<u64>,
}

/// The context is full: which segments are to be read into it anew?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condense {
    /// Tokens of the segments that stay, at most.
    pub tokens: u32,
    /// Of these, tokens of the newest ones, at least where they fit.
    pub recent_tokens: u32,
}

/// Which segments that are not in the context resemble a question?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// The question's token ids.
    pub question: Vec<u32>,
    /// Tokens of the segments that come back, at most.
    pub tokens: u32,
}
