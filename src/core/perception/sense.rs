//! Files to what the towers take in, and to what a stimulus is like before anything is perceived.

use sage_actors::protocol::{Modality, Stimulus};
use serde::Deserialize;

use super::error::PerceptionError;
use crate::checkpoint::config::{AudioConfig, VisionConfig};
use crate::core::ports::{NO_EARS, NO_EYES};
use crate::events::ObservedMedium;
use crate::media::medium::{Medium, MediumKind};
use crate::media::picture::{
    BYTES_A_PIXEL, DecodeLimits, ImagePatches, MOST_ASPECT_RATIO, PatchOptions, Picture,
    PictureError, brightness, image_patches, palette, smart_resize,
};
use crate::media::sound::{
    Length, MAX_FILE_RATE_HZ, MEL_BINS, Mel, RATE_HZ, Sound, level_db, log_mel, spectrum,
};
use crate::model::audio::token_count;
use crate::model::positions::{MediaGrids, VideoGrid};
use crate::store::WeightSource;

/// Differences of loudness that mean nothing, dB.
const LEVEL_RESOLUTION_DB: f64 = 3.0;
/// Mean differences of a spectrum that mean nothing: 2 dB, a unit being 40.
const SPECTRUM_RESOLUTION: f64 = 0.05;
/// Differences of brightness that mean nothing.
const BRIGHTNESS_RESOLUTION: f64 = 0.05;
/// Mean differences of 64 shares of colour that mean nothing: a tenth of the picture in other colours.
const PALETTE_RESOLUTION: f64 = 0.2 / 64.0;

/// What the towers take in.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// Sounds, in the order of their placeholders.
    pub clips: Vec<Mel>,
    /// Pictures.
    pub images: ImagePatches,
    /// Videos.
    pub videos: ImagePatches,
    /// Of every video, the time from one temporal patch to the next, seconds.
    pub video_seconds: Vec<f32>,
    /// Whether videos carry their sounds within.
    pub audio_in_video: bool,
}

impl Features {
    /// What positions follow from.
    pub fn grids(&self) -> MediaGrids {
        let video = |(grid, seconds): (&[usize; 3], &f32)| VideoGrid {
            grid: *grid,
            second_per_grid: *seconds,
        };
        let videos = self.videos.grids.iter().zip(&self.video_seconds);
        MediaGrids {
            images: self.images.grids.clone(),
            videos: videos.map(video).collect(),
            audio_frames: self.clips.iter().map(|clip| clip.frames).collect(),
            use_audio_in_video: self.audio_in_video,
        }
    }
}

/// An observation's sounds and pictures, decoded.
#[derive(Clone, Debug, Default)]
pub struct DecodedMedia {
    /// For the towers.
    pub features: Features,
    /// For the mind, before anything is perceived.
    pub stimuli: Vec<Stimulus>,
    /// Tokens of every sound.
    pub sound_tokens: Vec<usize>,
    /// Tokens of every picture.
    pub picture_tokens: Vec<usize>,
    /// How long every sound is.
    pub sound_seconds: Vec<f64>,
    /// Width and height of every picture as it came.
    pub picture_pixels: Vec<[usize; 2]>,
}

impl DecodedMedia {
    /// What is said of it as it arrives, medium by medium.
    pub fn observed(&self, media: &[Medium]) -> Vec<ObservedMedium> {
        let mut sounds = self.sound_tokens.iter();
        let mut pictures = self.picture_tokens.iter();
        let (mut seconds, mut pixels) = (self.sound_seconds.iter(), self.picture_pixels.iter());
        let one = |(medium, stimulus): (&Medium, &Stimulus)| {
            let (tokens, seconds, size) = match medium.kind {
                MediumKind::Sound => (sounds.next(), seconds.next().copied(), None),
                MediumKind::Picture => (pictures.next(), None, pixels.next().copied()),
            };
            ObservedMedium {
                kind: medium.kind.name(),
                blake3: medium.blake3.clone(),
                tokens: tokens.copied().unwrap_or(0),
                level: stimulus.level,
                seconds,
                pixels: size,
            }
        };
        media.iter().zip(&self.stimuli).map(one).collect()
    }

    /// Modalities of it.
    pub fn senses(&self) -> Vec<Modality> {
        let mut senses = Vec::new();
        if !self.features.clips.is_empty() {
            senses.push(Modality::Audio);
        }
        if !self.features.images.is_empty() || !self.features.videos.is_empty() {
            senses.push(Modality::Vision);
        }
        senses
    }

