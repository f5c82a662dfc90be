//! `sage encode`: the towers alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use safetensors::SafeTensors;
use sage::checkpoint::Component;
use sage::checkpoint::config::AudioConfig;
use sage::core::perception::DecodedMedia;
use sage::cpu::encode::{Embedding, Encoder};
use sage::goldens::Golden;
use sage::media::picture::ImagePatches;
use sage::media::sound::Mel;
use sage::model::audio::token_count;
use sage::session::opening::{EngineOptions, plan};
use sage::store::{ExtractSelection, open_model};
use sage_actors::protocol::Modality;
use serde_json::Value;

use super::{golden, json, path, refused};
use crate::common::runs::{complaint, sage};
use crate::common::sounds::{hum, siren};
use crate::common::{extract, files, fixture};

/// Sounds and pictures of a golden, as they would have been decoded.
fn sensed(golden: &Golden, audio: &AudioConfig) -> DecodedMedia {
    let mut sensed = DecodedMedia::default();
    let features = &mut sensed.features;
    if let Some((shape, values)) = golden.floats("in.input_features").unwrap() {
        let mask = golden.integers("in.feature_attention_mask");
        let (_, mask) = mask.unwrap().unwrap();
        let (bins, width) = (shape[1], shape[2]);
        for clip in 0..shape[0] {
            let valid = &mask[clip * width..(clip + 1) * width];
            let frames = valid.iter().filter(|valid| **valid != 0).count();
            let values = (0..bins).flat_map(|bin| {
                let first = (clip * bins + bin) * width;
                values[first..first + frames].iter().copied()
            });
            features.clips.push(Mel {
                bins,
                frames,
                values: values.collect(),
            });
            sensed.sound_tokens.push(token_count(audio, frames));
        }
    }
    if let Some((_, values)) = golden.floats("in.pixel_values").unwrap() {
        let (_, grids) = golden.integers("in.image_grid_thw").unwrap().unwrap();
        let grids: Vec<[usize; 3]> = grids
            .chunks_exact(3)
            .map(|grid| [grid[0] as usize, grid[1] as usize, grid[2] as usize])
            .collect();
        sensed.picture_tokens = grids.iter().map(|[t, h, w]| t * h * w / 4).collect();
        features.images = ImagePatches { values, grids };
    }
    sensed
}

/// Largest difference over the largest golden number, or over 1.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0f32, |most, e| most.max(e.abs()));
    let differences = found.iter().zip(expected).map(|(f, e)| (f - e).abs());
    differences.fold(0.0, f32::max) / largest
}

#[test]
fn embeddings_are_the_references_with_no_thinker_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("towers");
    let towers = ExtractSelection {
        components: [Component::Vision, Component::Audio].into(),
        ..ExtractSelection::all()
    };
    extract(&fixture("tiny-omni"), &store, &towers);
    let source = open_model(&store).unwrap();
    let audio = source.config().thinker.audio.clone().unwrap();
    for case in [
        "audio",
        "audio-short",
        "audio-batch",
        "image",
        "image-audio-text",
    ] {
        let golden = golden("tiny-omni", case);
        let sensed = sensed(&golden, &audio);
        let mut encoder = Encoder::new(&*source, &sensed.senses()).unwrap();
        let found = encoder.encode(&sensed).unwrap();
        assert_eq!(found.read_bytes, encoder.weight_bytes(), "every piece once");
        let rows = |all: &[Embedding]| -> Vec<f32> {
            all.iter().flat_map(|one| one.rows.clone()).collect()
        };
        if let Some((_, expected)) = golden.floats("audio.output").unwrap() {
            assert!(difference(&rows(&found.sounds), &expected) < 1e-5, "{case}");
            assert_eq!(found.sounds.len(), sensed.features.clips.len());
        }
        if let Some((_, expected)) = golden.floats("vision_image.merged").unwrap() {
            assert!(
                difference(&rows(&found.pictures), &expected) < 1e-5,
                "{case}"
            );
            for level in 0..2 {
                let name = format!("vision_image.deepstack.{level}");
                let (_, expected) = golden.floats(&name).unwrap().unwrap();
                let pictures = found.pictures.iter();
                let found: Vec<f32> = pictures.flat_map(|p| p.deepstack[level].clone()).collect();
                assert!(difference(&found, &expected) < 1e-5, "{case} {name}");
            }
        }
    }
}

