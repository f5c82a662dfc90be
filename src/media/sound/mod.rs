//! Sound: reading files, the log-mel spectrum that the audio tower listens to, and how loud and of what colour it is.

mod bounds;
mod checks;
mod error;
mod flac;
mod fourier;
mod length;
mod mel;
mod pcm;
mod read;
mod resample;
mod riff;
mod samples;

pub use bounds::{MAX_FILE_RATE_HZ, MAX_SECONDS, MIN_FILE_RATE_HZ, MIN_SAMPLES, RATE_HZ};
pub use error::SoundError;
pub use length::Length;
pub use mel::{MEL_BINS, Mel, hann_window, log_mel, mel_filters, spectrum};
pub use samples::Sound;

/// What [`level_db`] answers for silence.
pub const LEVEL_FLOOR_DB: f32 = -90.0;

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
