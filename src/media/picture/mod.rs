//! Pictures: from the bytes of a PNG or JPEG to pixels, to the size the model sees, to patches.

mod decode;
mod jpeg_segments;
mod orientation;
mod patches;
mod png_chunks;
mod resample;
mod spliced;

pub use decode::{BYTES_A_PIXEL, DecodeLimits};
pub use patches::{PatchOptions, Patches, image_patches, video_patches};
pub use resample::{resize, smart_resize};

/// Longest side over shortest, at most.
pub const MOST_ASPECT_RATIO: usize = 200;

/// Why something is not taken as a picture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PictureError {
    /// Nothing there.
    #[error("the picture's file is empty (0 bytes); expected a PNG or a JPEG: send it again")]
    Empty,
    /// Too many bytes.
    #[error("the picture's file has {bytes} bytes, expected at most {limit}: save it smaller")]
    FileTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Another format, or none.
    #[error(
        "the picture's file begins with the bytes {found}, expected those of a PNG (89 50 4e 47) or a JPEG (ff d8 ff): convert it to one of these"
    )]
    Format {
        /// Its first bytes, hexadecimal.
        found: String,
    },
    /// The decoder gave up.
    #[error(
        "the {format} cannot be decoded: {reason}; expected a whole, undamaged file: send it again, or save it anew"
    )]
    Malformed {
        /// PNG or JPEG.
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// Its colours come one after the other, and the decoder would put them together wrongly.
    #[error(
        "the picture is a baseline JPEG with one scan per component (its first scan has {found} of {components}), which is not read: save it as a progressive or an interleaved JPEG, or as a PNG"
    )]
    ComponentsApart {
        /// Components of the first scan.
        found: usize,
        /// All of them.
        components: usize,
    },
    /// Too many pixels.
    #[error(
        "the picture has {width} x {height} pixels, expected at most {limit} in all: save it smaller"
    )]
    TooLarge {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// The limit.
        limit: u64,
    },
    /// No pixels, or not as many as its size says.
    #[error(
        "a picture of {width} x {height} pixels comes with {bytes} bytes, expected 3 for each pixel, and at least one pixel"
    )]
    Size {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// A strip rather than a picture.
    #[error(
        "the picture has {width} x {height} pixels, expected sides of at most {MOST_ASPECT_RATIO} to 1: cut it into parts"
    )]
    AspectRatio {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// A video without a frame.
    #[error("the video has no frame, expected at least one")]
    NoFrames,
    /// Frames of different sizes.
    #[error(
        "frame {index} of the video has {found:?} pixels (width, height), the first has {expected:?}: all must have the same size"
    )]
    Frame {
        /// Which, from 0.
        index: usize,
        /// Its width and height.
        found: [usize; 2],
        /// Those of the first.
        expected: [usize; 2],
    },
    /// Options that make no sense.
    #[error("preprocessing: `{key}` is {value}, expected {expected}")]
    Options {
        /// Which.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// Pixels in RGB.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

impl Picture {
    /// From the bytes of a PNG or a JPEG file. Transparency is laid on white, greys become RGB, 16 bits become 8, and a
    /// picture that says of itself that it lies on its side (EXIF, wherever it stands, or XMP) is set upright. The first frame
    /// of an animation is taken. Nothing but pixels is inflated.
    ///
    /// # Errors
    /// When it is neither, damaged, cut short, or beyond the limits.
    pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Self, PictureError> {
        decode::decode(bytes, limits)
    }

    /// From `rgb` `[height, width, 3]`.
    ///
    /// # Errors
    /// When there is no pixel, or the bytes are not as many as the size says.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, PictureError> {
        let bytes = rgb.len();
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if expected != Some(bytes) || bytes == 0 {
            return Err(PictureError::Size {
                width,
                height,
                bytes,
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// Mean luma (ITU-R BT.601) of a picture, from 0 (black) to 1 (white).
pub fn brightness(picture: &Picture) -> f32 {
    let pixels = picture.rgb.chunks_exact(3);
    let count = pixels.len() as f64;
    let luma = |p: &[u8]| 299 * u64::from(p[0]) + 587 * u64::from(p[1]) + 114 * u64::from(p[2]);
    let sum: u64 = pixels.map(luma).sum();
    (sum as f64 / (1000.0 * 255.0 * count)) as f32
}

/// Shares of a picture's pixels in 64 coarse colours, which sum to 1: bin `16 r + 4 g + b` of four steps each way.
pub fn palette(picture: &Picture) -> Vec<f32> {
    let mut bins = vec![0_u64; 64];
    for p in picture.rgb.chunks_exact(3) {
        let step = |value: u8| usize::from(value >> 6);
        bins[16 * step(p[0]) + 4 * step(p[1]) + step(p[2])] += 1;
    }
    let count = (picture.rgb.len() / 3) as f64;
    bins.into_iter()
        .map(|bin| (bin as f64 / count) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_palette_see_what_is_there() {
        let half = [[0, 0, 0], [255, 255, 255]].concat();
        let half = Picture::from_rgb(2, 1, half).unwrap();
        assert_eq!(brightness(&half), 0.5);
        let colours = palette(&half);
        assert_eq!((colours[0], colours[63]), (0.5, 0.5));
        assert_eq!(colours.iter().sum::<f32>(), 1.0);
        let green = Picture::from_rgb(1, 1, vec![10, 200, 100]).unwrap();
        assert_eq!(palette(&green)[4 * 3 + 1], 1.0);
        assert!(brightness(&green) > 0.5);
    }

    #[test]
    fn a_size_that_does_not_fit_is_refused() {
        assert!(Picture::from_rgb(2, 2, vec![0; 9]).is_err());
        assert!(Picture::from_rgb(0, 0, vec![]).is_err());
        assert!(Picture::from_rgb(usize::MAX, 2, vec![0; 9]).is_err());
    }
}
