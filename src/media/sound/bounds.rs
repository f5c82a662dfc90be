//! What sounds are taken.

/// Samples a second of every [`super::Sound`].
pub const RATE_HZ: u32 = 16_000;

/// The longest sound that is taken, in seconds: what the reference's feature extractor was made for.
pub const MAX_SECONDS: u32 = 300;

/// The lowest rate of a file that is taken; below it nothing is left of speech.
pub const MIN_FILE_RATE_HZ: u32 = 4_000;

/// The highest rate of a file that is taken. A sound in the making takes 4 bytes a sample at the file's rate: 230 MB for
/// [`MAX_SECONDS`] of this rate, 53 MB at 44.1 kHz.
pub const MAX_FILE_RATE_HZ: u32 = 192_000;

/// The fewest samples that have a spectrum: half a window is mirrored at each end.
pub const MIN_SAMPLES: usize = 201;
