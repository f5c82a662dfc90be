//! Logs of the earlier SAGE, as a user imports and plays them. The samples have the shapes of its files; their contents
//! were written for this test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::PathBuf;

use crate::common::runs::{complaint, sage};
use serde_json::Value;

fn log(name: &str) -> String {
    format!("tests/fixtures/logs/{name}")
}

/// (at, kind, source or sensor, text, value) of every observation of an imported scenario.
type Seen = (i64, String, String, String, f64);

fn imported(arguments: &[&str]) -> (toml::Table, Vec<Seen>) {
    let output = sage(&[&["scenario", "import"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let table: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    let text = |entry: &toml::Value, key: &str| {
        let value = entry.get(key).and_then(toml::Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let entries = table["observe"].as_array().unwrap().iter().map(|entry| {
        let source = text(entry, "source") + &text(entry, "sensor");
        let value = entry
            .get("value")
            .and_then(toml::Value::as_float)
            .unwrap_or(f64::NAN);
        (
            entry["at"].as_integer().unwrap(),
            text(entry, "kind"),
            source,
            text(entry, "text"),
            value,
        )
    });
    let entries = entries.collect();
    (table, entries)
}

#[test]
fn an_experience_buffer_becomes_questions_with_feedback_behind_them() {
    let (table, seen) = imported(&[&log("experience_buffer.json"), "--limit", "96slots"]);
    assert_eq!(table["limit"].as_str(), Some("96slots"));
    assert!(
        table["description"]
            .as_str()
            .unwrap()
            .contains("1 entries that say nothing"),
        "{table}"
    );
    let kinds: Vec<&str> = seen.iter().map(|seen| seen.1.as_str()).collect();
    assert_eq!(kinds, ["question", "feedback", "question", "feedback"]);
    assert!(seen[0].3.ends_with("Where does Helen live?"));
    assert_eq!(seen[0].2, "user");
    // Rewards of 0.9 and 0.2.
    assert!(
        (seen[1].4 - 0.8).abs() < 1e-9 && (seen[3].4 + 0.6).abs() < 1e-9,
        "{seen:?}"
    );
    // 2.5 seconds lie between the two.
    assert_eq!(seen[2].0 - seen[1].0, 25);
}

#[test]
fn exchanges_a_session_and_a_dream_become_what_they_say() {
    let (_, seen) = imported(&[
        &log("exchanges.jsonl"),
        "--with-answers",
        "--answer-tokens",
        "8",
    ]);
    let kinds: Vec<&str> = seen.iter().map(|seen| seen.1.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "question", "feedback", "text", "question", "feedback", "text"
        ]
    );
    assert_eq!(
        (seen[2].2.as_str(), seen[2].3.as_str()),
        ("log", "I would say 61.")
    );
    let (_, seen) = imported(&[&log("session_003.json")]);
    let said: Vec<(&str, &str)> = seen
        .iter()
        .map(|seen| (seen.1.as_str(), seen.2.as_str()))
        .collect();
    assert_eq!(said, [("question", "claude"), ("question", "claude")]);
    assert_eq!(seen[1].3, "Repeat: oak night window");
    let (table, seen) = imported(&[&log("dream_20260320_182129.jsonl")]);
    let read: Vec<(i64, &str, f64)> = seen
        .iter()
        .map(|seen| (seen.0, seen.2.as_str(), seen.4))
        .collect();
    // Cycles are ticks; a gap of 395 of them counts 64.
    assert_eq!(
        read,
        [
            (0, "language", 0.46),
            (3, "language", 0.52),
            (5, "vision", 0.31),
            (69, "language", 0.97)
        ]
    );
    assert_eq!(table["sensors"].as_table().unwrap().len(), 2);
}

/// What is imported runs, and its questions are answered.
#[test]
fn all_of_them_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.toml");
    let path = path.to_str().unwrap();
    let logs = [
        "experience_buffer.json",
        "exchanges.jsonl",
        "session_003.json",
        "dream_20260320_182129.jsonl",
    ]
    .map(log);
    let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
    let import = [
        &["scenario", "import"],
        logs.as_slice(),
        &["--out", path, "--answer-tokens", "12"],
    ]
    .concat();
    let output = sage(&import);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert!(
        complaint(&output)
            .contains("4 logs of experience buffer, exchanges, session, dream bundle"),
        "{}",
        complaint(&output)
    );
    assert_eq!(
        sage(&import).status.code(),
        Some(2),
        "a file that stands there is not touched"
    );
    assert_eq!(sage(&["scenario", "check", path]).status.code(), Some(0));
    let output = sage(&["run", path, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answers: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "answer")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(answers.len(), 6, "{answers:?}");
    assert!(
        answers.contains(&"Milan") && answers.contains(&"61"),
        "{answers:?}"
    );
    let rewards = events
        .iter()
        .filter(|event| event["type"] == "observation" && event["kind"] == "feedback");
    assert_eq!(rewards.count(), 4);
}

#[test]
fn what_is_no_log_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str| {
        let path: PathBuf = folder.path().join("log");
        std::fs::write(&path, text).unwrap();
        let output = sage(&["scenario", "import", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        complaint(&output)
    };
    assert!(refused("").contains("expected experience_buffer.json"));
    assert!(refused("{\"a\": 1}").contains("without `conversation`"));
    assert!(refused("[{\"response\": \"x\"}]").contains("entry 0: missing field `prompt`"));
    assert!(
        refused("[{\"prompt\": \"x\", \"timestamp\": \"yesterday\"}]")
            .contains("\"yesterday\" is no time")
    );
    assert!(refused("{\"user_input\": \"x\"}\n{\"user_input\": 3}\n").contains("log:2: "));
    assert!(refused("{\"user_input\": \"x\"}\n{\"user_input\"").contains("log:2: "));
    assert!(refused("[]").contains("say nothing"));
    let output = sage(&["scenario", "import", "no/such/log.json"]);
    assert_eq!(output.status.code(), Some(2));
}
