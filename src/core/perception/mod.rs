//! Sounds and pictures on their way into a prompt: decoded, counted, and run through the towers.

mod encode;
mod sense;
mod towers;

pub use encode::{Embedding, Embeddings, Encoder};
pub use sense::{Features, Sensed, sense};
pub use towers::{TowerUse, Towers};

use std::sync::Arc;

use sage_actors::protocol::{Modality, Senses};

use super::scene::Scene;
use super::{Engine, EngineError};
use crate::checkpoint::config::ThinkerConfig;
use crate::media::medium::{Medium, MediumKind};
use crate::model::Positions;
use crate::model::positions::{PositionsError, media_positions};
use crate::model::vision::VisionError;

/// Why something cannot be perceived.
#[derive(Debug, thiserror::Error)]
pub enum PerceptionError {
    /// The model was opened without this sense.
    #[error("{what} cannot be perceived: the model was opened without {tower}; {hint}")]
    Asleep {
        /// What came.
        what: &'static str,
        /// What is missing.
        tower: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The model has no such tower.
    #[error(
        "the model has no {tower}, so it perceives no {what}: take a checkpoint that has one, or extract the store with it"
    )]
    NoTower {
        /// What is missing.
        tower: &'static str,
        /// What it would perceive.
        what: &'static str,
    },
    /// The file.
    #[error(transparent)]
    Sound(#[from] crate::media::sound::SoundError),
    /// The file.
    #[error(transparent)]
    Picture(#[from] crate::media::picture::PictureError),
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
        /// Rows.
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
    /// The vision tower.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// Weights.
    #[error(transparent)]
    Load(#[from] crate::model::load::LoadError),
}

/// What to say so that memory is planned for so many tokens.
fn admitting(tokens: usize) -> String {
    format!(
        "--media-tokens {tokens}; in a scenario `media_tokens = {tokens}`, in a program `.media_tokens({tokens})`; a context that is declared must have room for them"
    )
}

/// Ids of one kind of placeholder and of its markers; none where the model has no such kind.
struct Marks {
    modality: Modality,
    pads: Vec<u32>,
    markers: Vec<u32>,
}

fn marks(config: &ThinkerConfig) -> [Marks; 2] {
    let all = |ids: &[Option<u32>]| ids.iter().flatten().copied().collect();
    [
        Marks {
            modality: Modality::Audio,
            pads: all(&[config.audio_token_id]),
            markers: all(&[config.audio_start_token_id, config.audio_end_token_id]),
        },
        Marks {
            modality: Modality::Vision,
            pads: all(&[config.image_token_id, config.video_token_id]),
            markers: all(&[config.vision_start_token_id, config.vision_end_token_id]),
        },
    ]
}

/// Modality of every token: of placeholders, and of the markers around them.
fn modalities(config: &ThinkerConfig, tokens: &[u32]) -> Vec<Modality> {
    let marks = marks(config);
    let of = |id: &u32| {
        let one = marks
            .iter()
            .find(|mark| mark.pads.contains(id) || mark.markers.contains(id));
        one.map_or(Modality::Text, |mark| mark.modality)
    };
    tokens.iter().map(of).collect()
}

/// The tokens of one placeholder with its markers, as a prompt without the medium's size says it.
///
/// # Errors
/// When the model has no such kind.
pub fn placeholder(config: &ThinkerConfig, kind: MediumKind) -> Result<[u32; 3], PerceptionError> {
    let (start, pad, end, tower, what) = match kind {
        MediumKind::Sound => (
            config.audio_start_token_id,
            config.audio_token_id,
            config.audio_end_token_id,
            "audio tower",
            "sound",
        ),
        MediumKind::Picture => (
            config.vision_start_token_id,
            config.image_token_id,
            config.vision_end_token_id,
            "vision tower",
            "picture",
        ),
    };
    match (start, pad, end) {
        (Some(start), Some(pad), Some(end)) => Ok([start, pad, end]),
        _ => Err(PerceptionError::NoTower { tower, what }),
    }
}

/// What has to be perceived for these, words apart.
pub fn senses_of<'a>(media: impl IntoIterator<Item = &'a Medium>) -> Vec<Modality> {
    let of = |medium: &Medium| match medium.kind {
        MediumKind::Sound => Modality::Audio,
        MediumKind::Picture => Modality::Vision,
    };
    let mut senses: Vec<Modality> = media.into_iter().map(of).collect();
    senses.sort_unstable();
    senses.dedup();
    senses
}

/// Repeats every placeholder as often as its medium has tokens. Where tokens and media do not match, what is left over stays as
/// it is, and [`Engine::perceive`] says what is wrong.
pub fn expand(config: &ThinkerConfig, tokens: &[u32], sensed: &Sensed) -> Vec<u32> {
    let mut sounds = sensed.sound_tokens.iter();
    let mut pictures = sensed.picture_tokens.iter();
    let mut out = Vec::with_capacity(tokens.len());
    for id in tokens {
        let count = if Some(*id) == config.audio_token_id {
            sounds.next()
        } else if Some(*id) == config.image_token_id {
            pictures.next()
        } else {
            None
        };
        out.extend(std::iter::repeat_n(*id, count.copied().unwrap_or(1)));
    }
    out
}

impl Engine {
    /// Where the tokens of a prompt stand, and what a token's position is above its number behind it. No weight is read: so it can be
    /// asked before a prompt is accepted.
    ///
    /// # Errors
    /// When tokens and media do not match.
    pub fn media_positions(
        &self,
        tokens: &[u32],
        features: &Features,
    ) -> Result<(Positions, f32), PerceptionError> {
        let grids = features.grids();
        Ok(media_positions(
            tokens,
            &self.source.config().thinker,
            &grids,
        )?)
    }

    /// What the towers make of a prompt's sounds and pictures, and where its tokens stand; `tokens` with every placeholder
    /// repeated. `probe` hears of the towers' intermediate results by the golden files' names.
    ///
    /// # Errors
    /// When the model was opened without the sense, tokens and media do not match, or a weight cannot be read.
    pub fn perceive(
        &mut self,
        tokens: &[u32],
        features: &Features,
        felt: Option<Senses>,
        probe: &mut dyn FnMut(&str, &[f32]),
    ) -> Result<Arc<Scene>, EngineError> {
        let config = self.source.config().thinker.clone();
        // Before any weight is read: it says where tokens and media do not match.
        let (positions, position_delta) = self.media_positions(tokens, features)?;
        let source = Arc::clone(&self.source);
        let before = self.towers.bytes_read();
        let heard = self.towers.hear(&*source, &features.clips, probe)?;
        let images = self
            .towers
            .look(&*source, &features.images, "vision_image", probe)?;
        let videos = self
            .towers
            .look(&*source, &features.videos, "vision_video", probe)?;
        self.spent.miss_bytes += self.towers.bytes_read() - before;

        let hidden = self.thinker.config.hidden_size;
        let firsts = [
            0,
            heard.len() / hidden,
            (heard.len() + images.merged.len()) / hidden,
        ];
        let pads = [
            config.audio_token_id,
            config.image_token_id,
            config.video_token_id,
        ];
        let mut next = firsts;
        let rows: Vec<Option<usize>> = tokens
            .iter()
            .map(|id| {
                let kind = pads.iter().position(|pad| *pad == Some(*id))?;
                next[kind] += 1;
                Some(next[kind] - 1)
            })
            .collect();
        // Pictures' rows come behind the sounds', and the levels hold pictures alone.
        let deep_rows = rows
            .iter()
            .map(|row| row.and_then(|row| row.checked_sub(firsts[1])))
            .collect();
        let deepstack = levels(images.deepstack, videos.deepstack);
        let mut embeds = heard;
        embeds.extend(images.merged);
        embeds.extend(videos.merged);
        Ok(Arc::new(Scene {
            modalities: modalities(&config, tokens),
            rows,
            embeds,
            deep_rows,
            deepstack,
            positions,
            position_delta,
            felt,
        }))
    }
}

/// Level by level, the pictures' rows and then the videos'; either may have none.
fn levels(images: Vec<Vec<f32>>, videos: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let count = images.len().max(videos.len());
    let (mut images, mut videos) = (images.into_iter(), videos.into_iter());
    (0..count)
        .map(|_| {
            let mut level = images.next().unwrap_or_default();
            level.extend(videos.next().unwrap_or_default());
            level
        })
        .collect()
}
