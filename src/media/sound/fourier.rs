//! Power spectrum of one window.
//!
//! A plain sum over samples and not a fast transform of some library: those take their sines from the system, whose last
//! bits differ by processor, and choose their order by the instruction set. Folding the window halves the work, which is a
//! thousandth of what the audio tower does with the result.

use std::f64::consts::PI;

/// Samples of a window.
pub(super) const WINDOW: usize = 400;

/// Frequencies of a window, 40 Hz apart at 16 kHz.
pub(super) const FREQUENCIES: usize = WINDOW / 2 + 1;

/// Sines and cosines of every sample and frequency.
pub(super) struct Fourier {
    /// `[WINDOW / 2 + 1, FREQUENCIES]`.
    cos: Vec<f64>,
    /// `[WINDOW / 2 + 1, FREQUENCIES]`.
    sin: Vec<f64>,
}

impl Fourier {
    pub(super) fn new() -> Self {
        let angle = |turn: usize| 2.0 * PI * turn as f64 / WINDOW as f64;
        let turns = |of: fn(f64) -> f64| -> Vec<f64> {
            let once: Vec<f64> = (0..WINDOW).map(|turn| of(angle(turn))).collect();
            let pairs = (0..=WINDOW / 2).flat_map(|n| (0..FREQUENCIES).map(move |k| n * k));
            pairs.map(|turn| once[turn % WINDOW]).collect()
        };
        Self {
            cos: turns(libm::cos),
            sin: turns(libm::sin),
        }
    }

    /// `|X_k|^2` of a real window, k = 0..=200.
    pub(super) fn power(&self, window: &[f64; WINDOW]) -> [f64; FREQUENCIES] {
        let (mut real, mut imaginary) = ([0.0; FREQUENCIES], [0.0; FREQUENCIES]);
        for n in 0..=WINDOW / 2 {
            // Samples n and 400 - n have the same cosine and opposite sines.
            let (even, odd) = match n {
                0 => (window[0], 0.0),
                _ if n == WINDOW / 2 => (window[n], 0.0),
                _ => (
                    window[n] + window[WINDOW - n],
                    window[n] - window[WINDOW - n],
                ),
            };
            let row = n * FREQUENCIES..(n + 1) * FREQUENCIES;
            let (cos, sin) = (&self.cos[row.clone()], &self.sin[row]);
            for k in 0..FREQUENCIES {
                real[k] += even * cos[k];
                imaginary[k] += odd * sin[k];
            }
        }
        let mut power = [0.0; FREQUENCIES];
        for (power, (real, imaginary)) in power.iter_mut().zip(real.iter().zip(imaginary)) {
            *power = real * real + imaginary * imaginary;
        }
        power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_have_their_lines_and_nothing_else() {
        let fourier = Fourier::new();
        for tone in [0, 1, 37, 200] {
            let mut window = [0.0; WINDOW];
            for (n, sample) in window.iter_mut().enumerate() {
                *sample = libm::cos(2.0 * PI * (n * tone) as f64 / 400.0);
            }
            for (k, power) in fourier.power(&window).into_iter().enumerate() {
                let amplitude: f64 = match (k == tone, tone) {
                    (true, 0 | 200) => 400.0,
                    (true, _) => 200.0,
                    _ => 0.0,
                };
                assert!(
                    (power - amplitude * amplitude).abs() < 1e-6,
                    "{tone} {k} {power}"
                );
            }
        }
        let mut window = [0.0; WINDOW];
        window[399] = 1.0; // a click has all lines
        let power = fourier.power(&window);
        assert!(power.iter().all(|power| (power - 1.0).abs() < 1e-9));
    }
}
