//! Why an answer ended.

use serde::{Deserialize, Serialize};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// A stop token.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// The declared context is full.
    Context,
    /// The mind ran out of energy.
    Depletion,
    /// The user interrupted.
    Interrupted,
}

impl Ended {
    /// Whether the answer came to an end of its own, rather than being broken off.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Stop | Self::Length | Self::Context => true,
            Self::Depletion | Self::Interrupted => false,
        }
    }
}
