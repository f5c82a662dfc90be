//! Sound files, their log-mel spectra and the audio tower equal the reference implementation's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::f64::consts::PI;
use std::path::{Path, PathBuf};

use sage::engine::goldens;
use sage::media::sound::{
    MEL_BINS, Mel, Sound, SoundError, hann_window, level_db, log_mel, mel_filters, spectrum,
};
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

/// A WAV file of 16-bit samples, interleaved.
fn wav(samples: &[i16], channels: u16, rate_hz: u32) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    wav_of(1, 16, &data, channels, rate_hz)
}

fn wav_of(format: u16, bits: u16, data: &[u8], channels: u16, rate_hz: u32) -> Vec<u8> {
    let frame_bytes = bits / 8 * channels;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate_hz.to_le_bytes());
    bytes.extend((rate_hz * u32::from(frame_bytes)).to_le_bytes());
    bytes.extend(frame_bytes.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// A check of `bytes` by a polynomial of `bits` bits.
fn crc(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << (bits - 8)), |crc, _| {
            let carry = (crc >> (bits - 1)) & 1;
            ((crc << 1) ^ (carry * polynomial)) & ((1 << bits) - 1)
        })
    })
}

/// A FLAC file of one verbatim frame of 16-bit samples, mono.
fn flac(samples: &[i16], rate_hz: u32) -> Vec<u8> {
    let count = samples.len() as u16;
    let mut bytes = b"fLaC\x80\x00\x00\x22".to_vec();
    bytes.extend([count.to_be_bytes(), count.to_be_bytes()].concat());
    bytes.extend([0; 6]); // sizes of frames: unknown
    bytes.extend(((rate_hz << 12) | (15 << 4)).to_be_bytes()); // and one channel of 16 bits
    bytes.extend(u32::from(count).to_be_bytes());
    bytes.extend([0; 16]); // no digest
    let mut frame = vec![0xff, 0xf8, 0x70, 0x08, 0x00];
    frame.extend((count - 1).to_be_bytes());
    frame.push(crc(&frame, 8, 0x07) as u8);
    frame.push(0x02);
    frame.extend(samples.iter().flat_map(|s| s.to_be_bytes()));
    frame.extend((crc(&frame, 16, 0x8005) as u16).to_be_bytes());
    bytes.extend(frame);
    bytes
}

#[test]
fn formats_and_channels_come_to_the_same_samples() {
    let samples: Vec<i16> = (0..800).map(|n| (n * 37 % 2001 - 1000) * 16).collect();
    let mono = Sound::read(&wav(&samples, 1, 16_000)).unwrap();
    let exact: Vec<f32> = samples.iter().map(|s| f32::from(*s) / 32_768.0).collect();
    assert_eq!(mono.samples, exact);
    let floats: Vec<u8> = exact.iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(
        Sound::read(&wav_of(3, 32, &floats, 1, 16_000)).unwrap(),
        mono
    );
    assert_eq!(Sound::read(&flac(&samples, 16_000)).unwrap(), mono);
    // Left and right around the same middle.
    let pairs: Vec<i16> = samples
        .iter()
        .flat_map(|s| [s + 1_000, s - 1_000])
        .collect();
    assert_eq!(Sound::read(&wav(&pairs, 2, 16_000)).unwrap(), mono);
    let bytes: Vec<u8> = samples.iter().map(|s| (s / 256 + 128) as u8).collect();
    let coarse = Sound::read(&wav_of(1, 8, &bytes, 1, 16_000)).unwrap();
    assert!(error(&coarse.samples, &mono.samples) < 1.0 / 120.0);
}

