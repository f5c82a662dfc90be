//! Recorded runs, as a user meets them: written, repeated, asked again, cut and damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::runs::{complaint, sage};
use crate::common::speaking::vouched;
use serde_json::Value;

/// A run of a scenario with a little of everything, recorded with logits; once for all tests.
fn recorded() -> &'static Path {
    static TRACE: OnceLock<PathBuf> = OnceLock::new();
    TRACE.get_or_init(|| {
        record(
            "run.trace",
            "scenarios/wake-focus-crisis.toml",
            &["--record-logits"],
        )
    })
}

fn record(name: &str, scenario: &str, more: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("traces");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let _ = std::fs::remove_file(&path);
    let arguments = [&["run", scenario, "--record", path.to_str().unwrap()], more].concat();
    let output = sage(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    path
}

/// Exit code and report of a replay.
fn replay(trace: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["replay", trace.to_str().unwrap(), "--json"], more].concat();
    let output = sage(&arguments);
    let report = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        report.unwrap_or_else(|_| complaint(&output).into()),
    )
}

/// A copy whose text is changed.
fn changed(name: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    let text = std::fs::read_to_string(recorded()).unwrap();
    let path = recorded().with_file_name(name);
    std::fs::write(&path, change(text)).unwrap();
    path
}

/// The same with digests that vouch for what was changed.
fn forged(name: &str, from: &str, to: &str) -> PathBuf {
    changed(name, |text| {
        assert!(text.contains(from), "{from}");
        vouched(&text.replacen(from, to, 1))
    })
}

#[test]
fn a_run_comes_again_whatever_computes_it() {
    let (code, first) = replay(recorded(), &["--verify"]);
    assert_eq!(
        (code, &first["equal"], &first["whole"]),
        (Some(0), &true.into(), &true.into()),
        "{first}"
    );
    assert!(first["ticks"].as_u64() >= Some(600), "{first}");
    let ways: [&[&str]; 6] = [
        &["--threads", "1"],
        &["--threads", "2", "--no-read-ahead"],
        &["--threads", "4", "--actor-threads", "2"],
        &["--kernels", "portable"],
        &["--kernels", "avx2", "--threads", "4"],
        &[
            "--kernels",
            "avx512",
            "--actor-threads",
            "1",
            "--no-read-ahead",
        ],
    ];
    for way in ways {
        let (code, report) = replay(recorded(), &[&["--verify"], way].concat());
        if report.to_string().contains("this processor has no") {
            continue;
        }
        assert_eq!(code, Some(0), "{way:?}: {report}");
        for key in ["equal", "lines", "ticks", "digest"] {
            assert_eq!(report[key], first[key], "{way:?}: {key}");
        }
    }
}

#[test]
fn a_mind_without_a_model_answers_the_same() {
    for threads in ["0", "2"] {
        let (code, report) = replay(recorded(), &["--policy-only", "--actor-threads", threads]);
        assert_eq!(
            (code, &report["equal"]),
            (Some(0), &true.into()),
            "{report}"
        );
        assert_eq!(
            report["digest"],
            replay(recorded(), &["--verify"]).1["digest"]
        );
    }
}

#[test]
fn two_recordings_of_a_run_are_alike_but_for_the_clock() {
    let again = record(
        "again.trace",
        "scenarios/wake-focus-crisis.toml",
        &["--record-logits", "--threads", "1"],
    );
    let without_clock = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["event"].clone(), line["digest"].clone())
        });
        lines.collect::<Vec<_>>()
    };
    assert!(without_clock(&again) == without_clock(recorded()));
}

/// Other decisions, and the mind says so: both replays name the first line, its tick and both sides.
#[test]
fn what_comes_out_otherwise_is_named_with_both_sides() {
    let text = std::fs::read_to_string(recorded()).unwrap();
    let at = text.find("\"missed\":[").unwrap() + "\"missed\":[".len();
    let missed = text[at..].split([',', ']']).next().unwrap();
    let other = format!("\"missed\":[{}", missed.parse::<u16>().unwrap() + 1);
    let lease = forged("lease.trace", &format!("\"missed\":[{missed}"), &other);
    for how in ["--verify", "--policy-only"] {
        let (code, report) = replay(&lease, &[how]);
        let found = &report["difference"];
        assert_eq!(
            (code, &report["equal"]),
            (Some(1), &false.into()),
            "{report}"
        );
        assert_eq!(
            (&found["at"], &found["recorded_type"]),
            (&"missed[0]".into(), &"lease".into()),
            "{found}"
        );
        assert_eq!(found["replayed"].to_string(), missed, "{found}");
        assert_eq!(
            (&found["tick"], found["line"].as_u64()),
            (&0.into(), Some(7)),
            "{found}"
        );
    }
    // Another input is no difference of its own, but everything that comes of it is.
    let input = forged(
        "input.trace",
        "the word of the LORD was precious",
        "the word of the king was precious",
    );
    let (code, report) = replay(&input, &["--verify"]);
    assert_eq!(code, Some(1), "{report}");
    assert_ne!(report["difference"]["recorded_type"], "input", "{report}");
    let (code, report) = replay(&input, &["--policy-only"]);
    assert_eq!(code, Some(0), "the mind hears of no text: {report}");
}

