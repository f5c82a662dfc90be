//! What `sage bench` reports: which keys, and counts that are plausible. Times are the machine's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use sage::store::ExtractSelection;
use serde_json::Value;

use crate::common::runs::{complaint, sage};
use crate::common::{extract, fixture};

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
    assert!(number(&report["machine"], "memory_bytes_per_second") > 0.0);
    assert!(number(&report["machine"], "disk_bytes_per_second") > 0.0);
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

#[test]
fn towers_are_measured_on_what_is_made_up() {
    let report = bench(OMNI, &["--hearing", "2", "--seeing", "64"]);
    let (hearing, seeing) = (&report["hearing"], &report["seeing"]);
    assert_eq!(
        (&hearing["seconds"], &seeing["patches"]),
        (&2.into(), &64.into())
    );
    // 13 tokens a second, and one for every four patches.
    assert_eq!(
        (&hearing["tokens"], &seeing["tokens"]),
        (&26.into(), &16.into())
    );
    for (tower, rate, work) in [
        (hearing, "seconds_per_second", 2.0),
        (seeing, "patches_per_second", 64.0),
    ] {
        assert_eq!(tower["kept"], true, "{tower}");
        assert!(number(tower, "read_bytes") > 0.0, "{tower}");
        for key in ["ms", "cold_ms", "features_ms"] {
            assert!(number(tower, key) > 0.0, "{tower}");
        }
        let expected = work * 1e3 / number(tower, "ms");
        assert!(
            (number(tower, rate) / expected - 1.0).abs() < 1e-9,
            "{tower}"
        );
        let ends = [0, 1].map(|end| tower["spread"][rate][end].as_f64().expect("an end"));
        assert!(ends[0] <= expected * 1.001 && expected <= ends[1] * 1.001);
    }
    // Without a number it is 30 seconds; and nothing is measured that was not asked for.
    let report = bench(OMNI, &["--hearing"]);
    assert_eq!(report["hearing"]["seconds"], 30);
    assert_eq!(report["hearing"]["tokens"], 390);
    assert!(report["seeing"].is_null() && report["speech"].is_null());
}

#[test]
fn what_cannot_be_heard_or_seen_is_refused() {
    for (option, made_by) in [
        ("--hearing", "sage synth --audio"),
        ("--seeing", "sage synth --vision"),
    ] {
        let message = refused("tests/fixtures/qwen3-moe-tiny", &[option]);
        assert!(message.contains(option), "{message}");
        assert!(message.contains(made_by), "{message}");
    }
    // No rows and columns of blocks of 2 by 2 make these.
    for patches in ["1", "1022", "1025"] {
        let message = refused(OMNI, &["--seeing", patches]);
        assert!(message.contains("such as 1024 patches"), "{message}");
    }
    for wrong in [
        ["--hearing", "0"],
        ["--hearing", "301"],
        ["--seeing", "0"],
        ["--seeing", "many"],
    ] {
        assert!(refused(OMNI, &wrong).contains(wrong[0]));
    }
}

