//! Log-mel spectra of sounds and the audio tower equal the reference implementation's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};

use sage::goldens;
use sage::media::sound::{MEL_BINS, Mel, Sound, hann_window, log_mel, mel_filters, spectrum};
use sage::model::audio::{AudioTower, token_count};
use sage::model::pieces::PieceCounts;
use sage::store::{WeightSource, open_model};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Tensors of one golden file.
struct Tensors(goldens::Case);

impl Tensors {
    fn of(folder: &str, name: &str) -> Self {
        let cases = goldens::cases(&fixture(folder)).unwrap();
        Self(cases.into_iter().find(|case| case.name == name).unwrap())
    }

    /// Shape and numbers; masks as numbers too.
    fn get(&self, tensor: &str) -> (Vec<usize>, Vec<f32>) {
        let golden = self.0.open().unwrap();
        if tensor.ends_with("_mask") {
            let (shape, values) = golden.integers(tensor).unwrap().unwrap();
            return (shape, values.into_iter().map(|v| v as f32).collect());
        }
        let found = golden.floats(tensor).unwrap();
        found.unwrap_or_else(|| panic!("no {tensor}"))
    }
}

/// Greatest difference, in units of the largest golden or of one.
fn error(found: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(found.len(), golden.len(), "another number of values");
    let largest = golden.iter().fold(1.0f32, |a, b| a.max(b.abs()));
    let differences = found.iter().zip(golden).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |a, b| if b.is_nan() { b } else { a.max(b) }) / largest
}

fn wav_path(name: &str) -> PathBuf {
    fixture("preprocess").join(format!("audio-{name}.wav"))
}

fn fixture_sound(name: &str) -> Sound {
    Sound::read(&std::fs::read(wav_path(name)).unwrap()).unwrap()
}

#[test]
fn spectra_are_the_reference_ones() {
    let tensors = Tensors::of("preprocess", "preprocess");
    let (_, window) = tensors.get("hann_window");
    assert!(error(&hann_window(), &window) < 1e-6);
    let (shape, filters) = tensors.get("mel_filters");
    assert_eq!(shape, [201, MEL_BINS]);
    assert!(error(&mel_filters(), &filters) < 1e-6);
    for name in ["one-second", "speechlike", "short", "odd-length"] {
        let (shape, features) = tensors.get(&format!("audio.{name}.input_features"));
        let mel = log_mel(&fixture_sound(name)).unwrap();
        assert_eq!([1, mel.bins, mel.frames], shape[..], "{name}");
        let error = error(&mel.values, &features);
        println!("{name}: {error:e}");
        assert!(error < 1e-4, "{name}: off by {error}");
        let mean = features[..mel.frames].iter().sum::<f32>() / mel.frames as f32;
        assert!((spectrum(&mel)[0] - mean).abs() < 1e-4, "{name}");
    }
}

#[test]
fn tokens_are_counted_as_the_reference_does() {
    let json = std::fs::read(fixture("preprocess/preprocess.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let model = open_model(fixture("tiny-omni")).unwrap();
    let config = model.config().thinker.audio.clone().unwrap();
    let counts = json["audio_token_counts"].as_object().unwrap();
    assert!(counts.len() > 100);
    for (frames, tokens) in counts {
        let found = token_count(&config, frames.parse().unwrap());
        assert_eq!(Some(found as u64), tokens.as_u64(), "{frames} frames");
    }
    assert_eq!(token_count(&config, 0), 0);
}

/// The clips of a golden, their valid frames only.
fn clips(tensors: &Tensors) -> Vec<Mel> {
    let (shape, features) = tensors.get("in.input_features");
    let (_, mask) = tensors.get("in.feature_attention_mask");
    let (bins, frames) = (shape[1], shape[2]);
    let clip = |(features, mask): (&[f32], &[f32])| {
        let valid = mask.iter().filter(|m| **m != 0.0).count();
        let rows = features.chunks_exact(frames);
        Mel {
            bins,
            frames: valid,
            values: rows.flat_map(|row| row[..valid].to_vec()).collect(),
        }
    };
    let features = features.chunks_exact(bins * frames);
    features.zip(mask.chunks_exact(frames)).map(clip).collect()
}

type Heard = Vec<(String, Vec<f32>)>;

/// What the probe hears, and what is returned, of all clips one after another.
fn encode(tower: &mut AudioTower, source: &dyn WeightSource, clips: &[Mel]) -> Heard {
    let mut heard = Heard::new();
    let clips: Vec<&Mel> = clips.iter().collect();
    let mut probe = |name: &str, values: &[f32]| heard.push((name.to_owned(), values.to_vec()));
    let out = tower.encode(source, &clips, &mut probe).unwrap();
    for (clip, out) in clips.iter().zip(&out) {
        let tokens = token_count(tower.config(), clip.frames);
        assert_eq!(out.len(), tokens * tower.config().output_dim);
    }
    heard.push(("(returned)".into(), out.concat()));
    heard
}

fn opened() -> (Box<dyn WeightSource>, AudioTower) {
    let source = open_model(fixture("tiny-omni")).unwrap();
    let tower = AudioTower::new(source.as_ref()).unwrap().expect("a tower");
    (source, tower)
}

#[test]
fn the_tower_is_the_reference_one() {
    let (source, mut tower) = opened();
    tower.pieces_mut().keep(usize::MAX);
    for case in [
        "audio",
        "audio-short",
        "audio-batch",
        "image-audio-text",
        "audio-in-video",
        "audio-in-video-wide",
    ] {
        let tensors = Tensors::of("tiny-omni/goldens", case);
        let heard = encode(&mut tower, source.as_ref(), &clips(&tensors));
        let names: Vec<&str> = heard.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "audio.layer_in.0",
                "audio.layer_out.0",
                "audio.layer_out.1",
                "audio.output",
                "(returned)"
            ]
        );
        for (name, found) in &heard {
            let golden = if name == "(returned)" {
                "audio.output"
            } else {
                name
            };
            let error = error(found, &tensors.get(golden).1);
            println!("{case} {name}: {error:e}");
            assert!(error < 1e-5, "{case} {name}: off by {error}");
        }
    }
}

