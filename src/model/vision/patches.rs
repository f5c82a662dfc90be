//! What the tower looks at.

/// What the tower looks at, all pictures (or all videos) of a call.
#[derive(Clone, Copy, Debug)]
pub struct VisionInput<'a> {
    /// `[patches, channels * temporal_patch_size * patch_size^2]`, values by channel, frame, row, column; the patches of a
    /// frame by block of `spatial_merge_size` squared: block row, block column, row within, column within.
    pub values: &'a [f32],
    /// Of every picture or video: temporal patches, rows and columns of patches.
    pub grids: &'a [[usize; 3]],
}
