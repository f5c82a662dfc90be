//! Why nothing is spoken.

use crate::input::{Attributed, Fault};
use crate::model::positions::PositionsError;
use crate::model::speech::{CodesError, PromptError};

/// Why nothing is spoken.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// The engine was opened without a voice.
    #[error(
        "the model was opened without its voice: memory has to be planned for it (--speak; in a program `.speaks()`)"
    )]
    Mute,
    /// An answer that ended at once.
    #[error(
        "the answer has fewer than 2 tokens, and its last one is never said: there is nothing to speak"
    )]
    TooShort,
    /// The prompt, the answer, or the speaker.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Where the talker's prompt stands.
    #[error("positions of what the talker hears: {0}")]
    Positions(#[from] PositionsError),
    /// Codes that are no sound.
    #[error(transparent)]
    Codes(#[from] CodesError),
    /// More codes than there is memory for.
    #[error("{asked} codes are asked for, expected 2 to the {planned} that memory is planned for")]
    CodeCount {
        /// Codes at most, the end code included.
        asked: usize,
        /// `EngineOptions::codes`.
        planned: usize,
    },
}

impl Attributed for SpeechError {
    fn fault(&self) -> Fault {
        match self {
            Self::Mute
            | Self::TooShort
            | Self::Prompt(_)
            | Self::Positions(_)
            | Self::Codes(_)
            | Self::CodeCount { .. } => Fault::Request,
        }
    }
}
