//! Why something cannot be perceived.

use crate::core::ports::TowerError;
use crate::input::{Attributed, Fault};
use crate::media::picture::PictureError;
use crate::media::sound::SoundError;
use crate::model::positions::PositionsError;

/// Why something cannot be perceived.
#[derive(Debug, thiserror::Error)]
pub enum PerceptionError {
    /// The towers.
    #[error(transparent)]
    Tower(#[from] TowerError),
    /// The file.
    #[error(transparent)]
    Sound(#[from] SoundError),
    /// The file.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The model's own rules for pictures and sounds.
    #[error("preprocessor_config.json: {0}")]
    Preprocessor(String),
    /// One sound that is too long.
    #[error(
        "the sound lasts {seconds} s, expected at most {most_seconds} s: cut it into parts, or plan memory for its {tokens} tokens ({})",
        admitting(*tokens)
    )]
    Long {
        /// Its length, rounded up.
        seconds: u64,
        /// Planned for.
        most_seconds: u32,
        /// Of all sounds of the observation.
        tokens: usize,
    },
    /// Too long or too large, together.
    #[error(
        "what is {perceived} takes {tokens} tokens, but memory is planned for {most} of one observation: shorten it, or plan for more ({})",
        admitting(*tokens)
    )]
    TooMany {
        /// Heard or seen.
        perceived: &'static str,
        /// Of all sounds, or all pictures, of the observation.
        tokens: usize,
        /// Planned for.
        most: usize,
    },
    /// A picture that is not shrunk, since decoding it takes more memory than there is for it.
    #[error(
        "the picture has {width} x {height} pixels, expected at most {limit} in all: save it smaller, or plan memory for more ({})",
        admitting(*tokens)
    )]
    Large {
        /// Pixels of a row.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Planned for.
        limit: u64,
        /// Tokens that would admit it.
        tokens: usize,
    },
    /// Its contents are missing.
    #[error("the contents of {what} {blake3} are missing: keep the files beside the recording")]
    Hollow {
        /// What it is.
        what: &'static str,
        /// Which.
        blake3: String,
    },
    /// Tokens and media do not match.
    #[error(transparent)]
    Positions(#[from] PositionsError),
}

/// What to say so that memory is planned for so many tokens.
fn admitting(tokens: usize) -> String {
    format!(
        "--media-tokens {tokens}; in a scenario `media_tokens = {tokens}`, in a program `.media_tokens({tokens})`; a context that is declared must have room for them"
    )
}

impl Attributed for PerceptionError {
    fn fault(&self) -> Fault {
        match self {
            Self::Tower(error) => error.fault(),
            Self::Sound(_)
            | Self::Picture(_)
            | Self::Preprocessor(_)
            | Self::Long { .. }
            | Self::TooMany { .. }
            | Self::Large { .. }
            | Self::Hollow { .. }
            | Self::Positions(_) => Fault::Request,
        }
    }
}
