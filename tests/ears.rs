//! The model in the repository hears: equal to the implementation that trained its ears, and with answers that can be checked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::fixture;
use common::runs::{complaint, events, root, sage};
use serde_json::Value;

#[test]
fn its_ears_are_those_that_were_trained() {
    let goldens = fixture("ears");
    let output = sage(&[
        "verify",
        "models/tiny",
        "--goldens",
        goldens.to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["passed"], &report["skipped"]),
        (&3.into(), &0.into())
    );
    let tensors = report["cases"][0]["tensors"].as_array().unwrap();
    let names: Vec<&str> = tensors.iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(
        names.contains(&"audio.output") && names.contains(&"greedy.tokens"),
        "{names:?}"
    );
}

#[test]
fn one_word_by_command_and_in_conversation() {
    let word = "models/tiny/sounds/word-pump.wav";
    let question = "What do you hear?";
    let generate = [
        "generate",
        "models/tiny",
        "--audio",
        word,
        "--prompt",
        question,
    ];
    let free = sage(&[&generate[..], &["--exact"]].concat());
    assert_eq!(String::from_utf8_lossy(&free.stdout).trim(), "pump");
    let bound = sage(&[&generate[..], &["--exact", "--limit", "16slots", "--json"]].concat());
    let report: Value = serde_json::from_slice(&bound.stdout).unwrap();
    assert_eq!(report["text"], "pump");
    let (peak, limit) = (&report["peak_rss_bytes"], &report["mode"]["limit_bytes"]);
    assert!(peak.as_u64() <= limit.as_u64(), "{peak} of {limit}");

    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut chat = std::process::Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(root())
        .env("SAGE_CACHE", cache)
        .args(["chat", "--hear"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = format!("/hear {word} {question}\n/state\n/hear none.wav\n/see {word}\n");
    use std::io::Write;
    chat.stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = chat.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let refused = complaint(&output);
    assert!(said.starts_with("pump\n"), "{said}");
    assert!(said.contains("audio    tower"), "{said}");
    assert!(refused.contains("none.wav"), "{refused}");
    assert!(refused.contains("without its vision tower"), "{refused}");
}

/// Voices that no training heard, each asked about in a context of its own.
#[test]
fn most_words_of_unheard_voices_are_understood() {
    let tasks = fs::read_to_string(root().join("models/tiny/sounds/heard.jsonl")).unwrap();
    let mut script =
        "name = \"ears\"\nticks = 1\ncontext_tokens = 128\nmedia_tokens = 64\n".to_owned();
    let mut asked = Vec::new();
    for line in tasks.lines() {
        let task: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| task[name].as_str().unwrap().to_owned();
        // A scenario's sound stands before its question.
        let Some(question) = field("prompt").strip_prefix("<sound>").map(str::to_owned) else {
            continue;
        };
        let sound = root().join("models/tiny").join(field("sound"));
        let (question, answer) = (question.trim(), field("answer"));
        script.push_str(&format!(
            "[[observe]]\nat = 0\nkind = \"question\"\nsource = \"{}\"\nsound = {sound:?}\ntext = {question:?}\nexpect = {answer:?}\n",
            field("task")
        ));
        asked.push(field("task"));
    }
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("ears.toml");
    fs::write(&scenario, script).unwrap();
    let events = events(&scenario, &[]);
    let mut right = BTreeMap::<&str, (usize, usize)>::new();
    for event in events.iter().filter(|event| event["type"] == "expectation") {
        let id = event["answer"]["id"].as_u64().unwrap() as usize;
        let (met, all) = right.entry(&asked[id]).or_default();
        *met += usize::from(event["met"] == true);
        *all += 1;
    }
    println!("right of asked: {right:?}");
    assert_eq!(
        right.values().map(|(_, all)| all).sum::<usize>(),
        asked.len()
    );
    let (words, all) = right["word"];
    assert!(all >= 10 && 10 * words >= 7 * all, "{words} of {all} words");
}
