//! Sounds and pictures on their way into a prompt: decoded, counted, and run through the towers.

mod error;
mod perceive;
mod sense;

pub use error::PerceptionError;
pub use sense::{DecodedMedia, Features, sense};
pub(crate) use sense::{decoding_bytes, most_seconds};

use sage_actors::protocol::Modality;

use super::ports::TowerError;
use crate::checkpoint::config::ThinkerConfig;
use crate::media::medium::{Medium, MediumKind};

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
        _ => Err(TowerError::NoTower { tower, what }.into()),
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
/// it is, and [`super::Engine::perceive`] says what is wrong.
pub fn expand(config: &ThinkerConfig, tokens: &[u32], sensed: &DecodedMedia) -> Vec<u32> {
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
