//! A limit holds with every kind of sound and picture, in every command that takes one, at the least limit that is admitted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{copied, fixture};
use sage::Sage;
use sage::session::{Medium, Observation};

const MIB: u64 = 1 << 20;

/// Tokens of an observation's sounds (9.8 s) and pictures (two million pixels to be decoded).
const TOKENS: &str = "128";

/// A model that hears and sees, with a tokenizer of words that are numbers.
fn world() -> tempfile::TempDir {
    let folder = copied("tiny-omni");
    let word = |id: u32| match id {
        480 => "<|im_start|>".to_owned(),
        481 => "<|im_end|>".to_owned(),
        470.. => format!("<|{id}|>"),
        _ => format!("w{id}"),
    };
    let vocab: serde_json::Map<_, _> = (0..512).map(|id| (word(id), id.into())).collect();
    let added = (470..512).map(|id| {
        serde_json::json!({"id": id, "content": word(id), "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    });
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    });
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

/// A WAV of a quiet saw.
fn wav(format: u16, bits: u16, channels: u16, rate_hz: u32, frames: usize) -> Vec<u8> {
    let frame_bytes = usize::from(bits / 8) * usize::from(channels);
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    file.extend([format.to_le_bytes(), channels.to_le_bytes()].concat());
    file.extend([rate_hz.to_le_bytes(), 0_u32.to_le_bytes()].concat());
    file.extend([(frame_bytes as u16).to_le_bytes(), bits.to_le_bytes()].concat());
    file.extend(b"data\xff\xff\xff\xff");
    let start = file.len();
    file.resize(
        start + frame_bytes * frames,
        if bits == 8 { 128 } else { 0 },
    );
    if format == 1 {
        let last = usize::from(bits / 8);
        for (at, byte) in file[start..].iter_mut().enumerate() {
            if at % last == last - 1 {
                *byte = byte.wrapping_add((at / frame_bytes % 9) as u8);
            }
        }
    }
    file
}

fn chunk(id: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(id);
    sum.update(contents);
    let length = (contents.len() as u32).to_be_bytes();
    [&length, &id[..], contents, &sum.finalize().to_be_bytes()].concat()
}

/// Every kind, in files of `folder`.
fn media(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut all: Vec<(&str, PathBuf)> = Vec::new();
    let mut sound = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        all.push(("audio", path));
    };
    sound("8-bit.wav", wav(1, 8, 1, 8_000, 72_000));
    sound("16-bit.wav", wav(1, 16, 2, 44_100, 400_000));
    sound("24-bit.wav", wav(1, 24, 2, 96_000, 860_000));
    sound("32-bit.wav", wav(1, 32, 2, 192_000, 1_750_000));
    sound("float.wav", wav(3, 32, 1, 192_000, 1_750_000));
    sound("1024-channels.wav", wav(1, 8, 1024, 4_000, 36_000));
    sound("65535-channels.wav", wav(1, 8, 65_535, 4_000, 900));
    let cases = fixture("media-cases");
    all.push(("audio", cases.join("flac-stereo-16.flac")));
    for name in [
        "large.jpg",
        "large-progressive-420.jpg",
        "large-progressive-444.jpg",
        "large-16-bit.png",
        "large-16-bit-interlaced.png",
        "large-grey-alpha.png",
        "png-iccp-30mb.png",
    ] {
        all.push(("image", cases.join(name)));
    }
    let mut picture = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        all.push(("image", path));
    };
    let plain = fs::read(cases.join("png-16-bit.png")).unwrap();
    let with = |chunk: Vec<u8>| [&plain[..33], &chunk, &plain[33..]].concat();
    let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zeros.write_all(&vec![0; 100 << 20]).unwrap();
    let zeros = zeros.finish().unwrap();
    for keyword in ["Comment", "Raw profile type exif"] {
        let text = [keyword.as_bytes(), b"\0\0", &zeros].concat();
        picture(
            &format!("ztxt-{}.png", keyword.len()),
            with(chunk(b"zTXt", &text)),
        );
    }
    picture("private.png", with(chunk(b"prVt", &vec![7; 20 << 20])));
    let jpeg = fs::read(cases.join("jpeg-422.jpg")).unwrap();
    let mut profile = vec![0xff, 0xe2, 0xff, 0xff];
    profile.extend(b"ICC_PROFILE\0\x01\x01");
    profile.resize(4 + 65_533, 7);
    picture(
        "profile.jpg",
        [&jpeg[..2], &profile.repeat(500), &jpeg[2..]].concat(),
    );
    all
}

/// What a process said, how it ended, and the peak of its resident set in bytes.
fn measured(command: &mut Command, input: &str) -> (Option<i32>, String, u64) {
    let mut said = tempfile::tempfile().unwrap();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(said.try_clone().unwrap())
        .stderr(said.try_clone().unwrap())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let now = fs::read_to_string(&status).unwrap_or_default();
        let line = now.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    let mut text = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut text).unwrap();
    (ended.code(), text, peak)
}

