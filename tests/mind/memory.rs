//! What was told is remembered beyond the context: the same in a recording, and bounded.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::runs::{root, sage, typed};

const FACTS: &str =
    "Laura lives in London. Peter lives in Dublin. Helen lives in Milan. Tom lives in Oslo.";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let event = |line: &str| serde_json::from_str(line).expect("an event a line");
    lines.lines().map(event).collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

/// A text that a conversation of 256 tokens has no room for, with facts at its beginning.
fn long_text() -> String {
    let novel = root().join("models/tiny/heldout/kjv.txt");
    let novel = std::fs::read_to_string(novel).expect("held-out text");
    let novel: String = novel.chars().take(3_000).collect();
    format!("{FACTS}\n{novel}\n")
}

/// A scenario that tells a text and asks about it.
fn scenario(folder: &Path) -> String {
    std::fs::write(folder.join("told.txt"), long_text()).expect("written");
    let scenario = "name = \"told and asked\"\nticks = 1400\n\n\
         [[observe]]\nat = 0\nkind = \"text\"\nsource = \"book\"\nfile = \"told.txt\"\nconversation = true\n\n\
         [[observe]]\nat = 1000\nkind = \"question\"\nsource = \"me\"\ntext = \"Where does Helen live?\"\nconversation = true\n";
    let path = folder.join("told.toml");
    std::fs::write(&path, scenario).expect("written");
    path.to_str().expect("a path").to_owned()
}

/// Settings of a short context with this memory.
fn settings(retention: &str) -> Vec<String> {
    [
        "session.context_tokens=256".to_owned(),
        "session.answer_tokens=8".to_owned(),
        format!("mind.memory.retention={retention}"),
        "mind.memory.store_bytes=3000".to_owned(),
    ]
    .into_iter()
    .flat_map(|setting| ["--set".to_owned(), setting])
    .collect()
}

/// Runs the scenario with this memory.
fn run(folder: &Path, retention: &str, more: &[&str]) -> Output {
    let (path, settings) = (scenario(folder), settings(retention));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let run = ["run", &path, "--model", "models/tiny"];
    sage(&[&run[..], &settings, more].concat())
}

/// Read into the conversation and asked about is the same prompt as told and asked in one turn, and the text is read once.
#[test]
fn a_text_that_was_read_is_what_a_question_sees() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("facts.txt");
    std::fs::write(&file, FACTS).expect("written");
    let question = "Where does Helen live?";
    let mut chat = std::process::Command::new(env!("CARGO_BIN_EXE_sage"));
    chat.current_dir(root())
        .args(["chat", "models/tiny", "--exact", "--json"]);
    let said = format!("/read {}\n/state\n{question}\n/state\n", file.display());
    let events = lines(&typed(&mut chat, &said));
    let answers = of(&events, "answer");
    assert_eq!(answers[0]["text"], "Milan");
    let prompt = format!("{FACTS}\n{question}");
    let whole = sage(&[
        "generate",
        "models/tiny",
        "--exact",
        "--json",
        "--prompt",
        &prompt,
    ]);
    let whole: Value = serde_json::from_slice(&whole.stdout).expect("JSON");
    assert_eq!(whole["text"].as_str().map(str::trim), Some("Milan"));
    let held: Vec<u64> = of(&events, "state_report")
        .iter()
        .map(|state| number(state, "context_tokens"))
        .collect();
    let read = of(&events, "read");
    let read: u64 = read.iter().map(|read| number(read, "tokens")).sum();
    assert_eq!(read, held[0], "the text is in the context");
    assert_eq!(
        held[1],
        number(&whole, "prompt_tokens") + number(answers[0], "tokens")
    );
}

/// With a memory, what was told long ago comes back when it is asked about; without one the oldest is gone.
#[test]
fn a_question_brings_back_what_left_the_context() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |retention: &str| lines(&run(folder.path(), retention, &["--json"]));
    let events = run("salience");
    let condensed = of(&events, "condensed");
    assert!(condensed.len() >= 2, "{condensed:?}");
    for event in &condensed {
        assert!(number(event, "tokens") <= 256 && number(event, "segments") > 0);
    }
    let recalled = of(&events, "recalled");
    assert_eq!(recalled.len(), 1);
    // "Helen lives in Milan." is the one that has her name; others share rare words with the question.
    assert!(
        (1..=4).contains(&number(recalled[0], "segments")),
        "{recalled:?}"
    );
    let answer = &of(&events, "answer")[0];
    assert!(number(answer, "tokens") > 0);
    let without = run("off");
    assert!(of(&without, "condensed").is_empty() && of(&without, "recalled").is_empty());
    assert!(!of(&without, "forgotten").is_empty());
}

