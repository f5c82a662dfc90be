//! The log-mel spectrum of the reference's feature extractor, computed in f64.

use std::sync::OnceLock;

use super::fourier::{FREQUENCIES, Fourier, WINDOW};
use super::{MIN_SAMPLES, RATE_HZ, Sound, SoundError};

/// Mel bins of a frame.
pub const MEL_BINS: usize = 128;

/// Samples from one frame to the next: 10 ms.
const HOP: usize = 160;

/// A log-mel spectrum, as the audio tower takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mel {
    /// Mel bins.
    pub bins: usize,
    /// Frames of 10 ms.
    pub frames: usize,
    /// `[bins, frames]`; the loudest value of a clip is at most `(log10(power) + 4) / 4`, the least 2 below the loudest.
    pub values: Vec<f32>,
}

/// One triangle: what consecutive frequencies weigh.
struct Triangle {
    first: usize,
    weights: Vec<f64>,
}

struct Tables {
    fourier: Fourier,
    window: [f64; WINDOW],
    triangles: Vec<Triangle>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| Tables {
        fourier: Fourier::new(),
        window: hann(),
        triangles: triangles(),
    })
}

/// Frames of a clip of so many samples.
pub(super) fn frames(samples: usize) -> usize {
    samples / HOP
}

/// The log-mel spectrum of a clip alone: windows of 400 samples every 160, mirrored at the ends, periodic Hann, power,
/// [`MEL_BINS`] triangles of [`mel_filters`], `log10` of at least 1e-10, floored 8 below the clip's loudest, `(x + 4) / 4`.
/// A clip of n samples has `n / 160` frames.
///
/// # Errors
/// When the sound has fewer than [`MIN_SAMPLES`] samples.
pub fn log_mel(sound: &Sound) -> Result<Mel, SoundError> {
    let samples = &sound.samples;
    if samples.len() < MIN_SAMPLES {
        return Err(SoundError::TooShort {
            samples: samples.len(),
        });
    }
    let tables = tables();
    let frames = frames(samples.len());
    let mut values = vec![0.0; MEL_BINS * frames];
    let mut loudest = f32::NEG_INFINITY;
    for frame in 0..frames {
        let power = tables
            .fourier
            .power(&windowed(samples, frame, &tables.window));
        for (bin, triangle) in tables.triangles.iter().enumerate() {
            let power = power[triangle.first..].iter().zip(&triangle.weights);
            let energy: f64 = power.map(|(power, weight)| power * weight).sum();
            let value = libm::log10(energy.max(1e-10)) as f32;
            loudest = loudest.max(value);
            values[bin * frames + frame] = value;
        }
    }
    for value in &mut values {
        *value = (value.max(loudest - 8.0) + 4.0) / 4.0;
    }
    Ok(Mel {
        bins: MEL_BINS,
        frames,
        values,
    })
}

/// The samples around `frame`, mirrored at both ends of the sound, times the window.
fn windowed(samples: &[f32], frame: usize, window: &[f64; WINDOW]) -> [f64; WINDOW] {
    let mut out = [0.0; WINDOW];
    for (n, (out, weight)) in out.iter_mut().zip(window).enumerate() {
        let padded = frame * HOP + n;
        let at = padded.abs_diff(WINDOW / 2);
        let at = if padded >= WINDOW / 2 && at >= samples.len() {
            2 * (samples.len() - 1) - at
        } else {
            at
        };
        *out = f64::from(samples[at]) * weight;
    }
    out
}

/// Mean of every mel bin over the frames, `[bins]`: what a sound's timbre is like, coarsely. Zeros where there are none.
pub fn spectrum(mel: &Mel) -> Vec<f32> {
    if mel.frames == 0 {
        return vec![0.0; mel.bins];
    }
    let bins = mel.values.chunks_exact(mel.frames);
    bins.map(|bin| (bin.iter().copied().map(f64::from).sum::<f64>() / mel.frames as f64) as f32)
        .collect()
}