#[test]
fn a_recording_that_was_cut_anywhere_holds_up_to_the_cut() {
    let text = std::fs::read_to_string(recorded()).unwrap();
    let header = text.find('\n').unwrap() + 1;
    let mut seen = std::collections::BTreeSet::new();
    for share in 0..12 {
        // At a line's end, within its digest, within its event.
        let at = header + (text.len() - header) * share / 12 + share;
        let at = (at..).find(|at| text.is_char_boundary(*at)).unwrap();
        let cut = changed("cut.trace", |text| text[..at].to_owned());
        let (code, report) = replay(&cut, &["--policy-only"]);
        assert_eq!(
            (code, &report["equal"], &report["whole"]),
            (Some(0), &true.into(), &false.into()),
            "{at}: {report}"
        );
        let whole_lines = text[..at].matches('\n').count() as u64 - 1;
        assert_eq!(
            report["lines"].as_u64(),
            Some(whole_lines),
            "cut at {at}: {report}"
        );
        seen.insert(whole_lines);
    }
    assert!(seen.len() > 8, "{seen:?}");
    let cut = changed("cut-model.trace", |text| text[..text.len() / 3].to_owned());
    let (code, report) = replay(&cut, &["--verify"]);
    assert_eq!(
        (code, &report["equal"], &report["whole"]),
        (Some(0), &true.into(), &false.into()),
        "{report}"
    );
}

#[test]
fn damage_is_found_and_named() {
    let told = |path: &Path, how: &str| {
        let (code, report) = replay(path, &[how]);
        (code, report.as_str().unwrap_or_default().to_owned())
    };
    // One digit in the middle, with the old digest.
    let damaged = changed("damaged.trace", |text| {
        let at = text.find("\"spent\":{\"compute_units\":").unwrap()
            + "\"spent\":{\"compute_units\":".len();
        format!("{}9{}", &text[..at], &text[at + 1..])
    });
    let (code, complaint) = told(&damaged, "--policy-only");
    assert_eq!(code, Some(2));
    assert!(
        complaint.contains("damaged.trace:4: the digest is"),
        "{complaint}"
    );
    let missing = changed("missing.trace", |text| {
        let lines: Vec<&str> = text.lines().collect();
        [&lines[..40], &lines[41..]].concat().join("\n") + "\n"
    });
    let (code, complaint) = told(&missing, "--policy-only");
    assert!(
        code == Some(2) && complaint.contains("missing.trace:41:"),
        "{complaint}"
    );
    let newer = forged("newer.trace", "\"schema\":3", "\"schema\":9");
    let (code, complaint) = told(&newer, "--verify");
    assert!(
        code == Some(2) && complaint.contains("version 9"),
        "{complaint}"
    );
    let other = forged("other.trace", "\"fingerprint\":\"", "\"fingerprint\":\"00");
    let (code, complaint) = told(&other, "--verify");
    assert!(
        code == Some(2) && complaint.contains("the recording is of 00"),
        "{complaint}"
    );
    let (code, complaint) = told(Path::new("Cargo.toml"), "--verify");
    assert!(
        code == Some(2) && complaint.contains("Cargo.toml:1:"),
        "{complaint}"
    );
}

/// Whatever a recording says, with digests that vouch for it, is at worst an error.
#[test]
fn a_forged_recording_is_refused_or_differs_and_nothing_panics() {
    let text = std::fs::read_to_string(recorded()).unwrap();
    let lines: Vec<&str> = text.lines().take(60).collect();
    let strange = [
        "-1",
        "0",
        "65535",
        "4294967296",
        "1e300",
        "null",
        "[]",
        "\"x\"",
        "true",
    ];
    let mut state = 11u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut codes = std::collections::BTreeMap::<Option<i32>, usize>::new();
    for _ in 0..150 {
        // One value of one event, behind a colon or within a list.
        let line = next(lines.len());
        let event = lines[line];
        let end = event.rfind(",\"digest\":").unwrap();
        let starts: Vec<usize> = event[..end]
            .char_indices()
            .filter(|(at, c)| {
                matches!(c, ':' | '[' | ',') && *at > 9 && !event[at + 1..].starts_with('"')
            })
            .map(|(at, _)| at + 1)
            .collect();
        if starts.is_empty() {
            continue;
        }
        let start = starts[next(starts.len())];
        let length = event[start..end].find([',', '}', ']']).unwrap_or(0);
        let value = strange[next(strange.len())];
        let forged = format!("{}{value}{}", &event[..start], &event[start + length..]);
        let mut forged_lines = lines.clone();
        forged_lines[line] = &forged;
        let path = recorded().with_file_name("forged.trace");
        std::fs::write(&path, vouched(&(forged_lines.join("\n") + "\n"))).unwrap();
        let output = sage(&["replay", path.to_str().unwrap(), "--policy-only"]);
        let told = complaint(&output);
        let code = output.status.code();
        assert!(
            matches!(code, Some(0..=3)) && !told.contains("panicked"),
            "{code:?} {told}\n{forged}"
        );
        *codes.entry(code).or_default() += 1;
    }
    // It found differences, and things that no recording says.
    assert!(codes.len() >= 3, "{codes:?}");
}