/// Two sounds and two pictures in a folder.
fn media(folder: &Path) -> [PathBuf; 4] {
    let [a, b, c, d] = ["a.wav", "b.wav", "c.png", "d.jpg"].map(|name| folder.join(name));
    fs::write(&a, hum(0.3, 1)).unwrap();
    fs::write(&b, siren(0.8)).unwrap();
    fs::copy(fixture("preprocess/image-exact.png"), &c).unwrap();
    fs::copy(fixture("pictures/gradient.jpg"), &d).unwrap();
    [a, b, c, d]
}

fn encode(model: &str, media: &[PathBuf; 4], out: &Path, more: &[&str]) -> Output {
    let [a, b, c, d] = media.each_ref().map(|path| path.to_str().unwrap());
    let base = [
        "encode", model, "--audio", a, "--image", c, "--audio", b, "--image", d, "--out",
    ];
    sage(&[&base[..], &[out.to_str().unwrap()], more].concat())
}

#[test]
fn the_file_names_every_tensor_and_where_it_is_from() {
    let folder = tempfile::tempdir().unwrap();
    let media = media(folder.path());
    let out = folder.path().join("all.safetensors");
    let report = json(&encode(&path("tiny-omni"), &media, &out, &["--json"]));
    let bytes = fs::read(&out).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let names: BTreeSet<&str> = read.names().into_iter().collect();
    let expected = [
        "audio.0",
        "audio.1",
        "image.0",
        "image.0.deepstack.0",
        "image.0.deepstack.1",
        "image.1",
        "image.1.deepstack.0",
        "image.1.deepstack.1",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), expected.len());
    for tensor in tensors {
        let found = read.tensor(tensor["name"].as_str().unwrap()).unwrap();
        assert_eq!(found.dtype(), safetensors::Dtype::F32);
        assert_eq!(serde_json::json!(found.shape()), tensor["shape"]);
        assert_eq!(found.shape()[1], 64, "the thinker's width");
        let numbers = found.data().chunks_exact(4);
        let mut numbers = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        assert!(numbers.all(f32::is_finite));
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let notes = header.metadata().as_ref().unwrap();
    let hash = |path: &Path| blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();
    assert_eq!(notes["audio.1.file"], media[1].display().to_string());
    assert_eq!(notes["audio.1.blake3"], hash(&media[1]));
    assert_eq!(notes["image.0.blake3"], hash(&media[2]));
    let grid: Vec<usize> = notes["image.0.grid"]
        .split('x')
        .map(|side| side.parse().unwrap())
        .collect();
    let tokens = grid.iter().product::<usize>() / 4;
    assert_eq!(read.tensor("image.0").unwrap().shape(), [tokens, 64]);
    assert_eq!(notes["model_fingerprint"], report["fingerprint"]);

    // The same files give the same bytes, from a store of the towers alone and at the least memory too.
    let store = folder.path().join("towers");
    let (checkpoint, to) = (path("tiny-omni"), store.to_str().unwrap());
    let extracted = sage(&[
        "extract",
        &checkpoint,
        "--out",
        to,
        "--components",
        "vision,audio",
    ]);
    assert!(extracted.status.success(), "{}", complaint(&extracted));
    let inspected = sage(&["inspect", to]);
    assert_eq!(inspected.status.code(), Some(0), "nothing is missing");
    let text = String::from_utf8(inspected.stdout).unwrap();
    assert!(
        text.contains("a partial store, on purpose") && text.contains("vision, audio"),
        "{text}"
    );
    let again = folder.path().join("again.safetensors");
    let floor = report["floor_bytes"].as_u64().unwrap().div_ceil(1 << 20) + 1;
    let limit = format!("{floor}MiB");
    let report = json(&encode(
        to,
        &media,
        &again,
        &["--limit", &limit, "--threads", "1", "--json"],
    ));
    assert_eq!(fs::read(&again).unwrap(), bytes);
    let peak = report["peak_rss_bytes"].as_u64();
    assert!(peak <= report["limit_bytes"].as_u64(), "{report}");
    let output = sage(&["generate", to, "--prompt-tokens", "1 2"]);
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
}