    fn add_sound(
        &mut self,
        bytes: &[u8],
        config: &AudioConfig,
        most: usize,
    ) -> Result<(), PerceptionError> {
        let sound = Sound::read_within(bytes, most_seconds(most))?;
        let mel = log_mel(&sound)?;
        let tokens = token_count(config, mel.frames);
        self.stimuli.push(Stimulus {
            modality: Modality::Audio,
            level: f64::from(level_db(&sound)),
            resolution: LEVEL_RESOLUTION_DB,
            character: spectrum(&mel),
            character_resolution: SPECTRUM_RESOLUTION,
            urgency: 0.0,
        });
        self.sound_tokens.push(tokens);
        self.sound_seconds
            .push(sound.samples.len() as f64 / f64::from(RATE_HZ));
        self.features.clips.push(mel);
        Ok(())
    }

    /// `shares` pictures share in what `most` tokens have room for.
    fn add_picture(
        &mut self,
        bytes: &[u8],
        options: &PatchOptions,
        shares: usize,
        most: usize,
    ) -> Result<(), PerceptionError> {
        let limits = DecodeLimits {
            pixels: most_pixels(options.max_pixels),
            ..DecodeLimits::default()
        };
        let factor = options.patch_size * options.merge_size;
        let picture = Picture::decode(bytes, &limits)
            .map_err(|error| admitted_by(error, options.max_pixels, factor, shares))?;
        let (least, greatest) = (options.min_pixels, options.max_pixels);
        let (height, width) = (picture.height(), picture.width());
        // A narrow strip cannot be shrunk to its share.
        let [height, width] = smart_resize(height, width, factor, least, greatest)?;
        let tokens = self.picture_tokens.iter().sum::<usize>() + height * width / factor.pow(2);
        if tokens > most {
            return Err(PerceptionError::TooMany {
                perceived: "seen",
                tokens: tokens.max(MOST_ASPECT_RATIO * shares),
                most,
            });
        }
        let patches = image_patches(&picture, options)?;
        let block = options.merge_size * options.merge_size;
        self.stimuli.push(Stimulus {
            modality: Modality::Vision,
            level: f64::from(brightness(&picture)),
            resolution: BRIGHTNESS_RESOLUTION,
            character: palette(&picture),
            character_resolution: PALETTE_RESOLUTION,
            urgency: 0.0,
        });
        self.picture_tokens.push(patches.len() / block);
        self.picture_pixels
            .push([picture.width(), picture.height()]);
        self.features.images.append(patches);
        Ok(())
    }
}

/// A picture that is too large for its share, with the tokens of the whole observation that would do; as it is where none would.
fn admitted_by(
    error: PictureError,
    max_pixels: usize,
    factor: usize,
    shares: usize,
) -> PerceptionError {
    let PictureError::TooLarge {
        width,
        height,
        limit,
    } = error
    else {
        return error.into();
    };
    // What may be decoded grows with what may be seen.
    let times = width as f64 * height as f64 / limit.max(1) as f64;
    let pixels = (max_pixels as f64 * times).ceil() as usize;
    if pixels > PatchOptions::IMAGE.max_pixels {
        return error.into();
    }
    PerceptionError::Large {
        width,
        height,
        limit,
        tokens: pixels.div_ceil(factor * factor) * shares,
    }
}

/// Whether the sounds among these are short enough, before any is decoded.
///
/// # Errors
/// When one is no sound, or all of them have more than `most` tokens.
fn check_length(
    media: &[Medium],
    config: &AudioConfig,
    most: usize,
) -> Result<(), PerceptionError> {
    let sounds = media.iter().filter(|m| m.kind == MediumKind::Sound);
    let (mut tokens, mut longest) = (0, 0);
    for sound in sounds {
        let length = Length::of(sound.bytes())?;
        tokens += token_count(config, length.mel_frames());
        longest = longest.max(length.seconds());
    }
    let most_seconds = most_seconds(most);
    if longest > u64::from(most_seconds) {
        return Err(PerceptionError::Long {
            seconds: longest,
            most_seconds,
            tokens,
        });
    }
    if tokens > most {
        return Err(PerceptionError::TooMany {
            perceived: "heard",
            tokens,
            most,
        });
    }
    Ok(())
}

/// Seconds of sound that memory is planned for: 13 tokens are one.
pub(crate) fn most_seconds(most_tokens: usize) -> u32 {
    u32::try_from(most_tokens.div_ceil(13)).unwrap_or(u32::MAX)
}