#[test]
fn without_logits_the_model_is_needed() {
    let trace = record("plain.trace", "scenarios/wake-focus-crisis.toml", &[]);
    assert!(
        std::fs::metadata(&trace).unwrap().len() < std::fs::metadata(recorded()).unwrap().len()
    );
    let (code, told) = replay(&trace, &["--policy-only"]);
    assert_eq!(code, Some(2));
    assert!(told.as_str().unwrap().contains("--record-logits"), "{told}");
    let (code, report) = replay(&trace, &["--verify"]);
    assert_eq!(
        (code, &report["equal"]),
        (Some(0), &true.into()),
        "{report}"
    );
    let again = sage(&[
        "run",
        "scenarios/wake-focus-crisis.toml",
        "--record",
        trace.to_str().unwrap(),
    ]);
    assert_eq!(
        again.status.code(),
        Some(2),
        "a recording is not written over"
    );
    assert!(
        complaint(&again).contains("give another name"),
        "{}",
        complaint(&again)
    );
}

/// Readings, limits that change, feedback, a ledger: whatever comes in is recorded, and what it began with lies beside it.
#[test]
fn every_kind_of_input_and_a_ledger_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("trust.redb");
    let ledger = ledger.to_str().unwrap();
    let scenarios = [
        "low-battery",
        "shrinking-memory",
        "impatient-user",
        "quiet-night",
    ];
    for (n, scenario) in scenarios.into_iter().enumerate() {
        let path = format!("scenarios/{scenario}.toml");
        let trace = record(
            &format!("{scenario}.trace"),
            &path,
            &["--record-logits", "--ledger", ledger],
        );
        for how in ["--verify", "--policy-only"] {
            let (code, report) = replay(&trace, &[how]);
            assert_eq!(
                (code, &report["equal"], &report["whole"]),
                (Some(0), &true.into(), &true.into()),
                "{scenario} {how}: {report}"
            );
        }
        let header = std::fs::read_to_string(&trace).unwrap();
        let header: Value = serde_json::from_str(header.lines().next().unwrap()).unwrap();
        let kept = &header["event"]["ledger"];
        assert_eq!(kept["tick"].as_u64() > Some(0), n > 0, "{kept}");
        let beside = trace.with_file_name(kept["file"].as_str().unwrap());
        std::fs::remove_file(beside).unwrap();
        let (code, complaint) = replay(&trace, &["--policy-only"]);
        assert!(
            code == Some(2) && complaint.to_string().contains("keep it beside"),
            "{complaint}"
        );
    }
}

/// What-if replay reads our own recordings: decoded tokens, sizes and shape as the header has them.
#[test]
fn a_recorded_run_is_routing_for_what_if() {
    let trace = record("routes.trace", "scenarios/impatient-user.toml", &[]);
    let output = sage(&[
        "replay",
        "--routes",
        trace.to_str().unwrap(),
        "--capacity",
        "60slots",
        "--json",
        "--policy",
        "lru,horizon,belady",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert!(
        complaint(&output).contains("5 layers of 64 experts, 15.00 MiB"),
        "{}",
        complaint(&output)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let rate = |row: usize| rows[row]["hit_rate"].as_f64().unwrap();
    assert!(
        rate(0) <= rate(2) && rate(1) <= rate(2) && rate(2) > 0.0,
        "{report}"
    );
}

/// An hour of the loop's time, most of it idle, is asked again in seconds.
#[test]
fn an_hour_is_asked_again_in_seconds() {
    let text = std::fs::read_to_string("scenarios/wake-focus-crisis.toml").unwrap();
    let longer: String = text
        .lines()
        .map(|line| match line.starts_with("ticks") {
            true => "ticks = 36000\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    let longer = longer.split("[[expect]]").next().unwrap().to_owned();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hour.toml");
    std::fs::write(&path, longer).unwrap();
    let trace = record("hour.trace", path.to_str().unwrap(), &["--record-logits"]);
    let (code, report) = replay(&trace, &["--policy-only"]);
    assert_eq!(
        (code, &report["equal"]),
        (Some(0), &true.into()),
        "{report}"
    );
    assert!(report["ticks"].as_u64() >= Some(36_000), "{report}");
    println!("{} ticks in {} s", report["ticks"], report["seconds"]);
    std::fs::remove_file(trace).unwrap();
}
