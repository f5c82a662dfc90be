//! Sound files as programs write them, whole and broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::f64::consts::PI;
use std::path::{Path, PathBuf};

use sage::media::sound::{Length, MEL_BINS, Sound, SoundError, level_db, log_mel, spectrum};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Greatest difference, in units of the largest golden or of one.
fn error(found: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(found.len(), golden.len(), "another number of values");
    let largest = golden.iter().fold(1.0f32, |a, b| a.max(b.abs()));
    let differences = found.iter().zip(golden).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |a, b| if b.is_nan() { b } else { a.max(b) }) / largest
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
    let long = wav_of(1, 8, &vec![128; 4_000 * 301], 1, 4_000);
    assert!(refused(&long).contains("lasts 301 s, expected at most 300 s"));
    assert!(refused(&case("wav-overflow.wav")).contains("8388608 samples a second"));
    let mut compressed = wav(&[0; 10], 1, 16_000);
    compressed[20] = 0x55;
    assert!(refused(&compressed).contains("compressed, coding 0x0055"));
    let endless = f32::INFINITY.to_le_bytes();
    assert!(refused(&wav_of(3, 32, &endless, 1, 16_000)).contains("sample 0 of the sound is inf"));
    let short = Sound::read(&wav(&[1; 200], 1, 16_000)).unwrap();
    assert!(matches!(
        log_mel(&short),
        Err(SoundError::TooShort { samples: 200 })
    ));
}

fn case(name: &str) -> Vec<u8> {
    std::fs::read(fixture("media-cases").join(name)).unwrap()
}

/// Files as programs write them have as many frames as libsndfile finds, and the same samples.
#[test]
fn files_that_people_have_are_read_as_libsndfile_does() {
    let known: serde_json::Value = serde_json::from_slice(&case("sounds.json")).unwrap();
    let known = known.as_object().unwrap();
    assert!(known.len() > 10);
    for (name, known) in known {
        let mut file = case(name);
        let length = Length::of(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rate_hz = known["rate_hz"].as_u64().unwrap();
        let frames = known["frames"].as_u64().unwrap();
        assert_eq!(
            (length.frames, u64::from(length.rate_hz)),
            (frames, rate_hz),
            "{name}"
        );
        // As if it had been recorded at the rate that nothing is resampled from.
        match file[0] {
            b'f' => {
                // 20 bits.
                file[18..20].copy_from_slice(&(16_000_u16 >> 4).to_be_bytes());
                file[20] &= 0x0f;
            }
            _ if file[12] == b'f' => file[24..28].copy_from_slice(&16_000_u32.to_le_bytes()),
            _ => {}
        }
        let sound = Sound::read(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(sound.samples.len() as u64, frames, "{name}");
        for (key, found) in [
            ("first", &sound.samples[..4]),
            ("last", &sound.samples[sound.samples.len() - 4..]),
        ] {
            for (at, found) in found.iter().enumerate() {
                let known = known[key][at].as_f64().unwrap();
                let off = (f64::from(*found) - known).abs();
                assert!(off < 1e-6, "{name} {key} {at}: {found} for {known}");
            }
        }
    }
}

/// A WAV holds what is there; a FLAC's frames have sums, and one that was cut is refused whether it states its length or not.
#[test]
fn what_is_cut_short_is_seen() {
    let samples: Vec<i16> = (0..1_500).map(|n| n * 11 % 999).collect();
    let file = wav(&samples, 2, 48_000);
    for length in (0..file.len()).step_by(3) {
        let frames = Length::of(&file[..length]).map_or(0, |length| length.frames);
        assert_eq!(
            frames as usize,
            length.saturating_sub(44) / 4,
            "{length} bytes"
        );
        assert_eq!(Sound::read(&file[..length]).is_ok(), frames > 0);
    }
    let stated = [
        case("flac-stereo-16.flac"),
        case("flac-mono-24.flac"),
        flac(&samples, 16_000),
    ];
    for (at, file) in stated.into_iter().enumerate() {
        Sound::read(&file).unwrap();
        for length in (0..file.len()).step_by(1 + file.len() / 700) {
            let read = Sound::read(&file[..length]);
            assert!(read.is_err(), "file {at} cut to {length} bytes");
        }
    }
    let piped = case("flac-from-a-pipe.flac");
    let whole = Sound::read(&case("flac-stereo-16.flac")).unwrap();
    assert_eq!(Sound::read(&piped).unwrap(), whole);
    assert_eq!(Length::of(&piped).unwrap().frames, 5_000);
    let cut = (0..piped.len()).step_by(11);
    let passed = cut.filter(|length| Sound::read(&piped[..*length]).is_ok());
    assert_eq!(passed.count(), 0);
    assert!(refused(&piped[..9_000]).contains("ends within a frame"));
    assert!(
        refused(&case("flac-stereo-16.flac")[..13_000]).contains("expected 5000 by its header")
    );
    // Tags of other programs, before and behind.
    let mut tag = b"ID3\x04\0\0\0\0\x01\x02".to_vec();
    tag.extend([7; 130]);
    let mut behind = b"TAG".to_vec();
    behind.resize(128, b' ');
    let wav = case("wav-double.wav");
    let tagged = Sound::read(&[&tag[..], &wav].concat()).unwrap();
    assert_eq!(tagged, Sound::read(&wav).unwrap());
    for file in [piped, case("flac-stereo-16.flac")] {
        assert_eq!(
            Sound::read(&[&tag[..], &file, &behind].concat()).unwrap(),
            whole
        );
    }
}

/// Anything but a panic.
#[test]
fn damage_never_panics() {
    let samples: Vec<i16> = (0..700).map(|n| n * 11 % 999).collect();
    let files = [
        wav(&samples, 2, 48_000),
        flac(&samples, 16_000),
        case("flac-mono-24.flac"),
        case("flac-from-a-pipe.flac"),
        case("wav-extensible-24.wav"),
        case("wav-rf64.wav"),
        case("wav-overflow.wav"),
    ];
    for file in files {
        // Headers byte by byte, the rest here and there.
        let places = (0..file.len()).filter(|at| *at < 140 || at % 97 == 0);
        for at in places {
            let mut damaged = file.clone();
            for value in [0, 1, 0x7f, 0x80, 0xff, file[at] ^ 0x10] {
                damaged[at] = value;
                let _ = Sound::read(&damaged);
            }
            let _ = Sound::read(&file[at..]);
        }
    }
    // Two bytes of a header at a time.
    let file = wav(&samples[..8], 1, 16_000);
    for first in 4..44 {
        for second in first + 1..44 {
            let mut damaged = file.clone();
            for value in [0, 0xff] {
                (damaged[first], damaged[second]) = (value, 0xff);
                let _ = Sound::read(&damaged);
            }
        }
    }
}