/// Decodes what arrived, for a model that perceives sounds of at most `most_tokens` tokens, and pictures of as many. Pictures are shrunk to
/// their part of that, as the reference shrinks one to its own maximum; sounds that are too long are refused.
///
/// # Errors
/// When the model has no such tower, a file is no sound or picture, or sounds are too long.
pub fn sense(
    source: &dyn WeightSource,
    media: &[Medium],
    urgency: f32,
    most_tokens: usize,
) -> Result<DecodedMedia, PerceptionError> {
    let config = &source.config().thinker;
    let mut sensed = DecodedMedia::default();
    let pictures = media.iter().filter(|m| m.kind == MediumKind::Picture);
    let shares = pictures.count().max(1);
    let most_each = (most_tokens / shares).max(1);
    if let Some(hollow) = media.iter().find(|medium| !medium.is_whole()) {
        return Err(PerceptionError::Hollow {
            what: hollow.kind.name(),
            blake3: hollow.blake3.clone(),
        });
    }
    if media.iter().any(|m| m.kind == MediumKind::Sound) {
        let tower = config.audio.as_ref().ok_or(NO_EARS)?;
        check_length(media, tower, most_tokens)?;
    }
    for medium in media {
        match medium.kind {
            MediumKind::Sound => {
                let tower = config.audio.as_ref().ok_or(NO_EARS)?;
                sensed.add_sound(medium.bytes(), tower, most_tokens)?;
            }
            MediumKind::Picture => {
                let tower = config.vision.as_ref().ok_or(NO_EYES)?;
                let options = patch_options(source, tower, most_each)?;
                sensed.add_picture(medium.bytes(), &options, shares, most_tokens)?;
            }
        }
    }
    for stimulus in &mut sensed.stimuli {
        stimulus.urgency = urgency;
    }
    Ok(sensed)
}

/// What of preprocessor_config.json is about pictures; what it leaves out is as released.
#[derive(Debug, Default, Deserialize)]
struct Preprocessor {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    min_pixels: Option<usize>,
    max_pixels: Option<usize>,
}

/// How pictures are cut for the model: sizes of patches as config.json says, the rest as preprocessor_config.json does, and
/// no more pixels than `most_tokens` have room for.
fn patch_options(
    source: &dyn WeightSource,
    config: &VisionConfig,
    most_tokens: usize,
) -> Result<PatchOptions, PerceptionError> {
    let found = match source.file("preprocessor_config.json") {
        Some(path) => {
            let read = crate::input::read_file(&path, 1 << 20).map_err(|error| error.to_string());
            let parsed =
                read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
            parsed.map_err(PerceptionError::Preprocessor)?
        }
        None => Preprocessor::default(),
    };
    let side = config.patch_size * config.spatial_merge_size;
    let released = PatchOptions::IMAGE;
    let room = most_tokens.saturating_mul(side * side);
    let max_pixels = found.max_pixels.unwrap_or(released.max_pixels).min(room);
    let min_pixels = found.min_pixels.unwrap_or(released.min_pixels);
    Ok(PatchOptions {
        patch_size: config.patch_size,
        temporal_patch_size: config.temporal_patch_size,
        merge_size: config.spatial_merge_size,
        min_pixels: min_pixels.min(max_pixels),
        max_pixels,
        mean: found.image_mean.unwrap_or(released.mean),
        std: found.image_std.unwrap_or(released.std),
    })
}

/// Pixels of a file that may be shrunk to `max_pixels`: a quarter of each side is left.
fn most_pixels(max_pixels: usize) -> u64 {
    16 * max_pixels as u64
}

/// Bytes that decoding one sound and one picture takes at most, beside what is handed on.
pub(crate) fn decoding_bytes(
    audio: bool,
    vision: Option<&VisionConfig>,
    most_tokens: usize,
) -> u64 {
    // A second: samples at the highest rate and at the tower's, and the spectrum. Files themselves belong to whoever sent them.
    let numbers = u64::from(MAX_FILE_RATE_HZ + RATE_HZ) + 100 * MEL_BINS as u64;
    let sound = u64::from(most_seconds(most_tokens)) * numbers * size_of::<f32>() as u64;
    let picture = vision.map_or(0, |config| {
        let side = config.patch_size * config.spatial_merge_size;
        let pixels = (most_tokens * side * side) as u64;
        let numbers = config.in_channels * config.temporal_patch_size;
        // The patches, the picture as it was shrunk, and the one that came: 8 bytes a pixel while it is decoded.
        pixels * (numbers as u64 * 4 + 3) + BYTES_A_PIXEL * most_pixels(pixels as usize)
    });
    if audio { sound + picture } else { picture }
}