/// A tone keeps its pitch, its phase and its level, whatever the file's rate.
#[test]
fn tones_survive_resampling() {
    for rate_hz in [8_000, 11_025, 22_050, 44_100, 48_000] {
        let turn = |n: usize, rate: u32| 2.0 * PI * 1_000.0 * n as f64 / f64::from(rate);
        let tone: Vec<i16> = (0..rate_hz as usize)
            .map(|n| (16_384.0 * turn(n, rate_hz).sin()).round() as i16)
            .collect();
        let sound = Sound::read(&wav(&tone, 1, rate_hz)).unwrap();
        assert_eq!(sound.samples.len(), 16_000, "{rate_hz}");
        for (n, sample) in sound.samples.iter().enumerate().take(15_000).skip(1_000) {
            let expected = 0.5 * turn(n, 16_000).sin();
            let difference = (f64::from(*sample) - expected).abs();
            assert!(
                difference < 1e-4,
                "{rate_hz}, sample {n}: off by {difference}"
            );
        }
        let level = level_db(&sound);
        assert!((level + 9.03).abs() < 0.02, "{rate_hz}: {level} dB");
        let mean = spectrum(&log_mel(&sound).unwrap());
        let loudest = (0..MEL_BINS).max_by(|a, b| mean[*a].total_cmp(&mean[*b]));
        // 1 kHz is 15 of the 45.25 mels that 129 steps cover.
        assert_eq!(loudest, Some(42), "{rate_hz}");
    }
}

fn refused(bytes: &[u8]) -> String {
    Sound::read(bytes).expect_err("an error").to_string()
}

#[test]
fn what_is_no_sound_is_refused_by_name() {
    assert!(refused(&[]).contains("0 bytes"));
    let garbage: Vec<u8> = (0..5_000u32).map(|n| ((n * n) >> 3) as u8).collect();
    assert!(refused(&garbage).starts_with("5000 bytes are not a sound file"));
    assert!(refused(&wav(&[], 1, 16_000)).contains("0 frames"));
    assert!(refused(&wav(&[0; 10], 1, 500)).contains("500 samples a second"));
    // The header alone says so; nothing that long is there.
    let mut long = wav(&[0; 10], 1, 16_000);
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    long[40..44].copy_from_slice(&(2 * 16_000 * 301u32).to_le_bytes());
    assert!(refused(&long).contains("301 s"));
    let endless = f32::INFINITY.to_le_bytes();
    assert!(refused(&wav_of(3, 32, &endless, 1, 16_000)).contains("sample 0 of the sound is inf"));
    let short = Sound::read(&wav(&[1; 200], 1, 16_000)).unwrap();
    assert!(matches!(
        log_mel(&short),
        Err(SoundError::TooShort { samples: 200 })
    ));
}

#[test]
fn what_is_cut_short_is_refused_and_damage_never_panics() {
    let samples: Vec<i16> = (0..1_500).map(|n| n * 11 % 999).collect();
    let files = [
        wav(&samples, 1, 8_000),
        wav(&samples, 2, 48_000),
        flac(&samples, 16_000),
    ];
    for (at, file) in files.into_iter().enumerate() {
        Sound::read(&file).unwrap();
        for length in 0..file.len() {
            assert!(
                Sound::read(&file[..length]).is_err(),
                "file {at} cut to {length} bytes"
            );
        }
        // Anything but a panic.
        for byte in 0..file.len().min(120) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut file = file.clone();
                file[byte] = value;
                let _ = Sound::read(&file);
            }
        }
    }
    assert!(refused(&wav(&samples, 1, 8_000)[..2_044]).contains("expected 1500 by its header"));
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
            .encode(source.as_ref(), &[], &mut |_, _| ())
            .unwrap()
            .is_empty()
    );
    let empty = Mel {
        bins: MEL_BINS,
        ..Mel::default()
    };
    let out = tower
        .encode(source.as_ref(), &[&empty], &mut |_, _| ())
        .unwrap();
    assert_eq!(out, [Vec::<f32>::new()]);
    assert_eq!(tower.pieces().counts(), PieceCounts::default());
    let deaf = open_model(fixture("edge-top1")).unwrap();
    let has_tower = deaf.config().thinker.audio.is_some();
    assert_eq!(AudioTower::new(deaf.as_ref()).unwrap().is_some(), has_tower);
}
