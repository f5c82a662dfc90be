//! A sound in memory.

use super::checks::{check_length, check_rate};
use super::{MAX_SECONDS, RATE_HZ, SoundError, resample};

/// Mono sound of [`RATE_HZ`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    /// Samples, within -1 and 1.
    pub samples: Vec<f32>,
}

impl Sound {
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
