//! A sound and a picture that are made up, through the towers alone.

use std::time::Instant;

use sage_actors::protocol::Modality;
use serde::Serialize;

use super::figures::{ends, median};
use crate::cli::{CliError, Printer, Table, human_bytes};
use crate::core::EngineError;
use crate::core::perception::{DecodedMedia, Features, PerceptionError};
use crate::core::ports::TowerError;
use crate::core::sampling::uniform;
use crate::cpu::encode::Encoder;
use crate::input::Limit;
use crate::media::picture::{ImagePatches, PatchOptions, Picture, image_patches};
use crate::media::sound::{RATE_HZ, Sound, log_mel};
use crate::model::audio::token_count;
use crate::store::WeightSource;

/// Sets the noise of sounds and pictures apart from each other and from prompts.
const NOISE: u64 = 0x6e_6f69_7365;

/// What a tower took for one input, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct TowerTimes {
    /// Tokens that come of it.
    pub tokens: usize,
    /// Whether all weights of the tower stayed in memory after the first time, which `--limit` in bytes may not allow.
    pub kept: bool,
    /// Bytes of weights that were read the first time.
    pub read_bytes: u64,
    /// From samples or pixels to what the tower takes in.
    pub features_ms: f64,
    /// The first time, its reads included.
    pub cold_ms: f64,
    /// The median of the rounds behind it.
    pub ms: f64,
    #[serde(skip)]
    spread_ms: [f64; 2],
}

/// Figures of the audio tower.
#[derive(Debug, Serialize)]
pub(super) struct BenchHearing {
    pub seconds: u32,
    /// Seconds of sound in a second of work.
    pub seconds_per_second: f64,
    #[serde(flatten)]
    pub times: TowerTimes,
    pub spread: HearingSpread,
}

#[derive(Debug, Serialize)]
pub(super) struct HearingSpread {
    ms: [f64; 2],
    seconds_per_second: [f64; 2],
}

/// Figures of the vision tower.
#[derive(Debug, Serialize)]
pub(super) struct BenchSeeing {
    pub patches: usize,
    pub patches_per_second: f64,
    #[serde(flatten)]
    pub times: TowerTimes,
    pub spread: SeeingSpread,
}

#[derive(Debug, Serialize)]
pub(super) struct SeeingSpread {
    ms: [f64; 2],
    patches_per_second: [f64; 2],
}

/// How towers are measured.
#[derive(Clone, Copy)]
pub(super) struct TowerBench<'a> {
    pub source: &'a dyn WeightSource,
    pub rounds: usize,
    /// Of the whole process, where it was given.
    pub limit: Option<Limit>,
}

impl<'a> TowerBench<'a> {
    /// Refuses what could not be measured, before anything is: no weight is read.
    ///
    /// # Errors
    /// When the model lacks a tower that is asked for, or no picture has so many patches.
    pub fn check(&self, hears: bool, patches: Option<usize>) -> Result<(), CliError> {
        if hears {
            self.encoder(Modality::Audio)?;
        }
        if let Some(patches) = patches {
            self.encoder(Modality::Vision)?;
            self.grid(patches)?;
        }
        Ok(())
    }

