//! Whether a sound is within the bounds.

use super::{MAX_FILE_RATE_HZ, MIN_FILE_RATE_HZ, SoundError};

pub(super) fn check_rate(rate_hz: u32) -> Result<(), SoundError> {
    if (MIN_FILE_RATE_HZ..=MAX_FILE_RATE_HZ).contains(&rate_hz) {
        return Ok(());
    }
    Err(SoundError::Rate { rate_hz })
}

pub(super) fn check_length(frames: u64, rate_hz: u32, most: u32) -> Result<(), SoundError> {
    if frames <= u64::from(most) * u64::from(rate_hz) {
        return Ok(());
    }
    Err(SoundError::TooLong {
        seconds: frames.div_ceil(u64::from(rate_hz)),
        most,
    })
}
