//! Speech through the engine: the file of `generate --speak`, what it does not depend on, and how thinker and talker share.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use sage::core::request::Request;
use sage::core::speech::{Choosing, CollectedTurn, SpeechRequest, Spoken};
use sage::core::{Engine, Limit};
use sage::goldens;
use sage::goldens::speech::speak;
use sage::media::wav::pcm;
use sage::session::Session;
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, plan};
use sage::store::{WeightSource, open_model};
use sage_actors::config::{MindConfig, RoutingPolicy};
use sage_actors::protocol::{Holding, Module};

use crate::common::sessions;

const CODES: usize = 22;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn source() -> Arc<dyn WeightSource> {
    Arc::from(open_model(folder("tiny-omni")).expect("a model"))
}

/// A golden's prompt.
fn prompt(case: &str) -> Vec<u32> {
    let (_, ids) = golden(case)
        .integers("in.input_ids")
        .expect("a golden")
        .expect("a prompt");
    ids.into_iter().map(|id| id as u32).collect()
}

fn golden(case: &str) -> goldens::Golden {
    let cases = goldens::cases(&folder("tiny-omni/goldens")).expect("goldens");
    let case = cases.iter().find(|found| found.name == case);
    case.expect("the case").open().expect("a golden")
}

fn sage(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .expect("sage runs")
}

/// `generate --speak` on the speech-text prompt: the report, and the file.
fn spoken_file(more: &[&str]) -> (serde_json::Value, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("answer.wav");
    let tokens: Vec<String> = prompt("speech-text").iter().map(u32::to_string).collect();
    let tokens = tokens.join(" ");
    let path = path.to_str().expect("a path");
    let base = [
        "generate",
        "tests/fixtures/tiny-omni",
        "--prompt-tokens",
        &tokens,
        "--max-tokens",
        "9",
        "--speak",
        path,
        "--max-codes",
        "22",
        "--json",
    ];
    let output = sage(&[&base[..], more].concat());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    let report = serde_json::from_slice(&output.stdout).expect("JSON");
    (report, std::fs::read(path).expect("a file"))
}