    fn encoder(&self, sense: Modality) -> Result<Encoder<'a>, CliError> {
        let option = match sense {
            Modality::Audio => ["--hearing", "--audio"],
            _ => ["--seeing", "--vision"],
        };
        Encoder::new(self.source, &[sense]).map_err(|error| match error {
            PerceptionError::Tower(TowerError::NoTower { .. }) => CliError::request(format!(
                "{}: {error}, make one with `sage synth {}`, or leave {} out",
                option[0], option[1], option[0]
            )),
            error => EngineError::from(error).into(),
        })
    }

    /// Noise of so many seconds, through the audio tower.
    ///
    /// # Errors
    /// When the limit leaves no room, or a weight cannot be read.
    pub fn hear(&self, seconds: u32) -> Result<BenchHearing, CliError> {
        let config = self.source.config().thinker.audio.clone();
        let features = || -> Result<DecodedMedia, PerceptionError> {
            let mel = log_mel(&noise(seconds)?)?;
            let tokens = config
                .as_ref()
                .map(|config| token_count(config, mel.frames));
            Ok(DecodedMedia {
                sound_tokens: tokens.into_iter().collect(),
                features: Features {
                    clips: vec![mel],
                    ..Features::default()
                },
                ..DecodedMedia::default()
            })
        };
        let times = self.measure(Modality::Audio, features)?;
        let rate = |ms: f64| f64::from(seconds) * 1e3 / ms;
        let [least, greatest] = times.spread_ms;
        Ok(BenchHearing {
            seconds,
            seconds_per_second: rate(times.ms),
            spread: HearingSpread {
                ms: times.spread_ms,
                seconds_per_second: [rate(greatest), rate(least)],
            },
            times,
        })
    }

    /// A picture of so many patches, through the vision tower.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn see(&self, patches: usize) -> Result<BenchSeeing, CliError> {
        let ([rows, columns], options) = self.grid(patches)?;
        let features = || -> Result<DecodedMedia, PerceptionError> {
            let side = options.patch_size;
            let images = image_patches(&picture(columns * side, rows * side)?, &options)?;
            let block = options.merge_size * options.merge_size;
            Ok(DecodedMedia {
                picture_tokens: vec![ImagePatches::len(&images) / block],
                features: Features {
                    images,
                    ..Features::default()
                },
                ..DecodedMedia::default()
            })
        };
        let times = self.measure(Modality::Vision, features)?;
        let rate = |ms: f64| patches as f64 * 1e3 / ms;
        let [least, greatest] = times.spread_ms;
        Ok(BenchSeeing {
            patches,
            patches_per_second: rate(times.ms),
            spread: SeeingSpread {
                ms: times.spread_ms,
                patches_per_second: [rate(greatest), rate(least)],
            },
            times,
        })
    }

    fn measure(
        &self,
        sense: Modality,
        features: impl FnOnce() -> Result<DecodedMedia, PerceptionError>,
    ) -> Result<TowerTimes, CliError> {
        let wrong = |error: PerceptionError| CliError::from(EngineError::from(error));
        let mut encoder = self.encoder(sense)?;
        let began = Instant::now();
        let sensed = features().map_err(wrong)?;
        let features_ms = began.elapsed().as_secs_f64() * 1e3;
        let tokens = sensed.sound_tokens.iter().chain(&sensed.picture_tokens);
        let tokens = tokens.sum();
        let kept = self.keeps(&encoder, tokens)?;
        if kept {
            encoder.keep_weights();
        }
        let mut times = Vec::with_capacity(1 + self.rounds);
        let mut read_bytes = 0;
        for round in 0..=self.rounds {
            let began = Instant::now();
            let embeddings = encoder.encode(&sensed).map_err(wrong)?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            if round == 0 {
                read_bytes = embeddings.read_bytes;
            }
        }
        let warm = times.split_off(1);
        Ok(TowerTimes {
            tokens,
            kept,
            read_bytes,
            features_ms,
            cold_ms: times[0],
            ms: median(warm.clone()),
            spread_ms: ends(warm),
        })
    }

    /// Whether the limit has room for all weights of the tower.
    fn keeps(&self, encoder: &Encoder<'_>, tokens: usize) -> Result<bool, CliError> {
        // Other limits count what is resident of the whole model, which is not open.
        let Some(Limit::Bytes(limit)) = self.limit else {
            return Ok(true);
        };
        let floor = Encoder::process_bytes() + encoder.work_bytes(tokens);
        if limit < floor {
            return Err(CliError::request(format!(
                "a limit of {} is below the {} that a tower takes for {tokens} tokens: raise --limit, or measure less sound and fewer patches",
                human_bytes(limit),
                human_bytes(floor)
            )));
        }
        Ok(floor + encoder.weight_bytes() <= limit)
    }

    /// Rows and columns of a picture of so many patches, the squarest there is, and how it is cut.
    fn grid(&self, patches: usize) -> Result<([usize; 2], PatchOptions), CliError> {
        let config = self.source.config().thinker.vision.as_ref();
        let released = PatchOptions::IMAGE;
        let options = config.map_or(released, |config| PatchOptions {
            patch_size: config.patch_size,
            temporal_patch_size: config.temporal_patch_size,
            merge_size: config.spatial_merge_size,
            ..released
        });
        let merge = options.merge_size.max(1);
        let fits = |rows: &usize| {
            let columns = patches / rows;
            rows * columns == patches && columns.is_multiple_of(merge) && columns <= 100 * rows
        };
        let mut rows = (1..=patches.isqrt() / merge).rev().map(|row| row * merge);
        let Some(rows) = rows.find(fits) else {
            return Err(CliError::request(format!(
                "--seeing is {patches}, and no picture has so many patches; expected rows and columns that are multiples of {merge}, such as {} patches",
                (16 * merge).pow(2)
            )));
        };
        let pixels = patches * options.patch_size * options.patch_size;
        let options = PatchOptions {
            min_pixels: pixels.min(released.min_pixels),
            max_pixels: pixels.max(released.max_pixels),
            ..options
        };
        Ok(([rows, patches / rows], options))
    }
}

