//! Samples as a WAV codes them, to the average of its channels.

use super::SoundError;
use super::checks::check_length;

/// How samples are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Whole numbers from 0, of one byte.
    Unsigned,
    /// Whole numbers, little-endian, left-aligned in their bytes.
    Signed,
    Float,
    /// ITU-T G.711, A-law.
    ALaw,
    /// ITU-T G.711, mu-law.
    MuLaw,
}

/// What the chunk `fmt ` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) rate_hz: u32,
    channels: usize,
    sample_bytes: usize,
    coding: Coding,
}

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const A_LAW: u16 = 6;
const MU_LAW: u16 = 7;
/// What it is stands further behind.
const EXTENSIBLE: u16 = 0xfffe;

impl Format {
    /// Of the contents of the chunk, and what follows it.
    ///
    /// # Errors
    /// What is wrong, or not read.
    pub(super) fn parse(contents: &[u8]) -> Result<Self, String> {
        let short = |at: usize| -> Result<u16, String> {
            let bytes = contents.get(at..at + 2).and_then(|b| b.try_into().ok());
            bytes
                .map(u16::from_le_bytes)
                .ok_or_else(|| "its `fmt ` chunk is cut short".to_owned())
        };
        let rate_hz = u32::from(short(4)?) | u32::from(short(6)?) << 16;
        let (channels, bits) = (usize::from(short(2)?), short(14)?);
        let tag = match short(0)? {
            EXTENSIBLE => short(24)?,
            tag => tag,
        };
        if channels == 0 {
            return Err("it has 0 channels".to_owned());
        }
        let sample_bytes = usize::from(bits).div_ceil(8);
        let coding = match (tag, bits) {
            (PCM, 1..=8) => Coding::Unsigned,
            (PCM, 9..=32) => Coding::Signed,
            (FLOAT, 32 | 64) => Coding::Float,
            (A_LAW, 8) => Coding::ALaw,
            (MU_LAW, 8) => Coding::MuLaw,
            (PCM | FLOAT | A_LAW | MU_LAW, _) => {
                return Err(format!("its samples have {bits} bits in coding {tag}"));
            }
            _ => return Err(format!("its samples are compressed, coding {tag:#06x}")),
        };
        Ok(Self {
            rate_hz,
            channels,
            sample_bytes,
            coding,
        })
    }

    /// Whole frames in so many bytes.
    pub(super) fn frames(&self, bytes: usize) -> u64 {
        (bytes / (self.channels * self.sample_bytes)) as u64
    }

    /// The average of the channels, frame by frame.
    ///
    /// # Errors
    /// When there are more frames than `most_seconds` have.
    pub(super) fn mono(&self, data: &[u8], most_seconds: u32) -> Result<Vec<f32>, SoundError> {
        check_length(self.frames(data.len()), self.rate_hz, most_seconds)?;
        let frames = data.chunks_exact(self.channels * self.sample_bytes);
        let average = |frame: &[u8]| {
            let samples = frame.chunks_exact(self.sample_bytes);
            samples.map(|sample| self.sample(sample)).sum::<f32>() / self.channels as f32
        };
        Ok(frames.map(average).collect())
    }

    fn sample(&self, bytes: &[u8]) -> f32 {
        match self.coding {
            Coding::Unsigned => whole(i32::from(bytes[0] ^ 0x80) << 24),
            Coding::Signed => {
                let bytes = bytes.iter();
                // The last byte counts most, and the first ones may be missing.
                whole(bytes.fold(0, |value, byte| {
                    value >> 8 & 0xff_ffff | i32::from(*byte) << 24
                }))
            }
            Coding::Float => match *bytes {
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
                _ => f32::NAN,
            },
            Coding::ALaw => f32::from(a_law(bytes[0])) / 32_768.0,
            Coding::MuLaw => f32::from(mu_law(bytes[0])) / 32_768.0,
        }
    }
}

/// A whole number of 32 bits as a share of full scale.
fn whole(value: i32) -> f32 {
    (f64::from(value) / 2_147_483_648.0) as f32
}

/// 13 bits of G.711's A-law, left-aligned.
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (segment, step) = (code >> 4 & 7, i16::from(code & 15));
    let size = match segment {
        0 => (step << 4) + 8,
        _ => ((step << 4) + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 { -size } else { size }
}

/// 14 bits of G.711's mu-law, left-aligned.
fn mu_law(code: u8) -> i16 {
    let code = !code;
    let (segment, step) = (code >> 4 & 7, i16::from(code & 15));
    let size = (((step << 3) + 0x84) << segment) - 0x84;
    if code & 0x80 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(tag: u16, channels: u16, frame_bytes: u16, bits: u16) -> Result<Format, String> {
        let mut contents = [tag, channels, 8_000, 0, 0, 0, frame_bytes, bits].map(u16::to_le_bytes);
        contents[2] = 8_000_u16.to_le_bytes();
        Format::parse(&contents.concat())
    }

    #[test]
    fn every_width_comes_to_the_same_share_of_full_scale() {
        let one = |bits: u16, bytes: &[u8]| {
            let format = format(PCM, 1, 0, bits).unwrap();
            format.mono(bytes, 1).unwrap()[0]
        };
        assert_eq!(one(8, &[0x40]), -0.5);
        assert_eq!(one(16, &[0, 0xc0]), -0.5);
        assert_eq!(one(24, &[0, 0, 0xc0]), -0.5);
        assert_eq!(one(32, &[0, 0, 0, 0x40]), 0.5);
        assert_eq!(one(20, &[0, 0, 0x20]), 0.25);
        // What is said of a frame's bytes is not believed.
        let both = format(PCM, 2, 8, 24).unwrap();
        assert_eq!(both.mono(&[0, 0, 0x40, 0, 0, 0xc0], 1).unwrap(), [0.0]);
        let long = format(FLOAT, 1, 8, 64).unwrap();
        assert_eq!(long.mono(&0.25_f64.to_le_bytes(), 1).unwrap(), [0.25]);
    }

    #[test]
    fn telephones_are_understood() {
        // ITU-T G.711, tables 1 and 2: the largest and the smallest values of either sign.
        assert_eq!(
            [0xaa, 0x2a, 0xd5, 0x55].map(a_law),
            [32_256, -32_256, 8, -8]
        );
        assert_eq!(
            [0x80, 0x00, 0xff, 0x7f].map(mu_law),
            [32_124, -32_124, 0, 0]
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert!(format(PCM, 0, 0, 16).unwrap_err().contains("0 channels"));
        assert!(format(0x55, 1, 1, 0).unwrap_err().contains("0x0055"));
        assert!(format(PCM, 1, 8, 64).unwrap_err().contains("64 bits"));
        assert!(format(FLOAT, 1, 2, 16).unwrap_err().contains("16 bits"));
        assert!(Format::parse(&[1, 0]).unwrap_err().contains("cut short"));
    }
}
