//! Sound: reading files, the log-mel spectrum that the audio tower listens to, and how loud and of what colour it is.

mod flac;
mod fourier;
mod mel;
mod pcm;
mod read;
mod resample;
mod riff;

pub use mel::{MEL_BINS, Mel, hann_window, log_mel, mel_filters, spectrum};

/// Samples a second of every [`Sound`].
pub const RATE_HZ: u32 = 16_000;

/// The longest sound that is taken, in seconds: what the reference's feature extractor was made for.
pub const MAX_SECONDS: u32 = 300;

/// The lowest rate of a file that is taken; below it nothing is left of speech.
pub const MIN_FILE_RATE_HZ: u32 = 4_000;

/// The highest rate of a file that is taken. A sound in the making takes 4 bytes a sample at the file's rate: 230 MB for
/// [`MAX_SECONDS`] of this rate, 53 MB at 44.1 kHz.
pub const MAX_FILE_RATE_HZ: u32 = 192_000;

/// The fewest samples that have a spectrum: half a window is mirrored at each end.
pub const MIN_SAMPLES: usize = 201;

/// What [`level_db`] answers for silence.
pub const LEVEL_FLOOR_DB: f32 = -90.0;

/// Mono sound of [`RATE_HZ`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    /// Samples, within -1 and 1.
    pub samples: Vec<f32>,
}

/// Why a sound cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// There is nothing to read.
    #[error("the sound file has 0 bytes, expected WAV or FLAC: record it again")]
    NoBytes,
    /// It is no sound file, or of a kind that is not read.
    #[error(
        "{bytes} bytes are not a sound file that can be read ({reason}), expected WAV (PCM or float) or FLAC: convert it, for example to 16-bit WAV"
    )]
    Unreadable {
        /// Length of the file.
        bytes: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It begins as a sound file and goes on as something else.
    #[error(
        "the sound file is damaged after {read_frames} frames ({reason}), expected whole frames to its end: copy or record it again"
    )]
    Damaged {
        /// Samples of a channel before the damage.
        read_frames: u64,
        /// What is wrong.
        reason: String,
    },
    /// It ends before it should.
    #[error(
        "the sound file ends after {found_frames} frames, expected {stated_frames} by its header: copy or record it again, it was cut short"
    )]
    CutShort {
        /// Samples of a channel that are there.
        found_frames: u64,
        /// Samples of a channel by the header.
        stated_frames: u64,
    },
    /// A header without samples.
    #[error("the sound file holds 0 frames, expected at least one: record it again")]
    NoFrames,
    /// A rate beyond what is resampled.
    #[error(
        "the sound file has {rate_hz} samples a second, expected {MIN_FILE_RATE_HZ} to {MAX_FILE_RATE_HZ}: resample it to {RATE_HZ}"
    )]
    Rate {
        /// The file's.
        rate_hz: u32,
    },
    /// Longer than is allowed.
    #[error("the sound lasts {seconds} s, expected at most {most} s: cut it into parts")]
    TooLong {
        /// Rounded up; of a file that does not state its length, at least so many.
        seconds: u64,
        /// Allowed.
        most: u32,
    },
    /// A sample that is no number.
    #[error("sample {at} of the sound is {value}, expected a finite number: export the file again")]
    NotFinite {
        /// Frame of the file.
        at: u64,
        /// Its value.
        value: f32,
    },
    /// Too short for one window of the spectrum.
    #[error(
        "the sound has {samples} samples at {RATE_HZ} Hz, expected at least {MIN_SAMPLES} (12.6 ms): record for longer"
    )]
    TooShort {
        /// Its samples.
        samples: usize,
    },
}

/// How long a sound file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Samples of a channel.
    pub frames: u64,
    /// Samples of a channel a second.
    pub rate_hz: u32,
}

impl Length {
    /// Of a file that is not decoded; whether its samples are whole is not known then, unless it states no length.
    ///
    /// # Errors
    /// When it is no sound file, or longer than [`MAX_SECONDS`].
    pub fn of(bytes: &[u8]) -> Result<Self, SoundError> {
        let length = read::Opened::new(bytes)?.length(MAX_SECONDS)?;
        check_length(length.frames, length.rate_hz, MAX_SECONDS)?;
        Ok(length)
    }

    /// Samples of the [`Sound`] that it becomes.
    pub fn samples(&self) -> u64 {
        (self.frames * u64::from(RATE_HZ)).div_ceil(u64::from(self.rate_hz))
    }

    /// In seconds, rounded up.
    pub fn seconds(&self) -> u64 {
        self.frames.div_ceil(u64::from(self.rate_hz))
    }

    /// Tokens of the released model's audio tower: 13 a second, and of what remains one for every begun eight frames.
    pub fn released_tokens(&self) -> usize {
        let frames = self.mel_frames();
        frames / 100 * 13 + (frames % 100).div_ceil(8)
    }

    /// Frames of the spectrum.
    pub fn mel_frames(&self) -> usize {
        mel::frames(self.samples() as usize)
    }
}

