//! Sounds and pictures on the command line.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::media::medium::{Medium, MediumKind};

/// What is seen and heard, and how much of it memory is planned for.
#[derive(Args, Debug, Default)]
pub struct MediaArgs {
    /// A picture before the prompt: PNG or JPEG; several are seen in this order
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A sound before the prompt, behind the pictures: WAV or FLAC; several are heard in this order
    #[arg(long, value_name = "FILE")]
    audio: Vec<PathBuf>,
    /// Tokens that the sounds (13 a second) and the pictures (1,024 pixels each) of one observation may take; memory is planned for it [default: 512, or session.media_tokens where the command reads settings]
    #[arg(long, value_name = "N")]
    pub media_tokens: Option<usize>,
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
