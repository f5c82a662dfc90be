//! FLAC to the average of its channels.
//!
//! The decoder is given the frames alone, and checks the sum of each; tags, pictures and tables of a file are passed over.

use std::io::ErrorKind;

use claxon::frame::{Block, FrameReader};
use claxon::input::BufferedReader;

use super::checks::check_length;
use super::{Length, SoundError};

const MAGIC: &[u8] = b"fLaC";

/// Bytes of the block that says how samples are coded, and its number.
const STREAM_INFO_BYTES: usize = 34;
const STREAM_INFO: u8 = 0;

/// Bits of a sample at most.
const MOST_BITS: u32 = 24;

/// Bytes of a tag of the first kind behind everything.
const TRAILING_TAG_BYTES: usize = 128;

/// A FLAC whose frames were found.
pub(super) struct Flac<'a> {
    rate_hz: u32,
    channels: u32,
    bits: u32,
    /// Samples of a channel; none where the file was written without knowing.
    stated_frames: Option<u64>,
    frames: &'a [u8],
}

/// Whether a file is a FLAC by its beginning.
pub(super) fn is_flac(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl<'a> Flac<'a> {
    /// Of a file that [`is_flac`].
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
        let mut info = None;
        loop {
            let [kind, a, b, c, contents @ ..] = rest else {
                return Err("it ends among its tags".to_owned());
            };
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > contents.len() {
                return Err("it ends among its tags".to_owned());
            }
            let (block, behind) = contents.split_at(length);
            if kind & 0x7f == STREAM_INFO && length == STREAM_INFO_BYTES {
                info = info.or(Some(block));
            }
            rest = behind;
            if kind & 0x80 != 0 {
                break;
            }
        }
        let info = info.ok_or("it does not say how it is coded")?;
        let byte = |at: usize| u64::from(info[at]);
        // 20 bits of rate, 3 of channels, 5 of bits, 36 of frames.
        let packed = (10..18).fold(0, |packed, at| packed << 8 | byte(at));
        let stated = packed & 0xf_ffff_ffff;
        let tail = rest.len().saturating_sub(TRAILING_TAG_BYTES);
        let frames = match rest[tail..].starts_with(b"TAG") {
            true => &rest[..tail],
            false => rest,
        };
        let bits = (packed >> 36 & 31) as u32 + 1;
        if bits > MOST_BITS {
            return Err(format!(
                "its samples have {bits} bits, {MOST_BITS} are read"
            ));
        }
        Ok(Self {
            rate_hz: (packed >> 44) as u32,
            channels: (packed >> 41 & 7) as u32 + 1,
            bits,
            stated_frames: (stated > 0).then_some(stated),
            frames,
        })
    }

    pub(super) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// As the file states it; where it does not, every frame is decoded, until there are more than `most_seconds` have.
    ///
    /// # Errors
    /// When frames are damaged.
    pub(super) fn length(&self, most_seconds: u32) -> Result<Length, SoundError> {
        let frames = match self.stated_frames {
            Some(stated) => stated,
            None => {
                let most = u64::from(most_seconds) * u64::from(self.rate_hz);
                let mut read = 0;
                self.decode(&mut |block| {
                    read += u64::from(block.duration());
                    Ok(read <= most)
                })?;
                read
            }
        };
        Ok(Length {
            frames,
            rate_hz: self.rate_hz,
        })
    }

    /// The average of the channels, frame by frame.
    ///
    /// # Errors
    /// When there are more frames than `most_seconds` have, or frames are damaged.
    pub(super) fn mono(&self, most_seconds: u32) -> Result<Vec<f32>, SoundError> {
        let most = u64::from(most_seconds) * u64::from(self.rate_hz);
        check_length(self.stated_frames.unwrap_or(0), self.rate_hz, most_seconds)?;
        // What is never written takes no memory, and a vector that grows would be there twice.
        let mut mono = Vec::with_capacity(self.stated_frames.unwrap_or(most) as usize);
        let full_scale = f64::from(1_u32 << (self.bits - 1));
        let channels = self.channels;
        self.decode(&mut |block| {
            let frames = mono.len() as u64 + u64::from(block.duration());
            check_length(frames, self.rate_hz, most_seconds)?;
            let sample = |channel, at| (f64::from(block.sample(channel, at)) / full_scale) as f32;
            mono.extend((0..block.duration()).map(|at| {
                (0..channels)
                    .map(|channel| sample(channel, at))
                    .sum::<f32>()
                    / channels as f32
            }));
            Ok(true)
        })?;
        Ok(mono)
    }

    /// Gives out every block, as long as `take` wants more.
    fn decode(
        &self,
        take: &mut dyn FnMut(&Block) -> Result<bool, SoundError>,
    ) -> Result<(), SoundError> {
        let wrong = |reason: String, read_frames: u64| match (self.stated_frames, reason.as_str()) {
            (Some(stated_frames), ENDED) => SoundError::CutShort {
                found_frames: read_frames,
                stated_frames,
            },
            _ => SoundError::Damaged {
                read_frames,
                reason,
            },
        };
        let mut frames = FrameReader::new(BufferedReader::new(self.frames));
        let mut buffer = Vec::new();
        let mut read = 0;
        // What stands behind the last frame is no sound.
        while self.stated_frames.is_none_or(|stated| read < stated) {
            let block = match frames.read_next_or_eof(buffer) {
                Ok(Some(block)) => block,
                Ok(None) if self.stated_frames.is_some() => return Err(wrong(ENDED.into(), read)),
                Ok(None) => return Ok(()),
                Err(claxon::Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(wrong(ENDED.into(), read));
                }
                Err(error) => return Err(wrong(error.to_string(), read)),
            };
            if block.channels() != self.channels {
                let reason = format!("{} channels after {}", block.channels(), self.channels);
                return Err(wrong(reason, read));
            }
            read += u64::from(block.duration());
            if !take(&block)? {
                return Ok(());
            }
            buffer = block.into_buffer();
        }
        Ok(())
    }
}

/// Why a file that was cut is refused.
const ENDED: &str = "it ends within a frame";