impl Sound {
    /// Reads a sound file from its bytes: WAV (PCM of 8 to 32 bits, float, or G.711) or FLAC, of any number of channels, which
    /// are averaged, and any rate from [`MIN_FILE_RATE_HZ`] to [`MAX_FILE_RATE_HZ`].
    ///
    /// What a WAV says of its length is an upper bound: the bytes that are there decide, since a program that writes to a pipe
    /// cannot know it. A FLAC that was cut short is refused: its frames have sums.
    ///
    /// # Errors
    /// When the bytes are no such file, damaged, hold nothing, or last longer than [`MAX_SECONDS`].
    pub fn read(bytes: &[u8]) -> Result<Self, SoundError> {
        Self::read_within(bytes, MAX_SECONDS)
    }

    /// As [`Sound::read`], for at most so many seconds: a longer one is refused before more of it is in memory.
    ///
    /// # Errors
    /// As [`Sound::read`].
    pub fn read_within(bytes: &[u8], most_seconds: u32) -> Result<Self, SoundError> {
        let opened = read::Opened::new(bytes)?;
        let samples = opened.mono(most_seconds.min(MAX_SECONDS))?;
        Self::from_samples(samples, opened.rate_hz())
    }

    /// Mono samples of another rate; what is beyond -1 and 1 is clipped.
    ///
    /// # Errors
    /// When there are none, more than [`MAX_SECONDS`], one that is no number, or when the rate is out of bounds.
    pub fn from_samples(samples: Vec<f32>, rate_hz: u32) -> Result<Self, SoundError> {
        check_rate(rate_hz)?;
        check_length(samples.len() as u64, rate_hz, MAX_SECONDS)?;
        if samples.is_empty() {
            return Err(SoundError::NoFrames);
        }
        if let Some(at) = samples.iter().position(|sample| !sample.is_finite()) {
            let value = samples[at];
            return Err(SoundError::NotFinite {
                at: at as u64,
                value,
            });
        }
        let mut samples = if rate_hz == RATE_HZ {
            samples
        } else {
            resample::to_16_khz(&samples, rate_hz)
        };
        // A resampled step overshoots, and floats in a file may be anything.
        for sample in &mut samples {
            *sample = sample.clamp(-1.0, 1.0);
        }
        Ok(Self { samples })
    }

    /// How long it is, in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(RATE_HZ)
    }
}

fn check_rate(rate_hz: u32) -> Result<(), SoundError> {
    if (MIN_FILE_RATE_HZ..=MAX_FILE_RATE_HZ).contains(&rate_hz) {
        return Ok(());
    }
    Err(SoundError::Rate { rate_hz })
}

fn check_length(frames: u64, rate_hz: u32, most: u32) -> Result<(), SoundError> {
    if frames <= u64::from(most) * u64::from(rate_hz) {
        return Ok(());
    }
    Err(SoundError::TooLong {
        seconds: frames.div_ceil(u64::from(rate_hz)),
        most,
    })
}

/// Root mean square of the loudest 100 ms, in decibels of full scale, at least [`LEVEL_FLOOR_DB`].
///
/// A window may begin at every 10 ms. A sine of full amplitude has -3.01 dB.
pub fn level_db(sound: &Sound) -> f32 {
    const STEP: usize = RATE_HZ as usize / 100;
    const STEPS: usize = 10;
    let energy = |samples: &[f32]| -> f64 {
        let squares = samples.iter().map(|s| f64::from(*s) * f64::from(*s));
        squares.sum()
    };
    let steps: Vec<f64> = sound.samples.chunks(STEP).map(energy).collect();
    // Shorter than a window: all there is.
    let (length, window) = if sound.samples.len() < STEP * STEPS {
        (sound.samples.len().max(1), steps.len().max(1))
    } else {
        (STEP * STEPS, STEPS)
    };
    let loudest = steps
        .windows(window)
        .map(|steps| steps.iter().sum::<f64>())
        .fold(0.0, f64::max);
    let mean = loudest / length as f64;
    if mean <= 0.0 {
        return LEVEL_FLOOR_DB;
    }
    (10.0 * libm::log10(mean) as f32).max(LEVEL_FLOOR_DB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_tenth_of_a_second_counts() {
        let mut samples = vec![0.0; 16_000];
        assert_eq!(level_db(&Sound::default()), LEVEL_FLOOR_DB);
        assert_eq!(
            level_db(&Sound {
                samples: samples.clone()
            }),
            LEVEL_FLOOR_DB
        );
        samples[8_000..9_600].fill(0.1);
        let level = level_db(&Sound { samples });
        assert!((level + 20.0).abs() < 1e-4, "{level}");
        // Half of a short sound, and no more than there is.
        let mut samples = vec![0.5; 400];
        samples[200..].fill(0.0);
        let level = level_db(&Sound { samples });
        assert!((level - 10.0 * 0.125f32.log10()).abs() < 1e-4, "{level}");
    }

    #[test]
    fn bounds_are_named() {
        let said = |samples: Vec<f32>, rate_hz| {
            let error = Sound::from_samples(samples, rate_hz).unwrap_err();
            error.to_string()
        };
        assert!(said(vec![0.0; 8], 3_999).contains("3999"));
        assert!(said(vec![0.0; 300 * 4_000 + 1], 4_000).contains("300 s"));
        assert!(said(vec![], 16_000).contains("0 frames"));
        assert!(said(vec![0.0, f32::NAN], 8_000).contains("sample 1"));
        let loud = Sound::from_samples(vec![3.0, -7.0], 16_000).unwrap();
        assert_eq!(loud.samples, [1.0, -1.0]);
    }
}
