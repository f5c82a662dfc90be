//! Answers that are spoken, as a user of the program meets them: in a conversation, in a scenario, recorded, and again.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::layouts::{sage, text};
use crate::common::runs::typed;
use crate::common::speaking::{samples, speaking_model, vouched};

/// Options under which every command gives the same answer in the same voice.
const SETTINGS: [&str; 2] = ["--set", "session.answer_tokens=12"];
const VOICE: [&str; 2] = ["--max-codes", "12"];

/// A model, and what is made with it.
struct World {
    model: TempDir,
    out: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            model: speaking_model(),
            out: tempfile::tempdir().expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.out.path().join(name)
    }

    /// What `sage` says, which must end well; `input` are the lines of a conversation.
    fn events(&self, arguments: &[&str], input: &str) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
        command.args(arguments).args(["--json"]);
        let output = typed(command.args(SETTINGS).args(VOICE), input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = lines.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("an event a line"))
            .collect()
    }

    fn chat(&self, lines: &str, more: &[&str]) -> Vec<Value> {
        let chat = ["chat", text(self.model.path()), "--exact"];
        self.events(&[&chat, more].concat(), lines)
    }

    /// The sound of `generate` for this question alone.
    fn generated(&self, question: &str) -> Vec<i16> {
        let file = self.path("generated.wav");
        let generate = ["generate", text(self.model.path()), "--exact", "--prompt"];
        let speak = [question, "--speak", text(&file)];
        self.events(&[&generate[..], &speak].concat(), "");
        samples(&file)
    }

    /// Exit code and verdict of a replay.
    fn replay(&self, trace: &Path) -> (i32, Value) {
        let model = ["--model", text(self.model.path()), "--json"];
        let (code, said, errors) =
            sage(&[&["replay", text(trace), "--verify"][..], &model].concat());
        let verdict = serde_json::from_str(&said);
        (code, verdict.unwrap_or_else(|_| errors.into()))
    }

    /// A recording that comes again, and whose changed frames are found: by the chain of digests, and where these vouch for
    /// the change, by the sound that comes out otherwise.
    fn assert_comes_again(&self, trace: &Path) {
        let (code, verdict) = self.replay(trace);
        assert_eq!(code, 0, "{verdict}");
        assert_eq!(
            (&verdict["equal"], &verdict["whole"]),
            (&true.into(), &true.into())
        );
        let recorded = std::fs::read_to_string(trace).expect("a recording");
        for name in ["blake3", "codes_blake3"] {
            let changed = changed(&recorded, name);
            let forged = self.path("forged.trace");
            std::fs::write(&forged, &changed).expect("written");
            let (code, refused) = self.replay(&forged);
            assert_eq!(code, 2, "{refused}");
            assert!(refused.to_string().contains("the digest is"), "{refused}");
            std::fs::write(&forged, vouched(&changed)).expect("written");
            let (code, verdict) = self.replay(&forged);
            assert_eq!((code, &verdict["equal"]), (1, &false.into()), "{verdict}");
            let at = verdict["difference"]["at"].as_str().unwrap_or_default();
            assert_eq!(at, format!("event.{name}"), "{verdict}");
        }
    }
}

/// A recording in which the first digest of this name is another.
fn changed(recorded: &str, name: &str) -> String {
    let key = format!("\"{name}\":\"");
    let spoken = recorded.find("\"type\":\"audio\"").expect("a sound");
    let at = spoken + recorded[spoken..].find(&key).expect("a digest") + key.len();
    let other = match &recorded[at..=at] {
        "0" => "1",
        _ => "0",
    };
    [&recorded[..at], other, &recorded[at + 1..]].concat()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let events = events.iter();
    events.filter(|event| event["type"] == kind).collect()
}

/// Samples that the events of a request tell of: in pieces, and in all.
fn told(events: &[Value], request: u64) -> (u64, u64) {
    let of_request = |kind| {
        let events = of(events, kind).into_iter();
        events.filter(move |event| event["request"] == request)
    };
    let samples = |event: &Value| event["samples"].as_u64().expect("a number");
    let spoken: Vec<u64> = of_request("spoken").map(samples).collect();
    assert_eq!(spoken.len(), 1, "{request} is spoken once");
    (of_request("audio").map(samples).sum(), spoken[0])
}

#[test]
fn a_conversation_is_spoken_and_recorded_and_comes_again() {
    let world = World::new();
    let (folder, trace) = (world.path("said"), world.path("chat.trace"));
    let lines = "Hello\n/speak nobody\n/speak off\nAgain\n/speak aiden\nMore\n/speak\nAnd more\n";
    let options = ["--speak", text(&folder), "--record", text(&trace)];
    let events = world.chat(lines, &options);
    assert_eq!(of(&events, "answer").len(), 4);
    let refused = of(&events, "refused");
    let reason = refused[0]["message"].as_str().expect("a message");
    assert_eq!(refused.len(), 1);
    assert!(reason.contains("\"nobody\"") && reason.contains("aiden, chelsie, ethan"));
    let speaks: Vec<(&Value, &Value)> = of(&events, "speak")
        .iter()
        .map(|reply| (&reply["spoken"], &reply["speaker"]))
        .collect();
    let (yes, no) = (&Value::from(true), &Value::from(false));
    let (ethan, aiden) = (&Value::from("Ethan"), &Value::from("aiden"));
    assert_eq!(speaks, [(no, ethan), (yes, aiden), (no, aiden)]);

    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    files.sort();
    assert_eq!(files, ["answer-0.wav", "answer-2.wav"], "what is spoken");
    for request in [0, 2] {
        let found = samples(&folder.join(format!("answer-{request}.wav"))).len() as u64;
        assert!(found > 0);
        assert_eq!(told(&events, request), (found, found));
    }
    assert_eq!(
        samples(&folder.join("answer-0.wav")),
        world.generated("Hello")
    );
    world.assert_comes_again(&trace);
}