/// The number that a refusal says would do, MiB.
fn floor_mib(refusal: &str) -> u64 {
    let number = refusal.split("limit ").skip(1).filter_map(|rest| {
        let (number, rest) = rest.split_once("MiB")?;
        rest.starts_with(" would do").then(|| number.parse().ok())?
    });
    number
        .last()
        .unwrap_or_else(|| panic!("no number that would do in {refusal}"))
}

/// Runs `command` at the least limit; `name` is for messages.
fn at_its_floor(name: &str, input: &str, command: impl Fn(&str) -> Command) {
    let (code, refusal, _) = measured(&mut command("1MiB"), input);
    assert_eq!(code, Some(2), "{name}: {refusal}");
    let floor = floor_mib(&refusal);
    let (code, said, peak) = measured(&mut command(&format!("{floor}MiB")), input);
    println!("{name}: peak {} of {floor} MiB", peak / MIB);
    assert_eq!(code, Some(0), "{name}: {said}");
    assert!(peak > 8 * MIB, "{name}: no peak was seen");
    assert!(
        peak <= floor * MIB,
        "{name}: peak {} of {floor} MiB",
        peak / MIB
    );
    assert!(!said.contains("refused"), "{name}: {said}");
}

fn sage(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    command.args(arguments);
    command
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn one_answer_about_every_kind() {
    let world = world();
    let model = world.path().to_str().unwrap();
    for (option, path) in media(world.path()) {
        let (option, file) = (format!("--{option}"), path.to_str().unwrap());
        at_its_floor(&format!("generate {}", name(&path)), "", |limit| {
            sage(&[
                "generate",
                model,
                &option,
                file,
                "--media-tokens",
                TOKENS,
                "--prompt",
                "w7 w9",
                "--max-tokens",
                "3",
                "--ignore-stop",
                "--limit",
                limit,
            ])
        });
    }
}

#[test]
fn a_conversation_about_all_of_them() {
    let world = world();
    let model = world.path().to_str().unwrap();
    let lines = media(world.path()).into_iter().map(|(option, path)| {
        let command = if option == "audio" { "/hear" } else { "/see" };
        format!("{command} {} w7 w9\n", path.display())
    });
    let lines: String = lines.collect();
    at_its_floor("chat", &lines, |limit| {
        sage(&[
            "chat",
            model,
            "--hear",
            "--see",
            "--media-tokens",
            TOKENS,
            "--context",
            "512",
            "--max-tokens",
            "3",
            "--limit",
            limit,
            "--json",
        ])
    });
}

#[test]
fn a_scenario_in_which_all_of_them_wait() {
    let world = world();
    let model = world.path().to_str().unwrap();
    let mut script = format!(
        "name = \"all\"\nticks = 60\ncontext_tokens = 512\nmedia_tokens = {TOKENS}\nanswer_tokens = 3\n"
    );
    for (option, path) in media(world.path()) {
        let kind = if option == "audio" {
            "sound"
        } else {
            "picture"
        };
        script.push_str(&format!(
            "[[observe]]\nat = 0\nkind = \"{kind}\"\nsource = \"room\"\n{kind} = {path:?}\n"
        ));
    }
    script.push_str("[[expect]]\nwithin_limit = true\n");
    let scenario = world.path().join("all.toml");
    fs::write(&scenario, script).unwrap();
    let scenario = scenario.to_str().unwrap();
    at_its_floor("run", "", |limit| {
        sage(&["run", scenario, "--model", model, "--limit", limit])
    });
}

/// Files that do not end, or are none, are refused at once, in every place that takes one.
#[test]
fn what_does_not_end_is_refused() {
    let world = world();
    let model = world.path().to_str().unwrap();
    let pipe = world.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let sparse = world.path().join("sparse");
    fs::File::create(&sparse)
        .unwrap()
        .set_len(100 << 30)
        .unwrap();
    for (path, message) in [
        (pipe.as_path(), "is a pipe"),
        (Path::new("/dev/zero"), "is a device"),
        (Path::new("/dev/urandom"), "is a device"),
        (world.path(), "is a folder"),
        (&sparse, "expected at most 67108864"),
    ] {
        let file = path.to_str().unwrap();
        for option in ["--audio", "--image"] {
            let mut command = sage(&["generate", model, option, file, "--prompt", "w7"]);
            let (code, said, peak) = measured(&mut command, "");
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(message) && said.contains(file), "{said}");
            assert!(peak < 64 * MIB, "{file}: {peak} bytes");
        }
        let mut chat = sage(&[
            "chat",
            model,
            "--hear",
            "--context",
            "512",
            "--max-tokens",
            "3",
        ]);
        let (code, said, _) = measured(&mut chat, &format!("/hear {file} w7\n"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(message), "{said}");
    }
}

/// A small file that says it were huge takes no memory.
#[test]
fn what_would_be_huge_is_refused() {
    let world = world();
    let model = world.path().to_str().unwrap();
    let cases = fixture("media-cases");
    let mut png = fs::read(cases.join("png-16-bit.png")).unwrap();
    png[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let header = chunk(b"IHDR", &png[16..29]);
    png[8..33].copy_from_slice(&header);
    let mut jpeg = fs::read(cases.join("large.jpg")).unwrap();
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xf0; 4]);
    for (name, bytes) in [("huge.png", png), ("huge.jpg", jpeg)] {
        let path = world.path().join(name);
        fs::write(&path, bytes).unwrap();
        let file = path.to_str().unwrap();
        let mut command = sage(&["generate", model, "--image", file, "--prompt", "w7"]);
        let (code, said, peak) = measured(&mut command, "");
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("pixels, expected at most 8388608"), "{said}");
        assert!(peak < 64 * MIB, "{name}: {peak} bytes");
    }
    // What admits a long sound, and a large picture, is said, and does.
    fs::write(world.path().join("long.wav"), wav(1, 8, 1, 4_000, 46_000)).unwrap();
    let long = world.path().join("long.wav");
    let large = cases.join("large.jpg");
    for (option, path) in [("--audio", &long), ("--image", &large)] {
        let file = path.to_str().unwrap();
        let ask = |tokens: &str| {
            let mut command = sage(&[
                "generate",
                model,
                option,
                file,
                "--prompt",
                "w7",
                "--max-tokens",
                "2",
                "--media-tokens",
                tokens,
            ]);
            measured(&mut command, "")
        };
        let (code, said, _) = ask("100");
        assert_eq!(code, Some(2), "{said}");
        let tokens = said.split("--media-tokens ").nth(1).unwrap();
        let tokens = tokens.split(';').next().unwrap();
        let (code, said, _) = ask(tokens);
        assert_eq!(code, Some(0), "{tokens}: {said}");
        let fewer = (tokens.parse::<usize>().unwrap() - 1).to_string();
        assert_eq!(ask(&fewer).0, Some(2), "{fewer}");
    }
}