/// Noise whose loudness rises and falls every second, the same in every run.
fn noise(seconds: u32) -> Result<Sound, PerceptionError> {
    let rate = RATE_HZ as usize;
    let sample = |at: usize| {
        let within = (at % rate) as f64 / rate as f64;
        let loudness = 1.0 - (2.0 * within - 1.0).abs();
        ((uniform(NOISE, at as u64) - 0.5) * loudness) as f32
    };
    let samples = (0..seconds as usize * rate).map(sample).collect();
    Ok(Sound::from_samples(samples, RATE_HZ)?)
}

/// Two gradients and noise, the same in every run; width and height in pixels.
fn picture(width: usize, height: usize) -> Result<Picture, PerceptionError> {
    let pixel = |at: usize| {
        let (x, y) = (at % width, at / width);
        let noise = uniform(NOISE + 1, at as u64) * 256.0;
        [
            (x * 256 / width) as u8,
            (y * 256 / height) as u8,
            noise as u8,
        ]
    };
    let rgb = (0..width * height).flat_map(pixel).collect();
    Ok(Picture::from_rgb(width, height, rgb)?)
}

/// What was heard and seen, as a table.
///
/// # Errors
/// If stdout cannot be written.
pub(super) fn show(
    hearing: Option<&BenchHearing>,
    seeing: Option<&BenchSeeing>,
    printer: &Printer,
) -> Result<(), CliError> {
    if hearing.is_none() && seeing.is_none() {
        return Ok(());
    }
    let mut table = Table::new(["tower", "of", "tokens", "features", "cold", "warm", "speed"]);
    let mut row = |tower: &str, of: String, times: &TowerTimes, speed: String| {
        let ms = |ms: f64| format!("{ms:.0} ms");
        table.row([
            tower.to_owned(),
            of,
            times.tokens.to_string(),
            ms(times.features_ms),
            ms(times.cold_ms),
            ms(times.ms),
            speed,
        ]);
    };
    if let Some(hearing) = hearing {
        let speed = format!("{:.1} s/s", hearing.seconds_per_second);
        row(
            "audio",
            format!("{} s", hearing.seconds),
            &hearing.times,
            speed,
        );
    }
    if let Some(seeing) = seeing {
        let speed = format!("{:.0} patches/s", seeing.patches_per_second);
        let of = format!("{} patches", seeing.patches);
        row("vision", of, &seeing.times, speed);
    }
    printer.table(&table)
}