/// Padding to the longest clip of a call is seen: clips apart are not what they are together.
#[test]
fn clips_of_a_call_are_padded_to_the_longest() {
    let (source, mut tower) = opened();
    let tensors = Tensors::of("tiny-omni/goldens", "audio-batch");
    let golden = tensors.get("audio.output").1;
    let apart = clips(&tensors).into_iter().flat_map(|clip| {
        let heard = encode(&mut tower, source.as_ref(), &[clip]);
        heard.into_iter().next_back().unwrap().1
    });
    assert!(error(&apart.collect::<Vec<_>>(), &golden) > 1e-4);
}

/// Memory changes what is read, never a number.
#[test]
fn a_share_of_memory_decides_what_is_read_and_nothing_else() {
    let (source, mut tower) = opened();
    let clips = clips(&Tensors::of("tiny-omni/goldens", "audio-batch"));
    let mut expected = 0;
    for name in source.tensor_names() {
        if name.starts_with("thinker.audio_tower.") {
            let meta = source.tensor(name).unwrap();
            expected += match meta.shape.len() {
                1 => 4 * meta.shape[0] as u64,
                _ => meta.bytes.next_multiple_of(4096),
            };
        }
    }
    let total: u64 = tower.pieces().sizes().iter().sum();
    assert_eq!(total, expected);
    let reference = encode(&mut tower, source.as_ref(), &clips);
    let all_read = PieceCounts {
        hits: 0,
        misses: 4,
        bytes_read: total,
    };
    assert_eq!(tower.pieces().counts(), all_read);
    for kept in [0, 1, 3, 4] {
        tower.pieces_mut().keep(kept);
        assert_eq!(encode(&mut tower, source.as_ref(), &clips), reference);
        let resident = tower.pieces().resident_bytes();
        assert_eq!(resident, tower.pieces().sizes()[..kept].iter().sum::<u64>());
        let before = tower.pieces().counts();
        assert_eq!(encode(&mut tower, source.as_ref(), &clips), reference);
        let counts = PieceCounts {
            hits: kept as u64,
            misses: 4 - kept as u64,
            bytes_read: total - resident,
        };
        assert_eq!(tower.pieces().counts().since(before), counts, "{kept} kept");
    }
}

#[test]
fn threads_change_no_bit() {
    let clips = clips(&Tensors::of("tiny-omni/goldens", "audio-batch"));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let (source, mut tower) = opened();
            let heard = encode(&mut tower, source.as_ref(), &clips);
            let bits = heard.into_iter().flat_map(|(_, values)| values);
            bits.map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn nothing_is_heard_of_nothing_and_no_tower_is_no_error() {
    let (source, mut tower) = opened();
    assert!(
        tower
            .encode(source.as_ref(), &[], &mut |_: &str, _: &[f32]| ())
            .unwrap()
            .is_empty()
    );
    let empty = Mel {
        bins: MEL_BINS,
        ..Mel::default()
    };
    let out = tower
        .encode(source.as_ref(), &[&empty], &mut |_: &str, _: &[f32]| ())
        .unwrap();
    assert_eq!(out, [Vec::<f32>::new()]);
    assert_eq!(tower.pieces().counts(), PieceCounts::default());
    let deaf = open_model(fixture("edge-top1")).unwrap();
    let has_tower = deaf.config().thinker.audio.is_some();
    assert_eq!(AudioTower::new(deaf.as_ref()).unwrap().is_some(), has_tower);
}
