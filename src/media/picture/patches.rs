//! Pixels to patches: normalised, cut, and put in the order that the vision tower takes them in.

use super::{Picture, PictureError, resize, smart_resize};

/// How pictures are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchOptions {
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Side of the square of patches that becomes one token.
    pub merge_size: usize,
    /// Pixels of a picture (of a video: of each frame), at least.
    pub min_pixels: usize,
    /// As many at most.
    pub max_pixels: usize,
    /// Taken from every channel (of values from 0 to 1).
    pub mean: [f32; 3],
    /// What remains is divided by this.
    pub std: [f32; 3],
}

impl PatchOptions {
    /// The released model's, for images.
    pub const IMAGE: PatchOptions = PatchOptions {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
        min_pixels: 3136,
        max_pixels: 12_845_056,
        mean: [0.5; 3],
        std: [0.5; 3],
    };

    /// The released model's, for the frames of videos.
    pub const VIDEO: PatchOptions = PatchOptions {
        min_pixels: 128 * 1024,
        max_pixels: 768 * 1024,
        ..Self::IMAGE
    };

    fn check(&self) -> Result<(), PictureError> {
        let wrong = |key, value: String, expected| PictureError::Options {
            key,
            value,
            expected,
        };
        for (key, size) in [
            ("patch_size", self.patch_size),
            ("temporal_patch_size", self.temporal_patch_size),
            ("merge_size", self.merge_size),
        ] {
            if !(1..=1024).contains(&size) {
                return Err(wrong(key, size.to_string(), "from 1 to 1024"));
            }
        }
        if self.min_pixels > self.max_pixels {
            let value = self.min_pixels.to_string();
            return Err(wrong("min_pixels", value, "at most max_pixels"));
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            let value = format!("{:?}", self.std);
            return Err(wrong("image_std", value, "numbers above 0"));
        }
        Ok(())
    }
}

/// Patches of pictures or videos, as the vision tower takes them in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImagePatches {
    /// `[patches, 3 * temporal_patch_size * patch_size^2]`, values by channel, frame, row, column; patches by picture,
    /// frame, block row, block column, row and column within the block.
    pub values: Vec<f32>,
    /// Of every picture or video: temporal patches, rows and columns of patches.
    pub grids: Vec<[usize; 3]>,
}

impl ImagePatches {
    /// Adds those of further pictures.
    pub fn append(&mut self, other: ImagePatches) {
        self.values.extend(other.values);
        self.grids.extend(other.grids);
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.grids.iter().map(|[t, h, w]| t * h * w).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.grids.is_empty()
    }
}

/// A still, resized by [`smart_resize`] and repeated to fill the frames of a patch.
///
/// # Errors
/// When its aspect ratio or an option is out of range.
pub fn image_patches(
    picture: &Picture,
    options: &PatchOptions,
) -> Result<ImagePatches, PictureError> {
    options.check()?;
    let resized = fitted(picture, options)?;
    let frames = vec![&resized; options.temporal_patch_size];
    Ok(cut(&frames, options))
}

/// A video of these frames, resized by [`smart_resize`], the last one repeated where the last patch is not full.
///
/// # Errors
/// When there is no frame, their sizes differ, or an aspect ratio or an option is out of range.
pub fn video_patches(
    frames: &[Picture],
    options: &PatchOptions,
) -> Result<ImagePatches, PictureError> {
    options.check()?;
    let size = |frame: &Picture| [frame.width, frame.height];
    let expected = frames.first().map(size).ok_or(PictureError::NoFrames)?;
    for (index, frame) in frames.iter().enumerate() {
        let found = size(frame);
        if found != expected {
            return Err(PictureError::Frame {
                index,
                found,
                expected,
            });
        }
    }
    let resized = frames.iter().map(|frame| fitted(frame, options));
    let resized = resized.collect::<Result<Vec<Picture>, _>>()?;
    let mut frames: Vec<&Picture> = resized.iter().collect();
    let whole = frames.len().next_multiple_of(options.temporal_patch_size);
    let last = frames.last().copied().ok_or(PictureError::NoFrames)?;
    frames.resize(whole, last);
    Ok(cut(&frames, options))
}

fn fitted(picture: &Picture, options: &PatchOptions) -> Result<Picture, PictureError> {
    let factor = options.patch_size * options.merge_size;
    let (least, most) = (options.min_pixels, options.max_pixels);
    let [height, width] = smart_resize(picture.height, picture.width, factor, least, most)?;
    resize(picture, width, height)
}

/// Frames of one size, whole blocks each way, as many as fill their patches.
fn cut(frames: &[&Picture], options: &PatchOptions) -> ImagePatches {
    let (patch, merge) = (options.patch_size, options.merge_size);
    let Some(first) = frames.first() else {
        return ImagePatches::default();
    };
    let (rows, columns) = (first.height / patch, first.width / patch);
    let slots = frames.chunks_exact(options.temporal_patch_size);
    let grid = [slots.len(), rows, columns];
    let levels = normalised(options);
    let mut values = Vec::with_capacity(frames.len() * 3 * first.width * first.height);
    for slot in slots {
        for block_row in (0..rows).step_by(merge) {
            for block_column in (0..columns).step_by(merge) {
                for row in block_row..block_row + merge {
                    for column in block_column..block_column + merge {
                        let corner = [row * patch, column * patch];
                        push_patch(slot, corner, patch, &levels, &mut values);
                    }
                }
            }
        }
    }
    ImagePatches {
        values,
        grids: vec![grid],
    }
}

/// One patch of the frames of a slot.
fn push_patch(
    slot: &[&Picture],
    [top, left]: [usize; 2],
    patch: usize,
    levels: &[[f32; 256]; 3],
    values: &mut Vec<f32>,
) {
    for (channel, levels) in levels.iter().enumerate() {
        for frame in slot {
            for row in top..top + patch {
                let at = 3 * (row * frame.width + left);
                let pixels = frame.rgb[at..at + 3 * patch].chunks_exact(3);
                values.extend(pixels.map(|pixel| levels[usize::from(pixel[channel])]));
            }
        }
    }
}

/// What every grey level of every channel becomes: `(level / 255 - mean) / std`, multiplied out as the reference does.
fn normalised(options: &PatchOptions) -> [[f32; 256]; 3] {
    std::array::from_fn(|channel| {
        let mean = options.mean[channel] * 255.0;
        let std = options.std[channel] * 255.0;
        std::array::from_fn(|level| (level as f32 - mean) / std)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_refused() {
        let dot = Picture::from_rgb(1, 1, vec![0; 3]).unwrap();
        for wrong in [
            PatchOptions {
                patch_size: 0,
                ..PatchOptions::IMAGE
            },
            PatchOptions {
                merge_size: 0,
                ..PatchOptions::IMAGE
            },
            PatchOptions {
                temporal_patch_size: 0,
                ..PatchOptions::IMAGE
            },
            PatchOptions {
                min_pixels: 2,
                max_pixels: 1,
                ..PatchOptions::IMAGE
            },
            PatchOptions {
                std: [0.0; 3],
                ..PatchOptions::IMAGE
            },
        ] {
            let error = image_patches(&dot, &wrong).unwrap_err();
            assert!(matches!(error, PictureError::Options { .. }), "{error}");
        }
        let patches = image_patches(&dot, &PatchOptions::IMAGE).unwrap();
        assert_eq!((patches.len(), patches.grids[0]), (16, [1, 4, 4]));
    }
}