fn hann() -> [f64; WINDOW] {
    let mut window = [0.0; WINDOW];
    for (n, weight) in window.iter_mut().enumerate() {
        *weight = 0.5 - 0.5 * libm::cos(2.0 * std::f64::consts::PI * n as f64 / WINDOW as f64);
    }
    window
}

/// The periodic Hann window, `[400]`.
pub fn hann_window() -> Vec<f32> {
    hann().iter().map(|weight| *weight as f32).collect()
}

/// The triangles as a matrix `[201, MEL_BINS]`, frequencies by bins: Slaney's mel scale (linear to 1 kHz, logarithmic
/// above) from 0 to 8000 Hz, every triangle of area one.
pub fn mel_filters() -> Vec<f32> {
    let mut filters = vec![0.0; FREQUENCIES * MEL_BINS];
    for (bin, triangle) in tables().triangles.iter().enumerate() {
        for (at, weight) in triangle.weights.iter().enumerate() {
            filters[(triangle.first + at) * MEL_BINS + bin] = *weight as f32;
        }
    }
    filters
}

fn triangles() -> Vec<Triangle> {
    const HZ_A_LINE: f64 = RATE_HZ as f64 / WINDOW as f64;
    let top = mel_of(f64::from(RATE_HZ) / 2.0);
    let corner = |at: usize| hz_of(top * at as f64 / (MEL_BINS + 1) as f64);
    let triangle = |bin: usize| {
        let (low, middle, high) = (corner(bin), corner(bin + 1), corner(bin + 2));
        let weight = |line: usize| {
            let hz = line as f64 * HZ_A_LINE;
            let slope = ((hz - low) / (middle - low)).min((high - hz) / (high - middle));
            slope.max(0.0) * 2.0 / (high - low)
        };
        let lines: Vec<usize> = (0..FREQUENCIES).filter(|l| weight(*l) > 0.0).collect();
        Triangle {
            first: lines.first().copied().unwrap_or(0),
            weights: lines.iter().map(|line| weight(*line)).collect(),
        }
    };
    (0..MEL_BINS).map(triangle).collect()
}

/// Mels of a linear step, in hertz.
const LINEAR_HZ: f64 = 200.0 / 3.0;
/// Where the scale turns logarithmic, in hertz and mels.
const BEND_HZ: f64 = 1000.0;
const BEND_MEL: f64 = 15.0;

/// 27 mels are a factor of 6.4.
fn log_step() -> f64 {
    libm::log(6.4) / 27.0
}

fn mel_of(hz: f64) -> f64 {
    if hz < BEND_HZ {
        hz / LINEAR_HZ
    } else {
        BEND_MEL + libm::log(hz / BEND_HZ) / log_step()
    }
}

fn hz_of(mel: f64) -> f64 {
    if mel < BEND_MEL {
        mel * LINEAR_HZ
    } else {
        BEND_HZ * libm::exp((mel - BEND_MEL) * log_step())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_and_its_inverse_agree() {
        for hz in [0.0, 40.0, 999.0, 1000.0, 4321.0, 8000.0] {
            assert!((hz_of(mel_of(hz)) - hz).abs() < 1e-9, "{hz}");
        }
    }

    #[test]
    fn a_spectrum_is_the_mean_over_frames() {
        let mel = Mel {
            bins: 2,
            frames: 2,
            values: vec![1.0, 3.0, 5.0, 6.0],
        };
        assert_eq!(spectrum(&mel), [2.0, 5.5]);
        assert_eq!(
            spectrum(&Mel {
                bins: 1,
                ..Mel::default()
            }),
            [0.0]
        );
    }

    #[test]
    fn the_shortest_sound_has_a_frame() {
        let sound = |samples| Sound {
            samples: vec![0.5; samples],
        };
        assert_eq!(log_mel(&sound(MIN_SAMPLES)).unwrap().frames, 1);
        assert!(log_mel(&sound(MIN_SAMPLES - 1)).is_err());
    }
}
