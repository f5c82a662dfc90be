//! Other rates to 16 kHz, by a windowed sinc.
//!
//! Written here because the libraries that there are compute their filters with the system's sine, whose last bits differ
//! between processors with and without fused multiply-add, and choose their sums by the instruction set.
//!
//! Both rates are whole numbers, so an output lies at an exact fraction between two inputs and the fractions repeat: each
//! is one row of filter taps, computed when its turn comes, used for all its outputs and forgotten.

use std::f64::consts::PI;

use super::RATE_HZ;

/// Zero crossings of the sinc on each side.
const CROSSINGS: f64 = 64.0;

/// Where the filter is down by half, as a share of the lower rate's Nyquist frequency: the window's main lobe is 1/16 wide
/// to each side, so that what would fold back is gone.
const CUTOFF: f64 = 0.94;

/// Sums of a dot product, for speed; fixed, so that they are the same everywhere.
const LANES: usize = 8;

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Resamples from `rate_hz` (not 0); as many samples as begin within the sound.
pub(super) fn to_16_khz(samples: &[f32], rate_hz: u32) -> Vec<f32> {
    let (from, to) = (u64::from(rate_hz), u64::from(RATE_HZ));
    let divisor = greatest_common_divisor(from, to);
    // Output i lies at input i * down / up.
    let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
    let outputs = (samples.len() as u64 * to).div_ceil(from) as usize;
    let filter = Filter::between(rate_hz);
    let mut out = vec![0.0; outputs];
    for first in 0..up.min(outputs) {
        let taps = filter.taps((first * down % up) as f64 / up as f64);
        for at in (first..outputs).step_by(up) {
            // Of the input just before the output, less what the filter reaches back.
            let start = (at * down / up + 1) as isize - filter.reach as isize;
            out[at] = dot(&taps, samples, start) as f32;
        }
    }
    out
}

struct Filter {
    /// Inputs that count on each side of an output.
    reach: usize,
    /// Cutoff as a share of the input's Nyquist frequency.
    cutoff: f64,
    /// Inputs from the middle of the window to its end.
    half_width: f64,
}

impl Filter {
    fn between(rate_hz: u32) -> Self {
        let lower = f64::from(RATE_HZ.min(rate_hz)) / f64::from(rate_hz);
        let half_width = CROSSINGS / lower;
        Self {
            reach: half_width as usize + 1,
            cutoff: CUTOFF * lower,
            half_width,
        }
    }

    /// What the inputs around an output weigh that lies `fraction` after one of them; the first is `reach - 1` before that
    /// one. They add up to one, so that a constant stays as it is.
    fn taps(&self, fraction: f64) -> Vec<f64> {
        let back = (self.reach - 1) as f64 + fraction;
        let mut taps: Vec<f64> = (0..2 * self.reach)
            .map(|tap| self.weight(tap as f64 - back))
            .collect();
        let sum: f64 = taps.iter().sum();
        taps.iter_mut().for_each(|tap| *tap /= sum);
        taps
    }

    /// Sinc times the Blackman-Harris window of four terms (sidelobes of -92 dB), `distance` inputs from the middle.
    fn weight(&self, distance: f64) -> f64 {
        if distance.abs() >= self.half_width {
            return 0.0;
        }
        let cos = libm::cos(PI * distance / self.half_width);
        let (cos2, cos3) = (2.0 * cos * cos - 1.0, (4.0 * cos * cos - 3.0) * cos);
        let window = 0.358_75 + 0.488_29 * cos + 0.141_28 * cos2 + 0.011_68 * cos3;
        let phase = PI * self.cutoff * distance;
        if phase == 0.0 {
            window
        } else {
            window * libm::sin(phase) / phase
        }
    }
}

/// Taps times the samples from `start` on; beyond the sound is silence.
fn dot(taps: &[f64], samples: &[f32], start: isize) -> f64 {
    let skipped = (-start).max(0) as usize;
    let from = start.max(0) as usize;
    let taps = taps.get(skipped..).unwrap_or_default();
    let samples = samples.get(from..).unwrap_or_default();
    let length = taps.len().min(samples.len());
    let (taps, samples) = (&taps[..length], &samples[..length]);
    let mut lanes = [0.0; LANES];
    for (taps, samples) in taps.chunks(LANES).zip(samples.chunks(LANES)) {
        for ((lane, tap), sample) in lanes.iter_mut().zip(taps).zip(samples) {
            *lane += tap * f64::from(*sample);
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_and_the_length_is_kept() {
        for rate_hz in [4_000, 8_000, 11_025, 15_999, 44_100, 48_000, 192_000] {
            let seconds = vec![0.25; rate_hz as usize];
            let out = to_16_khz(&seconds, rate_hz);
            assert_eq!(out.len(), 16_000, "{rate_hz}");
            for sample in &out[1_000..15_000] {
                assert!((sample - 0.25).abs() < 1e-6, "{rate_hz}: {sample}");
            }
        }
        assert_eq!(to_16_khz(&[0.0; 7], 44_100).len(), 3);
        assert_eq!(to_16_khz(&[1.0], 192_000).len(), 1);
    }

    /// What lies above the new Nyquist frequency must not come back as something else.
    #[test]
    fn what_would_fold_back_is_gone() {
        for (rate_hz, tone_hz) in [(48_000, 8_100.0), (44_100, 15_000.0)] {
            let tone: Vec<f32> = (0..rate_hz)
                .map(|n| libm::sin(2.0 * PI * tone_hz * f64::from(n) / f64::from(rate_hz)) as f32)
                .collect();
            let out = to_16_khz(&tone, rate_hz);
            let loudest = out[1_000..15_000]
                .iter()
                .fold(0.0f32, |a, b| a.max(b.abs()));
            assert!(loudest < 1e-4, "{tone_hz} Hz at {rate_hz}: {loudest}");
        }
    }
}
