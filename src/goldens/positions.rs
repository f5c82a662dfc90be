//! Positions alone: mixtures of media, and where the reference puts their tokens.

use super::CaseError;
use super::case::{Case, Golden};
use super::compare::CaseComparison;
use crate::checkpoint::config::ThinkerConfig;
use crate::model::positions::{MediaGrids, VideoGrid, media_positions};

/// Every mixture of the case.
pub(super) fn compare(
    config: &ThinkerConfig,
    case: &Case,
    golden: &Golden,
    comparison: &mut CaseComparison<'_>,
) -> Result<(), CaseError> {
    let mixtures = case.description()["cases"].as_array();
    for mixture in mixtures.into_iter().flatten() {
        let name = |tensor: &str| format!("{}.{tensor}", mixture["index"]);
        let grids = MediaGrids {
            images: grids(golden, &name("image_grid_thw"))?,
            videos: grids(golden, &name("video_grid_thw"))?
                .into_iter()
                .zip(floats(golden, &name("second_per_grids"))?)
                .map(|(grid, second_per_grid)| VideoGrid {
                    grid,
                    second_per_grid,
                })
                .collect(),
            audio_frames: whole(golden, &name("audio_seqlens"))?,
            use_audio_in_video: mixture["use_audio_in_video"] == true,
        };
        let ids = whole(golden, &name("input_ids"))?;
        let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        let (expected, delta) = (
            floats(golden, &name("position_ids"))?,
            floats(golden, &name("rope_delta"))?,
        );
        let (positions, found_delta) = media_positions(&ids, config, &grids)
            .map_err(|error| golden.error(&name("input_ids"), error.to_string()))?;
        let positions = positions.axes.concat();
        note(comparison, &name("position_ids"), &positions, &expected);
        note(comparison, &name("rope_delta"), &[found_delta], &delta);
    }
    Ok(())
}

/// Exactly: they are counted, not measured.
fn note(comparison: &mut CaseComparison<'_>, name: &str, found: &[f32], expected: &[f32]) {
    let pairs = found.iter().zip(expected);
    let differ = pairs.filter(|(a, b)| a != b).count() + found.len().abs_diff(expected.len());
    comparison.note_integers(name, differ, || {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        format!("{name}: {differ} differ, the first at {at:?}")
    });
}

fn grids(golden: &Golden, name: &str) -> Result<Vec<[usize; 3]>, CaseError> {
    let values = whole(golden, name)?;
    Ok(values.as_chunks::<3>().0.to_vec())
}

fn whole(golden: &Golden, name: &str) -> Result<Vec<usize>, CaseError> {
    let found = golden.integers(name)?.unwrap_or_default();
    let number = |n: i64| usize::try_from(n).map_err(|_| golden.error(name, format!("holds {n}")));
    found.1.into_iter().map(number).collect()
}

fn floats(golden: &Golden, name: &str) -> Result<Vec<f32>, CaseError> {
    Ok(golden.floats(name)?.unwrap_or_default().1)
}
