//! Why something is not taken as a picture.

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
