//! Sounds and pictures on the command line.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::checkpoint::config::ThinkerConfig;
use crate::core::EngineError;
use crate::core::perception::{PerceptionError, placeholder};
use crate::media::medium::{Medium, MediumKind};
use crate::session::opening::MEDIA_TOKENS;

/// What is seen and heard, and how much of it memory is planned for.
#[derive(Args, Debug, Default)]
pub struct MediaArgs {
    /// A picture before the prompt: PNG or JPEG; several are seen in this order
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A sound before the prompt, behind the pictures: WAV or FLAC; several are heard in this order
    #[arg(long, value_name = "FILE")]
    audio: Vec<PathBuf>,
    /// Tokens that the sounds (13 a second) and the pictures (1,024 pixels each) of one observation may take; memory is planned for it
    #[arg(long, value_name = "N", default_value_t = MEDIA_TOKENS)]
    pub media_tokens: usize,
}

impl MediaArgs {
    /// What is to be read, in the order of [`Self::read`].
    pub fn paths(&self) -> Vec<(MediumKind, PathBuf)> {
        let pictures = self.image.iter().map(|path| (MediumKind::Picture, path));
        let sounds = self.audio.iter().map(|path| (MediumKind::Sound, path));
        let all = pictures.chain(sounds);
        all.map(|(kind, path)| (kind, path.clone())).collect()
    }

    /// Reads the files, pictures first.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(&self) -> Result<Vec<Medium>, CliError> {
        let read = |(kind, path): (MediumKind, PathBuf)| {
            Medium::read(kind, &path).map_err(|error| CliError::request(error.to_string()))
        };
        self.paths().into_iter().map(read).collect()
    }
}

/// Their places in a prompt, one placeholder each.
///
/// # Errors
/// When the model has no such tower.
pub fn places(config: &ThinkerConfig, media: &[Medium]) -> Result<Vec<u32>, CliError> {
    let place = |medium: &Medium| placeholder(config, medium.kind);
    let places: Result<Vec<[u32; 3]>, PerceptionError> = media.iter().map(place).collect();
    Ok(places.map_err(EngineError::from)?.concat())
}