/// A recording has what was remembered, and gives it again: with the model, and by the mind alone.
#[test]
fn a_recording_remembers_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("run.trace");
    let trace = trace.to_str().expect("a path");
    let recording = run(
        folder.path(),
        "salience",
        &["--record", trace, "--record-logits"],
    );
    assert!(recording.status.success(), "{}", text(&recording.stderr));
    let recorded = std::fs::read_to_string(trace).expect("a recording");
    for kind in ["remember", "condense", "recall"] {
        let mark = format!("\"type\":\"{kind}\"");
        assert!(recorded.contains(&mark), "no {kind}");
    }
    for arguments in [
        &["replay", trace, "--verify", "--model", "models/tiny"][..],
        &["replay", trace, "--policy-only"],
    ] {
        let again = sage(arguments);
        assert!(
            again.status.success(),
            "{arguments:?}: {}",
            text(&again.stderr)
        );
    }
    // What was kept never took more than the store has.
    let mut bytes = std::collections::BTreeMap::new();
    for line in recorded
        .lines()
        .filter(|line| line.contains("\"type\":\"remember\""))
    {
        let line: Value = serde_json::from_str(line).expect("a record");
        let asked = &line["event"]["asked"];
        bytes.insert(number(asked, "id"), number(asked, "bytes"));
        for id in line["event"]["answer"]["forgotten"]
            .as_array()
            .expect("a list")
        {
            assert!(bytes.remove(&id.as_u64().expect("a number")).is_some());
        }
    }
    let kept: u64 = bytes.values().sum();
    assert!(
        kept <= 3_000 && bytes.len() > 4,
        "{kept} bytes of {} segments",
        bytes.len()
    );
}

/// The instrument runs every rule on the same items, and counts what differs.
#[test]
fn rules_of_what_stays_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("items.jsonl");
    let item = serde_json::json!({
        "group": "far",
        "told": [long_text()],
        "questions": [{"question": "Where does Helen live?", "answer": "Milan"}]
    });
    std::fs::write(&file, format!("{item}\n{item}\n")).expect("written");
    let path = file.to_str().expect("a path");
    let arguments = [
        "recall",
        "models/tiny",
        "--items",
        path,
        "--context-tokens",
        "256",
        "--json",
    ];
    let output = sage(
        &[
            &arguments[..],
            &["--arms", "unlimited,recency,mind,only-arousal"],
        ]
        .concat(),
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let arms = report["arms"].as_array().expect("arms");
    let names: Vec<&str> = arms.iter().filter_map(|arm| arm["arm"].as_str()).collect();
    assert_eq!(names, ["unlimited", "recency", "mind", "only-arousal"]);
    assert_eq!(
        (&report["items"], &report["questions"]),
        (&2.into(), &2.into())
    );
    let count = |arm: usize, key: &str| number(&arms[arm], key);
    assert_eq!((count(0, "condensed"), count(0, "recalled")), (0, 0));
    assert!(count(1, "condensed") > 0 && count(1, "recalled") == 0);
    assert!(count(2, "condensed") > 0 && count(2, "recalled") >= 2);
    // What is read anew is counted.
    assert!(count(1, "ticks") > count(0, "ticks"));
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(3));
    for (items, said) in [("{}\n", "line 1"), ("\n", "no items")] {
        std::fs::write(&file, items).expect("written");
        let output = sage(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            text(&output.stderr).contains(said),
            "{}",
            text(&output.stderr)
        );
    }
}

/// Text without spaces, of white space alone, or longer than the context is read to its end; a question that comes between
/// is answered, and the text goes on behind it.
#[test]
fn any_text_can_be_told_and_asked_about_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = [
        format!("x {}", "\u{3000}".repeat(3_000)),
        format!("x {}", "\r\n".repeat(1_000)),
        "a".repeat(3_000),
        "你好。我住在罗马。".repeat(60),
        long_text(),
    ];
    let mut script = "name = \"any text\"\nticks = 900\n".to_owned();
    for (at, told) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{at}.txt")), told).expect("written");
        script += &format!(
            "\n[[observe]]\nat = 0\nkind = \"text\"\nfile = \"{at}.txt\"\nconversation = true\n"
        );
    }
    script += "\n[[observe]]\nat = 30\nkind = \"question\"\ntext = \"Where does Helen live?\"\nconversation = true\n";
    let path = folder.path().join("any.toml");
    std::fs::write(&path, script).expect("written");
    let path = path.to_str().expect("a path");
    let trace = folder.path().join("any.trace");
    let trace = trace.to_str().expect("a path");
    for retention in ["salience", "off"] {
        let settings = settings(retention);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let run = [
            &["run", path, "--model", "models/tiny", "--json"][..],
            &settings,
        ]
        .concat();
        let recorded = [&run[..], &["--record", trace]].concat();
        let events = lines(&sage(match retention {
            "salience" => &recorded,
            _ => &run,
        }));
        assert_eq!(of(&events, "answer").len(), 1);
        assert!(of(&events, "refused").is_empty());
        let read = of(&events, "read");
        let last = events.iter().rposition(|event| event["type"] == "read");
        let answered = events.iter().position(|event| event["type"] == "answer");
        assert!(answered < last && read.len() > 10, "texts go on behind it");
    }
    let again = sage(&["replay", trace, "--verify", "--model", "models/tiny"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
}
