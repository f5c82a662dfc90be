//! The model in the repository hears: equal to the implementation that trained its ears, and with answers that can be checked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::runs::{complaint, events, root, sage, typed};
use crate::common::{copied, fixture};
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
    let mut chat = Command::new(env!("CARGO_BIN_EXE_sage"));
    chat.current_dir(root())
        .env("SAGE_CACHE", cache)
        .args(["chat", "--hear"]);
    let lines = format!("/hear {word} {question}\n/state\n/hear none.wav\n/see {word}\n");
    let output = typed(&mut chat, &lines);
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

/// A PNG of 48 × 32 pixels in one colour.
fn picture(folder: &Path) -> String {
    let path = folder.join("grey.png");
    let file = std::fs::File::create(&path).unwrap();
    let mut encoder = png::Encoder::new(file, 48, 32);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[127; 48 * 32]).unwrap();
    writer.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

const FACTS: &str = "Laura lives in London. Peter lives in Dublin. Helen lives in Milan. Tom lives in Oslo. Where does Helen live?";

/// Lines said to a model; it must end well.
fn chat(model: &str, lines: &str, options: &[&str]) -> Output {
    let mut chat = Command::new(env!("CARGO_BIN_EXE_sage"));
    chat.current_dir(root()).args(["chat", model]).args(options);
    let output = typed(&mut chat, lines);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The events of a kind, as values.
fn of(output: &Output, kind: &str) -> Vec<Value> {
    let lines = said(output);
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["type"] == kind).collect()
}

/// What is heard and seen is said in its own numbers, whether something else answers or not.
#[test]
fn what_was_heard_and_seen_is_said_in_its_own_numbers() {
    let word = "models/tiny/sounds/word-pump.wav";
    let lines = format!("{FACTS}\n/hear {word} What do you hear?\n");
    let json = chat("models/tiny", &lines, &["--hear", "--exact", "--json"]);
    let sound = &of(&json, "observation")[1]["perceived"][0];
    let (seconds, tokens) = (&sound["seconds"], &sound["tokens"]);
    let (seconds, tokens) = (seconds.as_f64().unwrap(), tokens.as_f64().unwrap());
    assert!(seconds > 0.2 && seconds < 3.0, "{sound}");
    // 13 tokens are a second.
    assert!((tokens - 13.0 * seconds).abs() < 3.0, "{sound}");
    assert!(sound.get("pixels").is_none(), "{sound}");
    let output = chat("models/tiny", &lines, &["--hear", "--exact"]);
    assert_eq!(said(&output), "Milan\npump\n");
    let numbers = format!("heard {word}: {seconds:.2} s, {tokens} tokens, ");
    assert!(
        complaint(&output).contains(&numbers),
        "{}",
        complaint(&output)
    );

    let folder = tempfile::tempdir().unwrap();
    let grey = picture(folder.path());
    // It has eyes, and borrows a tokenizer: a picture alone has no words.
    let world = copied("tiny-omni");
    let store = folder.path().join("store");
    let shape = "--layers 1 --vocab 512 --hidden 64 --heads 4 --kv-heads 2 --head-dim 16 --experts 8 --experts-per-token 2 --moe-intermediate 32";
    let shape: Vec<&str> = shape.split(' ').collect();
    let made = sage(&[&["synth", "--out", store.to_str().unwrap()], &shape[..]].concat());
    assert!(made.status.success(), "{}", complaint(&made));
    fs::copy(
        store.join("tokenizer.json"),
        world.path().join("tokenizer.json"),
    )
    .unwrap();
    let omni = world.path().to_str().unwrap();
    let see = format!("/see {grey}\n");
    let options = ["--see", "--context", "256", "--max-tokens", "4"];
    let seen = said(&chat(omni, &see, &options));
    assert!(
        seen.starts_with(&format!("saw {grey}: 48 × 32 pixels, ")),
        "{seen}"
    );
    assert!(seen.contains("brightness 0.50"), "{seen}");
    let json = chat(omni, &see, &[&options[..], &["--json"]].concat());
    let picture = &of(&json, "observation")[0]["perceived"][0];
    assert_eq!(picture["pixels"], serde_json::json!([48, 32]));
    assert!(picture.get("seconds").is_none(), "{picture}");
}

/// A question that is only heard is answered, with what was said before in view; it is no turn of what follows.
#[test]
fn a_spoken_question_is_answered() {
    let question = "models/tiny/sounds/question-3.wav";
    let facts = "Anna lives in Rome. Tom lives in Oslo. Paul lives in Paris. Where does Anna live?";
    let lines = format!("{facts}\n/hear {question}\n/state\n/good\n");
    let options = ["--hear", "--exact", "--json"];
    let output = chat("models/tiny", &lines, &options);
    let answers = of(&output, "answer");
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["text"], "Rome");
    assert_eq!(of(&output, "observation")[1]["kind"], "question");
    assert_eq!(of(&output, "state_report")[0]["turns"], 1);
    assert_eq!(of(&output, "feedback").len(), 1);
    // What was said before is in view: without it nobody knows.
    assert_eq!(answers[1]["text"], "Oslo");
    let alone = chat("models/tiny", &format!("/hear {question}\n"), &options);
    let alone = of(&alone, "answer");
    assert_eq!(alone.len(), 1);
    assert_ne!(alone[0]["text"], "Oslo");
}