/// Speech changes nothing of what is said.
#[test]
fn a_conversation_has_the_same_words_spoken_or_not() {
    let world = World::new();
    let lines = "Hello\nAgain\n";
    let words = |events: &[Value]| -> Vec<String> {
        let answers = of(events, "answer").into_iter();
        answers.map(|answer| answer["text"].to_string()).collect()
    };
    let folder = world.path("said");
    let spoken = words(&world.chat(lines, &["--speak", text(&folder)]));
    let model = text(world.model.path());
    let silent = ["chat", model, "--exact", "--json", "--max-tokens", "12"];
    let mut chat = Command::new(env!("CARGO_BIN_EXE_sage"));
    let output = typed(chat.args(silent), lines);
    let silent: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect();
    assert_eq!(spoken.len(), 2);
    assert_eq!(spoken, words(&silent));
}

/// Three questions, of which the second is not spoken.
fn scenario(world: &World, keys: &str) -> PathBuf {
    let mut script = format!("name = \"spoken\"\nticks = 20\n{keys}\n");
    for (at, speak) in ["speak = true", "", "speak = \"aiden\""].iter().enumerate() {
        script += &format!(
            "\n[[observe]]\nat = {at}\nkind = \"question\"\nsource = \"me\"\ntext = \"Hello\"\n{speak}\n"
        );
    }
    let path = world.path("spoken.toml");
    std::fs::write(&path, script).expect("written");
    path
}

#[test]
fn a_scenario_is_spoken_and_recorded_and_comes_again() {
    let world = World::new();
    let script = scenario(&world, "");
    let (folder, trace) = (world.path("said"), world.path("run.trace"));
    let model = text(world.model.path());
    let run = [
        "run",
        text(&script),
        "--model",
        model,
        "--record",
        text(&trace),
    ];
    let speak = [
        "--set",
        "mind.routing=exact",
        "--speak",
        text(&folder),
        "--speak-greedy",
    ];
    let events = world.events(&[&run[..], &speak].concat(), "");
    let of_request = |request: u64| samples(&folder.join(format!("answer-{request}.wav")));
    for request in [0, 2] {
        let found = of_request(request).len() as u64;
        assert!(found > 0);
        assert_eq!(told(&events, request), (found, found));
    }
    assert!(
        !folder.join("answer-1.wav").exists(),
        "it says nothing of speech"
    );
    assert_eq!(of_request(0), world.generated("Hello"));
    assert_ne!(of_request(0), of_request(2), "another voice");
    world.assert_comes_again(&trace);
}

#[test]
fn what_cannot_be_spoken_is_said_before_anything_runs() {
    let world = World::new();
    let folder = world.path("said");
    let model = text(world.model.path());
    let mute = "models/tiny";
    let said = scenario(&world, "");
    let script = text(&said);
    let file = world.path("taken");
    std::fs::write(&file, "").expect("written");
    let nobody = std::fs::read_to_string(&said).expect("a scenario");
    let nobody = nobody.replace("\"aiden\"", "\"nobody\"");
    let other = world.path("nobody.toml");
    std::fs::write(&other, nobody).expect("written");
    let of_nobody = text(&other);
    let known = "give one of aiden, chelsie, ethan";
    let speak = text(&folder);
    let cases: [(&[&str], &[&str]); 9] = [
        (
            &["chat", model, "--speak", speak, "--speaker", "nobody"],
            &["\"nobody\"", known],
        ),
        (
            &[
                "run",
                script,
                "--model",
                model,
                "--speak",
                speak,
                "--speaker",
                "nobody",
            ],
            &["\"nobody\"", known],
        ),
        (
            &["run", of_nobody, "--model", model],
            &["`speak` of what is observed at 2", "\"nobody\"", known],
        ),
        (&["chat", mute, "--speak", text(&folder)], &["speak"]),
        (&["run", script, "--model", mute], &["speak"]),
        (
            &["chat", model, "--speak", text(&file)],
            &["--speak", "taken"],
        ),
        (
            &["chat", model, "--speak", text(&folder), "--max-codes", "1"],
            &["--max-codes is 1", "expected 2 to"],
        ),
        (
            &["chat", model, "--speak", text(&folder), "--max-tokens", "1"],
            &["--max-tokens is 1"],
        ),
        (&["chat", model, "--speaker", "aiden"], &["--speak"]),
    ];
    for (arguments, expected) in cases {
        let (code, _, errors) = sage(arguments);
        assert_eq!(code, 2, "{arguments:?}: {errors}");
        for expected in expected {
            assert!(errors.contains(expected), "{arguments:?}: {errors}");
        }
    }
}
