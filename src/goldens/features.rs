//! What a case's towers take in.

use super::CaseError;
use super::case::{Case, Golden};
use crate::core::perception::Features;
use crate::media::picture::ImagePatches;
use crate::media::sound::Mel;

/// The case's sounds, pictures and videos, as the towers take them in; none where it has only words.
///
/// # Errors
/// When a tensor is misshapen, or one that belongs to another is missing.
pub(super) fn features(case: &Case, golden: &Golden) -> Result<Option<Features>, CaseError> {
    let features = Features {
        clips: clips(golden)?,
        images: patches(golden, "in.pixel_values", "in.image_grid_thw")?,
        videos: patches(golden, "in.pixel_values_videos", "in.video_grid_thw")?,
        video_seconds: golden
            .floats("in.video_second_per_grid")?
            .map_or(Vec::new(), |(_, seconds)| seconds),
        audio_in_video: case.audio_in_video,
    };
    let words_alone =
        features.clips.is_empty() && features.images.is_empty() && features.videos.is_empty();
    Ok((!words_alone).then_some(features))
}

/// Clips without their padding.
fn clips(golden: &Golden) -> Result<Vec<Mel>, CaseError> {
    let (name, mask_name) = ("in.input_features", "in.feature_attention_mask");
    let Some((shape, values)) = golden.floats(name)? else {
        return Ok(Vec::new());
    };
    let [clips, bins, width] = shape[..] else {
        let reason = format!("has shape {shape:?}, expected [clips, bins, frames]");
        return Err(golden.error(name, reason));
    };
    let mask = match golden.integers(mask_name)? {
        Some((_, mask)) if mask.len() == clips * width => mask,
        Some((shape, _)) => {
            let reason = format!("has shape {shape:?}, unlike {name}");
            return Err(golden.error(mask_name, reason));
        }
        None => vec![1; clips * width],
    };
    let clip = |at: usize| {
        let valid = &mask[at * width..(at + 1) * width];
        let frames = valid.iter().filter(|frame| **frame != 0).count();
        let row = |bin: usize| {
            let first = (at * bins + bin) * width;
            values[first..first + frames].iter().copied()
        };
        Mel {
            bins,
            frames,
            values: (0..bins).flat_map(row).collect(),
        }
    };
    Ok((0..clips).map(clip).collect())
}

fn patches(golden: &Golden, name: &str, grids_name: &str) -> Result<ImagePatches, CaseError> {
    let Some((_, values)) = golden.floats(name)? else {
        return Ok(ImagePatches::default());
    };
    let missing = || golden.error(grids_name, "is missing".into());
    let (shape, grids) = golden.integers(grids_name)?.ok_or_else(missing)?;
    let (grids, rest) = grids.as_chunks::<3>();
    if shape.len() != 2 || !rest.is_empty() {
        let reason = format!("has shape {shape:?}, expected [pictures, 3]");
        return Err(golden.error(grids_name, reason));
    }
    let side = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok(ImagePatches {
        values,
        grids: grids.iter().map(|grid| grid.map(side)).collect(),
    })
}
