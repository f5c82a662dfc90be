//! Sound files to mono samples.
//!
//! Only lossless formats are read: their samples are exact integers or floats, while decoders of lossy ones compute theirs
//! with sines of the system, whose last bits differ by processor.

use super::checks::{check_length, check_rate};
use super::flac::{self, Flac};
use super::riff::{self, Wav};
use super::{Length, MAX_SECONDS, Sound, SoundError};

/// Behind a tag of the second kind, which some programs write before everything.
fn untagged(bytes: &[u8]) -> &[u8] {
    match bytes {
        [b'I', b'D', b'3', _, _, _, a, b, c, d, rest @ ..] => {
            let seven = |at: usize, byte: &u8| usize::from(byte & 0x7f) << (7 * (3 - at));
            let length: usize = [a, b, c, d]
                .iter()
                .enumerate()
                .map(|(at, b)| seven(at, b))
                .sum();
            rest.get(length..).unwrap_or_default()
        }
        _ => bytes,
    }
}

/// A sound file that was looked at and not decoded yet.
pub(super) enum Opened<'a> {
    Wav(Wav<'a>),
    Flac(Flac<'a>),
}

impl<'a> Opened<'a> {
    /// # Errors
    /// When the bytes are no file that is read, or its rate is out of bounds.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, SoundError> {
        if bytes.is_empty() {
            return Err(SoundError::NoBytes);
        }
        let unreadable = |reason: String| SoundError::Unreadable {
            bytes: bytes.len(),
            reason,
        };
        let file = untagged(bytes);
        let opened = if riff::is_wav(file) {
            Self::Wav(riff::parse(file).map_err(unreadable)?)
        } else if flac::is_flac(file) {
            Self::Flac(Flac::parse(file).map_err(unreadable)?)
        } else {
            return Err(unreadable("it begins as neither does".to_owned()));
        };
        check_rate(opened.rate_hz())?;
        Ok(opened)
    }

    pub(super) fn rate_hz(&self) -> u32 {
        match self {
            Self::Wav(wav) => wav.format.rate_hz,
            Self::Flac(flac) => flac.rate_hz(),
        }
    }

    /// How long it is; of one that is longer than `most_seconds` perhaps only that.
    ///
    /// # Errors
    /// When the frames of a file that states no length are damaged.
    pub(super) fn length(&self, most_seconds: u32) -> Result<Length, SoundError> {
        match self {
            Self::Wav(wav) => Ok(Length {
                frames: wav.format.frames(wav.data.len()),
                rate_hz: wav.format.rate_hz,
            }),
            Self::Flac(flac) => flac.length(most_seconds),
        }
    }

    /// The average of the channels.
    ///
    /// # Errors
    /// When there is nothing, more than `most_seconds`, or damage.
    pub(super) fn mono(&self, most_seconds: u32) -> Result<Vec<f32>, SoundError> {
        let samples = match self {
            Self::Wav(wav) => wav.format.mono(wav.data, most_seconds)?,
            Self::Flac(flac) => flac.mono(most_seconds)?,
        };
        if samples.is_empty() {
            return Err(SoundError::NoFrames);
        }
        Ok(samples)
    }
}

impl Length {
    /// Of a file that is not decoded; whether its samples are whole is not known then, unless it states no length.
    ///
    /// # Errors
    /// When it is no sound file, or longer than [`MAX_SECONDS`].
    pub fn of(bytes: &[u8]) -> Result<Self, SoundError> {
        let length = Opened::new(bytes)?.length(MAX_SECONDS)?;
        check_length(length.frames, length.rate_hz, MAX_SECONDS)?;
        Ok(length)
    }
}

impl Sound {
    /// Reads a sound file from its bytes: WAV (PCM of 8 to 32 bits, float, or G.711) or FLAC, of any number of channels, which
    /// are averaged, and any rate from [`super::MIN_FILE_RATE_HZ`] to [`super::MAX_FILE_RATE_HZ`].
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
        let opened = Opened::new(bytes)?;
        let samples = opened.mono(most_seconds.min(MAX_SECONDS))?;
        Self::from_samples(samples, opened.rate_hz())
    }
}