#[test]
fn what_cannot_be_encoded_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let media = media(folder.path());
    let [sound, _, picture, _] = media.each_ref().map(|path| path.to_str().unwrap());
    let out = folder.path().join("out.safetensors");
    let to = out.to_str().unwrap();
    let omni = path("tiny-omni");
    let before = files(folder.path());
    refused(&["encode", &omni, "--out", to], &["nothing to encode"]);
    refused(
        &["encode", "models/tiny", "--image", picture, "--out", to],
        &["vision tower"],
    );
    refused(
        &["encode", &omni, "--image", sound, "--out", to],
        &["a.wav", "picture"],
    );
    refused(
        &["encode", &omni, "--audio", "absent.wav", "--out", to],
        &["absent.wav"],
    );
    refused(
        &[
            "encode", &omni, "--audio", sound, "--out", to, "--limit", "1MiB",
        ],
        &["below", "hint: --limit"],
    );
    refused(
        &[
            "encode", &omni, "--audio", sound, "--out", to, "--limit", "3slots",
        ],
        &["slots"],
    );
    refused(
        &[
            "encode",
            &omni,
            "--audio",
            sound,
            "--out",
            to,
            "--media-tokens",
            "2",
        ],
        &["--media-tokens"],
    );
    refused(
        &["encode", &omni, "--audio", sound, "--out", sound],
        &["is to be encoded"],
    );
    let inside = format!("{to}/deeper");
    refused(
        &["encode", &omni, "--audio", sound, "--out", &inside],
        &["no folder"],
    );
    let here = folder.path().to_str().unwrap();
    refused(
        &["encode", &omni, "--audio", sound, "--out", here],
        &["is a folder"],
    );
    assert_eq!(files(folder.path()), before);
}

/// A copy of the fixture with a vocabulary of 400,000: what its decoder must hold is 195 MiB and more, all of it zeros.
fn with_a_large_vocabulary(folder: &Path) {
    const ROWS: u64 = 400_000;
    for entry in fs::read_dir(fixture("tiny-omni")).unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let text = fs::read(folder.join(name)).unwrap();
        let mut value: Value = serde_json::from_slice(&text).unwrap();
        change(&mut value);
        fs::write(folder.join(name), value.to_string()).unwrap();
    };
    edit("config.json", &|config| {
        config["thinker_config"]["text_config"]["vocab_size"] = ROWS.into();
    });
    let tables = [
        "thinker.model.embed_tokens.weight",
        "thinker.lm_head.weight",
    ];
    edit("model.safetensors.index.json", &|index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        for table in tables {
            // The small table's shard calls it otherwise from now on, and no index lists that.
            let shard = folder.join(map[table].as_str().unwrap());
            let mut bytes = fs::read(&shard).unwrap();
            let name = format!("\"{table}\"");
            let at = bytes
                .windows(name.len())
                .position(|part| part == name.as_bytes())
                .unwrap();
            bytes[at + 1] = b'x';
            fs::write(shard, bytes).unwrap();
            map.insert(table.to_owned(), "large.safetensors".into());
        }
    });
    let bytes = ROWS * 64 * 4;
    let header = format!(
        r#"{{"{}":{{"dtype":"F32","shape":[{ROWS},64],"data_offsets":[0,{bytes}]}},"{}":{{"dtype":"F32","shape":[{ROWS},64],"data_offsets":[{bytes},{}]}}}}"#,
        tables[0],
        tables[1],
        2 * bytes
    );
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.as_bytes());
    let path = folder.join("large.safetensors");
    fs::write(&path, &start).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(start.len() as u64 + 2 * bytes).unwrap();
}

#[test]
fn encoding_takes_far_less_than_the_decoder_has_to_hold() {
    let folder = tempfile::tempdir().unwrap();
    with_a_large_vocabulary(folder.path());
    let source = open_model(folder.path()).unwrap();
    let floor = plan(&*source, &EngineOptions::default())
        .unwrap()
        .memory
        .floor;
    assert!(floor.resident_weights_bytes > 90 << 20);
    let out = folder.path().join("out.safetensors");
    let media = media(folder.path());
    let model = folder.path().to_str().unwrap();
    let report = json(&encode(model, &media, &out, &["--json"]));
    let peak = report["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < floor.total() / 3, "{peak} of {}", floor.total());
}

#[test]
fn modalities_without_a_tower_are_refused_before_anything_is_read() {
    let source = open_model("models/tiny").unwrap();
    assert!(Encoder::new(&*source, &[Modality::Audio]).is_ok());
    assert!(Encoder::new(&*source, &[Modality::Vision]).is_err());
}
