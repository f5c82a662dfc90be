//! Why a sound cannot be used.

use super::{MAX_FILE_RATE_HZ, MIN_FILE_RATE_HZ, MIN_SAMPLES, RATE_HZ};

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
