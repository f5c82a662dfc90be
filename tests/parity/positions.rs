//! Positions of text, pictures, sound and video equal the reference's, number for number.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::PathBuf;

use sage::checkpoint::ModelConfig;
use sage::goldens::{self, Golden};
use sage::model::audio::token_count;
use sage::model::positions::{MediaGrids, PositionsError, VideoGrid, media_positions};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn config() -> ModelConfig {
    let text = std::fs::read(fixtures().join("tiny-omni/config.json")).expect("a file");
    ModelConfig::from_json(&text).expect("a configuration")
}

fn golden(name: &str) -> Golden {
    let cases = goldens::cases(&fixtures().join("tiny-omni/goldens")).expect("goldens");
    let case = cases.iter().find(|case| case.name == name).expect(name);
    case.open().expect("a golden")
}

fn description(name: &str) -> serde_json::Value {
    let path = fixtures().join(format!("tiny-omni/goldens/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

fn integers(golden: &Golden, name: &str) -> Vec<i64> {
    let found = golden.integers(name).expect("integers");
    found.map_or(vec![], |(_, values)| values)
}

fn floats(golden: &Golden, name: &str) -> Vec<f32> {
    let found = golden.floats(name).expect("numbers");
    found.map_or(vec![], |(_, values)| values)
}

fn grids(values: &[i64]) -> Vec<[usize; 3]> {
    let grid = |grid: &[i64]| [grid[0] as usize, grid[1] as usize, grid[2] as usize];
    values.chunks_exact(3).map(grid).collect()
}

fn videos(values: &[i64], seconds: &[f32]) -> Vec<VideoGrid> {
    let videos = grids(values).into_iter().zip(seconds);
    let video = |(grid, second_per_grid): ([usize; 3], &f32)| VideoGrid {
        grid,
        second_per_grid: *second_per_grid,
    };
    videos.map(video).collect()
}

/// That the positions of `ids` are `expected` `[3, tokens]`, and the delta too.
fn assert_equal(name: &str, ids: &[i64], media: &MediaGrids, expected: &[f32], delta: &[f32]) {
    let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
    let (found, found_delta) = media_positions(&ids, &config().thinker, media).expect(name);
    assert_eq!(expected.len(), 3 * ids.len(), "{name}");
    let axes = expected.chunks_exact(ids.len());
    for (axis, (found, expected)) in found.axes.iter().zip(axes).enumerate() {
        assert_eq!(found, expected, "{name}, axis {axis}");
    }
    assert_eq!(&[found_delta], delta, "{name}");
}

#[test]
fn random_mixtures_stand_where_the_reference_puts_them() {
    let golden = golden("rope-index");
    let description = description("rope-index");
    let cases = description["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 16);
    for case in cases {
        let index = &case["index"];
        let name = |tensor: &str| format!("{index}.{tensor}");
        let frames = integers(&golden, &name("audio_seqlens"));
        let media = MediaGrids {
            images: grids(&integers(&golden, &name("image_grid_thw"))),
            videos: videos(
                &integers(&golden, &name("video_grid_thw")),
                &floats(&golden, &name("second_per_grids")),
            ),
            audio_frames: frames.iter().map(|frames| *frames as usize).collect(),
            use_audio_in_video: case["use_audio_in_video"] == true,
        };
        assert_equal(
            &format!("mixture {index}"),
            &integers(&golden, &name("input_ids")),
            &media,
            &floats(&golden, &name("position_ids")),
            &floats(&golden, &name("rope_delta")),
        );
    }
}

const CASES: [&str; 9] = [
    "image",
    "audio",
    "audio-short",
    "audio-batch",
    "image-audio-text",
    "video",
    "image-video",
    "audio-in-video",
    "audio-in-video-wide",
];

fn media_of(golden: &Golden, name: &str) -> MediaGrids {
    let mask = golden
        .integers("in.feature_attention_mask")
        .expect("a mask");
    let audio_frames = mask.map_or(vec![], |(shape, mask)| {
        let valid = |clip: &[i64]| clip.iter().filter(|valid| **valid != 0).count();
        mask.chunks_exact(shape[1]).map(valid).collect()
    });
    MediaGrids {
        images: grids(&integers(golden, "in.image_grid_thw")),
        videos: videos(
            &integers(golden, "in.video_grid_thw"),
            &floats(golden, "in.video_second_per_grid"),
        ),
        audio_frames,
        use_audio_in_video: description(name)["flags"]["use_audio_in_video"] == true,
    }
}

#[test]
fn prompts_of_every_kind_stand_where_the_reference_puts_them() {
    for name in CASES {
        let golden = golden(name);
        assert_equal(
            name,
            &integers(&golden, "in.input_ids"),
            &media_of(&golden, name),
            &floats(&golden, "thinker.position_ids"),
            &floats(&golden, "thinker.rope_delta"),
        );
    }
}

#[test]
fn text_alone_counts_on() {
    let (found, delta) =
        media_positions(&[1, 2, 3], &config().thinker, &MediaGrids::default()).expect("positions");
    assert_eq!(found, sage::model::Positions::text(0, 3));
    assert_eq!(delta, 0.0);
    let (none, delta) =
        media_positions(&[], &config().thinker, &MediaGrids::default()).expect("positions");
    assert!(none.is_empty() && delta == 0.0);
}

#[test]
fn audio_tokens_follow_the_table() {
    let text = std::fs::read(fixtures().join("preprocess/preprocess.json")).expect("a file");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let counts = json["audio_token_counts"].as_object().expect("a table");
    assert!(counts.len() > 100);
    let tower = config().thinker.audio.expect("an audio tower");
    let audio_tokens = |frames| token_count(&tower, frames);
    for (frames, tokens) in counts {
        let found = audio_tokens(frames.parse().expect("a number"));
        assert_eq!(Some(found as u64), tokens.as_u64(), "{frames} frames");
    }
    assert_eq!(audio_tokens(0), 0);
}

/// One too many, one too few, none at all: each names what is wrong.
#[test]
fn media_that_do_not_match_their_places_are_refused() {
    let golden = golden("image-video");
    let ids: Vec<u32> = integers(&golden, "in.input_ids")
        .iter()
        .map(|id| *id as u32)
        .collect();
    let (config, media) = (config().thinker, media_of(&golden, "image-video"));
    let refused = |ids: &[u32], media: &MediaGrids| {
        media_positions(ids, &config, media).expect_err("it does not match")
    };
    assert!(media_positions(&ids, &config, &media).is_ok());

    let mut fewer = media.clone();
    fewer.images.pop();
    assert!(matches!(
        refused(&ids, &fewer),
        PositionsError::NoMedia {
            kind: "image",
            index: 1,
            given: 1,
            ..
        }
    ));
    let mut more = media.clone();
    more.audio_frames.push(30);
    assert_eq!(
        refused(&ids, &more),
        PositionsError::Unused {
            kind: "audio",
            given: 1,
            used: 0
        }
    );
    let mut larger = media.clone();
    larger.videos[0].grid[0] += 1;
    assert!(matches!(
        refused(&ids, &larger),
        PositionsError::Token { .. }
    ));
    let mut odd = media.clone();
    odd.images[0][1] = 3;
    assert!(matches!(
        refused(&ids, &odd),
        PositionsError::Grid {
            kind: "image",
            index: 0,
            ..
        }
    ));
    let mut endless = media.clone();
    endless.videos[0].second_per_grid = f32::NAN;
    assert!(matches!(
        refused(&ids, &endless),
        PositionsError::Seconds { index: 0, .. }
    ));
    let pad = config.image_token_id.expect("a pad");
    assert!(matches!(
        refused(&[1, pad], &MediaGrids::default()),
        PositionsError::Token { at: 1, .. }
    ));
    let cut = ids.iter().rposition(|id| *id == pad).expect("a pad");
    assert!(matches!(
        refused(&ids[..cut], &media),
        PositionsError::Token { .. }
    ));

    let mut deaf = config.clone();
    deaf.audio_token_id = None;
    let heard = MediaGrids {
        audio_frames: vec![30],
        ..MediaGrids::default()
    };
    let error = media_positions(&[1], &deaf, &heard).expect_err("no audio");
    assert!(error.to_string().contains("`audio_token_id`"), "{error}");
}
