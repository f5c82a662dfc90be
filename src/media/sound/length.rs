//! How long sounds are.

use super::{RATE_HZ, mel};

/// How long a sound file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Samples of a channel.
    pub frames: u64,
    /// Samples of a channel a second.
    pub rate_hz: u32,
}

impl Length {
    /// Samples of the [`super::Sound`] that it becomes.
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
