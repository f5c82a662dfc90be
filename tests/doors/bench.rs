//! What `sage bench` reports: which keys, and counts that are plausible. Times are the machine's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use serde_json::Value;

use crate::common::runs::{complaint, sage};

const OMNI: &str = "tests/fixtures/tiny-omni";

/// Short prompts, and memory for some of the experts.
const SHORT: [&str; 8] = [
    "--prompt-tokens",
    "24,8",
    "--answer-tokens",
    "6",
    "--rounds",
    "2",
    "--limit",
    "24slots",
];

fn bench(model: &str, more: &[&str]) -> Value {
    let base = ["bench", model, "--json"];
    let output = sage(&[&base, &SHORT[..], more].concat());
    assert!(output.status.success(), "{more:?}: {}", complaint(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Exit code and message of a bench that cannot be.
fn refused(model: &str, more: &[&str]) -> String {
    let output = sage(&[&["bench", model], more].concat());
    let message = complaint(&output);
    assert_eq!(output.status.code(), Some(2), "{more:?}: {message}");
    message
}

fn number(value: &Value, key: &str) -> f64 {
    let found = value[key].as_f64();
    found.unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// That a length has every figure, and that the disk was busy for a share of the time that can be.
fn assert_length(length: &Value, prompt_tokens: usize) {
    assert_eq!(length["prompt_tokens"], prompt_tokens);
    for key in [
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "time_to_first_token_ms",
        "decode_bytes_per_token",
        "stall_ms_per_token",
        "decode_hit_rate",
        "disk_duty",
        "disk_bytes_per_second",
    ] {
        let (middle, ends) = (number(length, key), &length["spread"][key]);
        let ends = [0, 1].map(|end| ends[end].as_f64().expect("an end"));
        assert!(ends[0] <= middle && middle <= ends[1], "{key}: {length}");
    }
    let missed = number(length, "decode_bytes_per_token") > 0.0;
    let duty = number(length, "disk_duty");
    assert!((0.0..=1.0).contains(&duty), "{length}");
    assert!(!missed || duty > 0.0, "missed, but never read: {length}");
    assert_eq!(duty > 0.0, number(length, "disk_bytes_per_second") > 0.0);
}

#[test]
fn a_bench_says_how_busy_the_disk_was() {
    let report = bench(OMNI, &[]);
    assert_length(&report["cold"], 24);
    for (at, tokens) in [24, 8].into_iter().enumerate() {
        assert_length(&report["lengths"][at], tokens);
    }
    assert!(number(&report["cold"], "disk_duty") > 0.0);
    assert!(number(&report["lengths"][0], "decode_bytes_per_token") > 0.0);
    assert_eq!(report["rounds"], 2);
}

#[test]
fn a_spoken_answer_is_measured_part_by_part() {
    let report = bench(OMNI, &["--speech", "--speech-seconds", "0.4"]);
    let speech = &report["speech"];
    let frames: Vec<u64> = speech["frames"]
        .as_array()
        .expect("frames of every round")
        .iter()
        .map(|frames| frames.as_u64().expect("a count"))
        .collect();
    assert!(
        frames.len() == 2 && frames.iter().all(|frames| (1..=5).contains(frames)),
        "{speech}"
    );
    // A frame is 80 ms.
    let seconds = *frames.iter().max().expect("a round") as f64 * 0.08;
    assert!(
        number(speech, "sound_seconds") <= seconds + 1e-9,
        "{speech}"
    );
    for key in ["real_time_factor", "time_to_first_sound_ms"] {
        assert!(number(speech, key) > 0.0, "{speech}");
        assert!(speech["spread"][key].is_array(), "{speech}");
    }
    let parts = ["thinker", "talker", "code_predictor", "vocoder", "rest"];
    for part in parts {
        let share = number(&speech["shares"], part);
        assert!((0.0..=1.0).contains(&share), "{speech}");
        assert!(part == "rest" || share > 0.0, "{part}: {speech}");
    }
    // Prompt and answer are as those of the first length, with the turn around the prompt.
    assert_eq!(speech["prompt_tokens"], 24 + 8);
    assert_eq!(speech["answer_tokens"], 6);
    assert!(bench(OMNI, &[])["speech"].is_null());
}

#[test]
fn what_cannot_be_spoken_is_refused() {
    let message = refused("tests/fixtures/tiny-thinker", &["--speech"]);
    assert!(message.contains("cannot speak"), "{message}");
    assert!(message.contains("sage synth --talker"), "{message}");
    for seconds in ["0", "-1", "NaN", "1e9"] {
        let argument = format!("--speech-seconds={seconds}");
        let message = refused(OMNI, &["--speech", &argument]);
        assert!(message.contains("--speech-seconds is"), "{message}");
    }
    let message = refused(OMNI, &["--speech-seconds", "2"]);
    assert!(message.contains("--speech"), "{message}");
}