fn samples(wav: &[u8]) -> Vec<i16> {
    assert_eq!((&wav[..4], &wav[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    let (samples, rest) = wav[44..].as_chunks::<2>();
    assert!(rest.is_empty());
    samples.iter().map(|s| i16::from_le_bytes(*s)).collect()
}

fn exact() -> MindConfig {
    MindConfig {
        hold: Some(EXACT),
        routing: RoutingPolicy::Exact,
        ..MindConfig::default()
    }
}

async fn session(mind: MindConfig, limit: Limit, chunk_tokens: usize) -> Session {
    let options = EngineOptions {
        limit,
        context_tokens: 64,
        chunk_tokens: Some(chunk_tokens),
        mind,
        speaks: true,
        codes: CODES,
        // What is read ahead is in memory too, and no decision knows of it.
        read_ahead: false,
        ..EngineOptions::default()
    };
    sessions::open(source(), options).await
}

async fn said(session: &mut Session, measure: bool) -> CollectedTurn {
    let request = Request {
        unmeasured: !measure,
        ..sessions::request(prompt("speech-text"), 9)
    };
    sessions::said(session, request).await
}

fn request(choosing: Choosing) -> SpeechRequest {
    SpeechRequest {
        speaker: "ETHAN".into(),
        choosing,
        max_codes: CODES,
        end: None,
    }
}

async fn sound(
    engine: &mut Engine,
    said: &CollectedTurn,
    choosing: Choosing,
) -> (Spoken, Vec<f32>) {
    let mut samples = Vec::new();
    let request = request(choosing);
    let spoken = speak(engine, said, &request, &mut None, &mut samples).await;
    (spoken.expect("speech"), samples)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(work)
}

/// Codes and sound of an exact turn.
fn exact_sound(limit: Limit, chunk_tokens: usize, choosing: Choosing) -> (Vec<u32>, Vec<u32>) {
    block_on(async {
        let mut session = session(exact(), limit, chunk_tokens).await;
        let said = said(&mut session, false).await;
        let (spoken, samples) = sound(session.engine_mut(), &said, choosing).await;
        session.abort().await;
        let bits = samples.iter().map(|x| x.to_bits());
        (spoken.codes, bits.collect())
    })
}

#[test]
fn the_file_holds_what_the_library_and_the_reference_say() {
    let (report, file) = spoken_file(&["--exact"]);
    let (_, bits) = exact_sound(Limit::None, 128, Choosing::GREEDY);
    let expected: Vec<i16> = bits.iter().map(|x| pcm(f32::from_bits(*x))).collect();
    let found = samples(&file);
    assert_eq!(found, expected);
    let (_, reference) = golden("speech-text")
        .floats("waveform")
        .expect("a golden")
        .expect("a waveform");
    assert_eq!(found.len(), reference.len());
    let off = found.iter().zip(&reference);
    let off = off.map(|(found, reference)| found.abs_diff(pcm(*reference)));
    assert!(
        off.max().expect("samples") <= 1,
        "more than a step of 16 bits"
    );

    let speech = &report["speech"];
    assert_eq!(speech["samples"], reference.len());
    assert_eq!(speech["frames"], CODES - 1);
    assert_eq!(speech["ended"], "length");
    let seconds = speech["sound_seconds"].as_f64().expect("a number");
    assert!((seconds - reference.len() as f64 / 24_000.0).abs() < 1e-9);
    for key in ["real_time_factor", "made_in_seconds", "hit_rate"] {
        assert!(speech[key].as_f64().expect(key) > 0.0, "{key}: {speech}");
    }
}

#[test]
fn the_file_depends_on_neither_threads_nor_memory() {
    let (_, reference) = spoken_file(&["--exact"]);
    for more in [
        &["--threads", "1"][..],
        &["--threads", "2"],
        &["--limit", "0slots"],
        &["--limit", "30slots", "--eviction", "lru"],
    ] {
        let (report, file) = spoken_file(&[&["--exact"], more].concat());
        assert!(file == reference, "{more:?} makes another sound");
        let (limit, peak) = (&report["mode"]["limit_bytes"], &report["peak_rss_bytes"]);
        if let (Some(limit), Some(peak)) = (limit.as_u64(), peak.as_u64()) {
            assert!(peak <= limit, "{more:?}: peak of {peak} under {limit}");
        }
    }
}

#[test]
fn codes_are_drawn_by_the_seed_alone() {
    let drawn = |limit, chunk, seed| exact_sound(limit, chunk, Choosing::released(seed));
    let reference = drawn(Limit::None, 128, 7);
    assert!(drawn(Limit::Slots(0), 128, 7) == reference);
    assert!(drawn(Limit::Slots(20), 5, 7) == reference);
    let other = drawn(Limit::None, 128, 8);
    assert_ne!(other.0, reference.0, "another seed");
    let greedy = exact_sound(Limit::None, 128, Choosing::GREEDY);
    assert_ne!(greedy.0, reference.0, "drawn, not the most probable");
}

/// Two pools after a turn that was spoken with this drive, and what is mapped for both.
fn shared(drive: f32) -> ([Holding; 2], u64, Spoken) {
    block_on(async {
        let mut session = session(MindConfig::default(), Limit::Slots(60), 128).await;
        let mut said = said(&mut session, true).await;
        said.style.drive = drive;
        let engine = session.engine_mut();
        let (spoken, _) = sound(engine, &said, Choosing::GREEDY).await;
        let mut holdings = [Holding::default(); 2];
        for (module, holding) in [Module::Thinker, Module::Talker]
            .into_iter()
            .zip(&mut holdings)
        {
            let found = engine.mind.holding(module).await.expect("an answer");
            *holding = found.expect("a pool");
        }
        let mapped = engine.host().usage().held_bytes as u64;
        // Nothing is spoken any more: the talker sleeps, and the thinker has everything.
        let orientation = engine.orient(sage::core::Arrivals::default()).await;
        let directives = orientation.expect("an orientation").directives;
        assert_eq!(directives.modules.len(), 1);
        let talker = engine
            .mind
            .holding(Module::Talker)
            .await
            .expect("an answer");
        assert_eq!(talker.expect("a pool").resident_bytes, 0);
        session.abort().await;
        (holdings, mapped, spoken)
    })
}

#[test]
fn memory_goes_to_the_talker_as_the_turn_is_driven() {
    let ([thinker, talker], mapped, dull) = shared(0.0);
    let ([less, more], mapped_driven, driven) = shared(1.0);
    println!("dull: {thinker:?} {talker:?}; driven: {less:?} {more:?}");
    assert!(more.capacity_bytes > talker.capacity_bytes);
    assert!(more.resident_bytes > talker.resident_bytes);
    assert!(less.capacity_bytes < thinker.capacity_bytes);
    assert!(less.resident_bytes < thinker.resident_bytes);
    // What is measured in memory is what the mind believes.
    assert_eq!(mapped, thinker.resident_bytes + talker.resident_bytes);
    assert_eq!(mapped_driven, less.resident_bytes + more.resident_bytes);
    assert!(driven.hit_rate > dull.hit_rate, "{driven:?} {dull:?}");
}

#[test]
fn memory_for_speech_is_planned_only_where_it_is_asked_for() {
    let source = source();
    let planned = |speaks| {
        let options = EngineOptions {
            speaks,
            ..EngineOptions::default()
        };
        plan(&*source, &options).expect("a plan").memory
    };
    let (mute, speaking) = (planned(false), planned(true));
    assert_eq!(mute.floor.speech_bytes, 0);
    let written = serde_json::to_string(&mute).expect("JSON");
    assert!(!written.contains("speech"), "{written}");
    let more = speaking.floor.speech_bytes;
    assert!(speaking.floor.total() >= mute.floor.total() + more && more > 1 << 20);
    // 3 layers of 12 experts of three pages.
    assert_eq!(
        speaking.all_experts_bytes - mute.all_experts_bytes,
        36 * 3 * 4096
    );
}

#[test]
fn what_cannot_be_spoken_is_refused_in_words() {
    let omni = "tests/fixtures/tiny-omni";
    let tokens: Vec<String> = prompt("speech-text").iter().map(u32::to_string).collect();
    let tokens = tokens.join(" ");
    let wav = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused.wav");
    let wav = wav.to_str().expect("a path");
    for (arguments, expected) in [
        (
            &["tests/fixtures/tiny-thinker", "--prompt-tokens", "1 2"][..],
            "this model has no talker",
        ),
        (
            &[omni, "--prompt-tokens", &tokens, "--speaker", "Nobody"],
            "\"Nobody\" is not in talker_config.speaker_id: give one of aiden, chelsie, ethan",
        ),
        (
            &[omni, "--prompt-tokens", &tokens, "--max-tokens", "1"],
            "has at least 2",
        ),
        (
            &[omni, "--prompt-tokens", &tokens, "--max-codes", "1"],
            "--max-codes is 1; expected 2 to",
        ),
        (&[omni, "--prompt-tokens", "17 4 250"], "expected [480, 91"),
    ] {
        let output = sage(&[&["generate"], arguments, &["--speak", wav]].concat());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!Path::new(wav).exists(), "{arguments:?} left a file");
    }
    let output = sage(&["generate", omni, "--prompt-tokens", "1", "--max-codes", "9"]);
    assert_eq!(output.status.code(), Some(2), "codes of nothing");
}

#[test]
fn an_answer_of_one_token_is_too_short() {
    block_on(async {
        let mut session = session(exact(), Limit::None, 128).await;
        let mut said = said(&mut session, false).await;
        said.generated.clear();
        let greedy = request(Choosing::GREEDY);
        let engine = session.engine_mut();
        let spoken = speak(engine, &said, &greedy, &mut None, &mut Vec::new()).await;
        let message = spoken.expect_err("nothing to say").to_string();
        assert!(message.contains("fewer than 2 tokens"), "{message}");
        session.abort().await;
    });
}
