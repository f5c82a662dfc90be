//! Where the rows of the talker's prompt stand.

use crate::checkpoint::ModelConfig;
use crate::model::Positions;
use crate::model::positions::{MediaGrids, PositionsError, media_positions};

/// Positions of the talker's prompt `ids`, and what a later row's position is above its number. Where there are pictures or
/// videos they are the thinker's rules with the talker's numbers; a video that carries its sound within is plain text here, as
/// the reference has it, which never tells its talker of such videos.
///
/// # Errors
/// When tokens and media do not match.
pub fn talker_positions(
    ids: &[u32],
    config: &ModelConfig,
    grids: &MediaGrids,
) -> Result<(Positions, f32), PositionsError> {
    let mut rules = config.thinker.clone();
    if let Some(talker) = &config.talker {
        rules.position_id_per_seconds = Some(talker.position_id_per_seconds);
        if let Some(vision) = &mut rules.vision {
            vision.spatial_merge_size = talker.spatial_merge_size;
        }
    }
    let (ids, grids) = plain(ids, config, grids);
    if grids.images.is_empty() && grids.videos.is_empty() {
        return Ok((Positions::text(0, ids.len()), 0.0));
    }
    media_positions(&ids, &rules, &grids)
}

/// Videos with sound within become words, and their grids go.
fn plain(ids: &[u32], config: &ModelConfig, grids: &MediaGrids) -> (Vec<u32>, MediaGrids) {
    let (mut ids, mut left) = (ids.to_vec(), grids.clone());
    let thinker = &config.thinker;
    if !std::mem::take(&mut left.use_audio_in_video) {
        return (ids, left);
    }
    (left.videos, left.audio_frames) = (Vec::new(), Vec::new());
    let (mut videos, mut sounds) = (grids.videos.iter(), grids.audio_frames.iter());
    let mut at = 0;
    while at < ids.len() {
        let id = Some(ids[at]);
        let next = ids.get(at + 1).copied();
        if id == thinker.vision_start_token_id && next == thinker.audio_start_token_id {
            let rest = ids[at..].iter();
            let mut ends = rest
                .enumerate()
                .filter(|(_, id)| Some(**id) == thinker.vision_end_token_id);
            let end = ends.next().map_or(ids.len(), |(len, _)| at + len + 1);
            ids[at..end].fill(config.tts_pad_token_id);
            videos.next();
            sounds.next();
            at = end;
            continue;
        }
        if id == thinker.vision_start_token_id && next == thinker.video_token_id {
            left.videos.extend(videos.next());
        }
        if id == thinker.audio_start_token_id {
            left.audio_frames.extend(sounds.next());
        }
        at += 1;
    }
    // What has no place stays, so that it is named.
    left.videos.extend(videos);
    left.audio_frames.extend(sounds);
    (ids, left)
}