const CHILD: &str = "SAGE_TEST_LIMIT_OF_LIBRARY";

#[test]
fn a_program_that_observes_all_of_them() {
    let world = world();
    drop(media(world.path()));
    let test = std::env::current_exe().unwrap();
    at_its_floor("library", "", |limit| {
        let mut command = Command::new(&test);
        command.args(["media_limit::the_program", "--exact", "--nocapture"]);
        command
            .env(CHILD, limit)
            .env("SAGE_TEST_WORLD", world.path());
        command
    });
}

/// Runs only where the test above asks for it, in a process of its own.
#[test]
fn the_program() {
    let (Ok(limit), Ok(folder)) = (std::env::var(CHILD), std::env::var("SAGE_TEST_WORLD")) else {
        return;
    };
    let folder = Path::new(&folder);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let builder = Sage::builder()
            .model(folder)
            .context_tokens(512)
            .answer_tokens(3);
        let builder = builder
            .hears()
            .sees()
            .media_tokens(128)
            .inbox_bytes(24 << 20);
        let mut sage = match builder.limit(limit).build().await {
            Ok(sage) => sage,
            Err(error) => {
                println!("{error}");
                std::process::exit(2);
            }
        };
        let mut taken = 0;
        let cases = fixture("media-cases");
        for (sound, path) in [
            (true, folder.join("32-bit.wav")),
            (true, folder.join("24-bit.wav")),
            (true, cases.join("flac-stereo-16.flac")),
            (false, cases.join("large-progressive-444.jpg")),
            (false, cases.join("large-16-bit-interlaced.png")),
            (false, cases.join("png-iccp-30mb.png")),
            // These would not have room beside the others.
            (false, folder.join("private.png")),
            (false, folder.join("profile.jpg")),
        ] {
            let bytes = fs::read(path).unwrap();
            let observation = match sound {
                true => Observation::heard("room", Medium::sound(bytes)),
                false => Observation::seen("room", Medium::picture(bytes)),
            };
            taken += u32::from(sage.observe(observation.asking("w7")).is_ok());
        }
        assert_eq!(taken, 6);
        while !sage.is_idle() {
            sage.tick().await.unwrap();
        }
        sage.shutdown().await.unwrap();
    });
}
