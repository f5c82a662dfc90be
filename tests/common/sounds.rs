//! Sounds and pictures made by formula.

use std::f64::consts::TAU;

/// Samples a second.
pub const RATE_HZ: u32 = 16_000;

/// A 16-bit WAV file of these samples.
pub fn wav(samples: impl ExactSizeIterator<Item = f64>) -> Vec<u8> {
    let bytes = samples.len() as u32 * 2;
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(RATE_HZ.to_le_bytes());
    file.extend((RATE_HZ * 2).to_le_bytes());
    file.extend(2u16.to_le_bytes());
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend(bytes.to_le_bytes());
    for sample in samples {
        let whole = (sample.clamp(-1.0, 1.0) * 32767.0).round() as i16;
        file.extend(whole.to_le_bytes());
    }
    file
}

/// A low hum of this amplitude; `variant` changes its pitch a little.
pub fn hum(amplitude: f64, variant: u32) -> Vec<u8> {
    let pitch = 118.0 + 0.5 * f64::from(variant % 8);
    wav((0..RATE_HZ).map(move |at| {
        let time = f64::from(at) / f64::from(RATE_HZ);
        let overtone = (TAU * 2.0 * pitch * time).sin() / 3.0;
        amplitude * ((TAU * pitch * time).sin() + overtone) / 1.4
    }))
}

/// A siren: up and down between 600 and 1,800 Hz twice a second.
pub fn siren(amplitude: f64) -> Vec<u8> {
    wav((0..RATE_HZ).map(move |at| {
        let time = f64::from(at) / f64::from(RATE_HZ);
        let phase = 1200.0 * time - 600.0 / (TAU * 2.0) * (TAU * 2.0 * time).cos();
        amplitude * (TAU * phase).sin().signum() * 0.9
    }))
}
