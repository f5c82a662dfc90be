//! `sage replay --routes`, as a user meets it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .arg("replay")
        .args(arguments)
        .output()
        .unwrap()
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = replay(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["rows"].as_array().unwrap().clone()
}

/// Three layers of 16 experts: two are used all the time in the first half, two others in the second, the third expert
/// changes from token to token.
fn recording(folder: &Path) -> String {
    let mut text = String::new();
    for token in 0..96usize {
        let steady = 2 * (token / 48);
        let layers = (0..3).map(|layer| vec![steady, steady + 1, 4 + (token * 7 + layer * 3) % 12]);
        let layers: Vec<Vec<usize>> = layers.collect();
        writeln!(text, "{{\"tok\": {token}, \"layers\": {layers:?}}}").unwrap();
    }
    let path = folder.join("routes.jsonl");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn policies_are_compared_and_none_beats_belady() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let arguments = [
        "--json",
        "--routes",
        &file,
        "--capacity",
        "12slots,100%",
        "--policy",
        "lru,lfu,horizon,horizon:4,learned,best,belady",
    ];
    let found = rows(&arguments);
    assert_eq!(found.len(), 14);
    let hits = |policy: &str, at: usize| {
        let mut of = found.iter().filter(|row| row["policy"] == policy);
        of.nth(at).unwrap()["hits"].as_u64().unwrap()
    };
    for row in &found {
        assert_eq!(row["routed"], 96 * 9);
        let ratio = row["belady_ratio"].as_f64().unwrap();
        assert!(ratio > 0.0 && ratio <= 1.0, "{row}");
        let interval = row["hit_rate_interval"].as_array().unwrap();
        let rate = row["hit_rate"].as_f64().unwrap();
        assert!(interval[0].as_f64().unwrap() <= rate && rate <= interval[1].as_f64().unwrap());
        let other = row["policy"] != "horizon";
        assert_eq!(row["against_horizon"].is_object(), other, "{row}");
    }
    assert_eq!(hits("best", 0), hits("learned", 0));
    assert!(hits("belady", 0) > hits("horizon", 0));
    // What was used all the time leaves when it is used no more; counts that never decay keep it.
    assert!(hits("horizon", 0) > hits("lfu", 0));
    // With room for all, only what is new is read: 4 steady and 12 changing experts of each layer.
    for policy in ["lru", "lfu", "horizon", "learned", "belady"] {
        assert_eq!(hits(policy, 1), 96 * 9 - 3 * 16, "{policy}");
    }
    assert_eq!(rows(&arguments), found, "the same again");
}

#[test]
fn the_table_names_what_was_assumed() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let output = replay(&["--routes", &file, "--capacity", "25%"]);
    assert_eq!(output.status.code(), Some(0));
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("3 layers of 16 experts (a guess"), "{notes}");
    assert!(notes.contains("of unknown size") && notes.contains("routed slots a second"));
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().count(), 6, "{table}");
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let refused = |arguments: &[&str], expected: &str| {
        let output = replay(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    };
    refused(
        &["--routes", &file, "--capacity", "2MiB"],
        "--capacity in slots",
    );
    refused(&["--routes", &file, "--policy", "mru"], "no policy `mru`");
    refused(
        &["--routes", &file, "--policy", "horizon:x"],
        "no half-life",
    );
    refused(&["--routes", &file, "--experts", "4"], "expert 15 is used");
    refused(&["--routes", "/nowhere"], "/nowhere");
    std::fs::write(folder.path().join("broken"), "{\"layers\": 3}\n").unwrap();
    let broken = folder.path().join("broken").display().to_string();
    refused(&["--routes", &broken], "broken:1:");
    // Sizes that the user declares make bytes mean something.
    let declared = [
        "--json",
        "--routes",
        &file,
        "--expert-bytes",
        "1MiB",
        "--capacity",
        "12MiB",
    ];
    assert_eq!(rows(&declared)[0]["capacity_bytes"], 12 << 20);
}
