//! The sounds and pictures that a scenario names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fields::{Fields, ScenarioProblems, text};
use crate::media::medium::{Medium, MediumKind};
use crate::media::picture::{DecodeLimits, PatchOptions, Picture, PictureError};
use crate::media::sound::{Length, MIN_SAMPLES, Sound, SoundError};

/// What is done with files as a scenario is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// They are read: a run decodes them as they come.
    Read,
    /// They are decoded too, so that what a run would refuse is found.
    Decoded,
}

/// Pixels of one token, and how many times as many may be decoded and shrunk.
const TOKEN_PIXELS: usize = 1024;
const SHRINKING: u64 = 16;

/// Reads the files; one that several observations name is held once.
pub(super) struct MediaFiles {
    folder: PathBuf,
    media: Media,
    /// Tokens that one observation's sounds, or pictures, may take.
    most_tokens: usize,
    read: BTreeMap<(PathBuf, &'static str), Medium>,
}

impl MediaFiles {
    pub(super) fn new(
        folder: &Path,
        media: Media,
        media_tokens: usize,
        context_tokens: usize,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            media,
            most_tokens: media_tokens.min(context_tokens),
            read: BTreeMap::new(),
        }
    }

    /// Files of an entry, the picture first.
    pub(super) fn of(
        &mut self,
        fields: &Fields<'_, '_>,
        report: &mut ScenarioProblems<'_>,
    ) -> Vec<Medium> {
        let mut media = Vec::new();
        for kind in [MediumKind::Picture, MediumKind::Sound] {
            let key = kind.name();
            let Some(file) = fields.optional(key, report, text) else {
                continue;
            };
            let path = self.folder.join(&file.value);
            if let Some(medium) = self.read.get(&(path.clone(), key)) {
                media.push(medium.clone());
                continue;
            }
            let medium = match Medium::read(kind, &path) {
                Ok(medium) => medium,
                Err(error) => {
                    let hint = "a path is relative to the scenario's folder".to_owned();
                    let message = format!("`{key}` cannot be read: {error}");
                    report.note(&file.span, &fields.entry, message, Some(hint));
                    continue;
                }
            };
            if self.media == Media::Decoded
                && let Err(wrong) = self.decoded(&medium)
            {
                let path = path.display();
                let message = format!("`{key}` cannot be perceived: {path}: {}", wrong.reason);
                report.note(&file.span, &fields.entry, message, wrong.hint);
                continue;
            }
            self.read.insert((path, key), medium.clone());
            media.push(medium);
        }
        media
    }

    fn decoded(&self, medium: &Medium) -> Result<(), Wrong> {
        match medium.kind {
            MediumKind::Sound => self.sound(medium.bytes()),
            MediumKind::Picture => self.picture(medium.bytes()),
        }
    }

    fn sound(&self, bytes: &[u8]) -> Result<(), Wrong> {
        let length = Length::of(bytes)?;
        let tokens = length.released_tokens();
        if tokens > self.most_tokens {
            return Err(Wrong {
                reason: format!(
                    "it lasts {} s and takes {tokens} tokens, expected at most {}",
                    length.seconds(),
                    self.most_tokens
                ),
                hint: Some(admitting(tokens)),
            });
        }
        let sound = Sound::read(bytes)?;
        if sound.samples.len() < MIN_SAMPLES {
            let samples = sound.samples.len();
            return Err(SoundError::TooShort { samples }.into());
        }
        Ok(())
    }

    fn picture(&self, bytes: &[u8]) -> Result<(), Wrong> {
        let pixels = self.most_tokens.saturating_mul(TOKEN_PIXELS);
        let pixels = pixels.min(PatchOptions::IMAGE.max_pixels) as u64;
        let limits = DecodeLimits {
            pixels: SHRINKING * pixels,
            ..DecodeLimits::default()
        };
        match Picture::decode(bytes, &limits) {
            Ok(_) => Ok(()),
            Err(error) => Err(Wrong {
                hint: match error {
                    PictureError::TooLarge {
                        width,
                        height,
                        limit,
                    } => {
                        let times = width as f64 * height as f64 / limit.max(1) as f64;
                        Some(admitting((self.most_tokens as f64 * times).ceil() as usize))
                    }
                    _ => None,
                },
                reason: error.to_string(),
            }),
        }
    }
}

fn admitting(tokens: usize) -> String {
    format!("`media_tokens = {tokens}` admits it, in a context that has room for it")
}

/// Why a file cannot be perceived, and what to do where that is not already said.
struct Wrong {
    reason: String,
    hint: Option<String>,
}

impl From<SoundError> for Wrong {
    fn from(error: SoundError) -> Self {
        Self {
            reason: error.to_string(),
            hint: None,
        }
    }
}