#[test]
fn arms_are_measured_in_turns() {
    let report = bench(
        OMNI,
        &[
            "--against",
            "mind=off",
            "--speech",
            "--speech-seconds",
            "0.2",
        ],
    );
    let arms = report["arms"].as_array().expect("arms");
    let names: Vec<_> = arms
        .iter()
        .map(|arm| arm["arm"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["mind=on io=direct", "mind=off io=direct"]);
    assert_eq!(report["turns"], serde_json::json!([[0, 1], [1, 0]]));
    // What stands at the top is the first arm's.
    let first = arms[0].as_object().expect("an object");
    for (key, value) in first.iter().filter(|(key, _)| *key != "arm") {
        assert_eq!(&report[key], value, "{key}");
    }
    for (arm, mind) in arms.iter().zip(["on", "off"]) {
        assert_eq!(arm["mind"], mind);
        assert_length(&arm["cold"], 24);
        assert_length(&arm["lengths"][1], 8);
        assert_eq!(arm["speech"]["frames"].as_array().map(Vec::len), Some(2));
        assert!(number(arm, "peak_rss_bytes") > 0.0);
    }
    assert!(first.get("ratios").is_none(), "{first:?}");
    let ratios = &arms[1]["ratios"];
    for of in [
        &ratios["cold"],
        &ratios["lengths"][0],
        &ratios["lengths"][1],
    ] {
        for key in [
            "prefill_tokens_per_second",
            "decode_tokens_per_second",
            "time_to_first_token_ms",
        ] {
            let ratio = number(of, key);
            let ends = [0, 1].map(|end| of["spread"][key][end].as_f64().expect("an end"));
            assert!(
                0.0 < ends[0] && ends[0] <= ratio && ratio <= ends[1],
                "{of}"
            );
        }
    }
    assert!(number(&ratios["speech"], "real_time_factor") > 0.0);
}

#[test]
fn one_arm_stands_alone() {
    let report = bench(OMNI, &["--mind", "off"]);
    let arms = report["arms"].as_array().expect("arms");
    assert_eq!(arms.len(), 1);
    assert_eq!(
        (&arms[0]["arm"], &report["mind"]),
        (&"mind=off io=direct".into(), &"off".into())
    );
    // The same prompts are answered alike, whichever session is asked.
    let again = bench(OMNI, &["--mind", "off"]);
    assert_eq!(report["answers_blake3"], again["answers_blake3"]);
    for (wrong, said) in [
        ("mind=on", "a second time"),
        ("mind=maybe", "--against"),
        ("speed=high", "--against"),
    ] {
        let message = refused(OMNI, &["--against", wrong]);
        assert!(message.contains(said), "{message}");
    }
}

/// The page cache in place of slots changes when experts come, and no bit of what is said, whether the mind decides or not.
#[test]
fn mapped_experts_say_the_same() {
    let store = tempfile::tempdir().unwrap();
    let store = store.path().join("store");
    extract(&fixture("tiny-omni"), &store, &ExtractSelection::all());
    let store = store.to_str().unwrap();
    for mind in ["on", "off"] {
        let more = ["--mind", mind, "--against", "io=mmap"];
        let speech = ["--speech", "--speech-seconds", "0.4"];
        let report = bench(store, &[&more[..], &speech].concat());
        let [direct, mapped] = [0, 1].map(|at| &report["arms"][at]);
        assert_eq!(
            (&direct["io"], &mapped["io"]),
            (&"direct".into(), &"mmap".into())
        );
        assert_eq!(
            direct["answers_blake3"], mapped["answers_blake3"],
            "mind {mind}"
        );
        assert_eq!(direct["speech"]["frames"], mapped["speech"]["frames"]);
        // The mind decided alike: what it counts is the same.
        for (one, other) in [
            (&direct["cold"], &mapped["cold"]),
            (&direct["lengths"][0], &mapped["lengths"][0]),
        ] {
            for key in ["decode_bytes_per_token", "decode_hit_rate"] {
                assert_eq!(one[key], other[key], "{key}, mind {mind}");
            }
        }
        let read = |arm: &Value| number(&arm["read_bytes"], "demand");
        assert!(read(direct) > 0.0, "{direct}");
        assert_eq!(read(mapped), 0.0, "mapped experts were read: {mapped}");
        assert!(number(&direct["cold"], "disk_duty") > 0.0);
        assert!(mapped["cold"]["disk_duty"].is_null(), "{mapped}");
    }
}

#[test]
fn only_whole_records_are_mapped() {
    for more in [["--io", "mmap"], ["--against", "io=mmap"]] {
        let message = refused(OMNI, &more);
        assert!(message.contains("sage extract"), "{message}");
    }
}

/// The table has every arm and length with the figures that stand elsewhere, and reckons what memory gives with the mind off.
#[test]
fn rows_are_the_arms_and_lengths_in_one_table() {
    let report = bench(OMNI, &["--mind", "off", "--against", "mind=on"]);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2 * 3);
    for (at, arm) in report["arms"].as_array().expect("arms").iter().enumerate() {
        let lengths =
            std::iter::once(&arm["cold"]).chain(arm["lengths"].as_array().expect("lengths"));
        for (row, length) in rows[at * 3..].iter().zip(lengths) {
            assert_eq!(row["arm"], arm["arm"]);
            for (key, of_length) in [
                ("prompt_tokens", "prompt_tokens"),
                ("prefill_tokens_per_second", "prefill_tokens_per_second"),
                ("decode_tokens_per_second", "decode_tokens_per_second"),
                ("bytes_per_token", "decode_bytes_per_token"),
                ("logical_hit_rate", "decode_hit_rate"),
            ] {
                assert_eq!(row[key], length[of_length], "{key}");
            }
            assert_eq!(row["peak_rss_bytes"], arm["peak_rss_bytes"]);
            assert_eq!(row["limit_bytes"], arm["mode"]["limit_bytes"]);
            assert_eq!(row["memory_bytes_per_second"].is_null(), at == 1);
        }
        assert_eq!(rows[at * 3]["cold"], true);
    }
    let (row, machine) = (&rows[1], &report["machine"]);
    let bytes = number(row, "memory_bytes_per_second") / number(row, "decode_tokens_per_second");
    // Weights of a token: more than its experts alone, less than the whole of the small model.
    assert!((1e4..1e7).contains(&bytes), "{bytes} of {machine}");
}
