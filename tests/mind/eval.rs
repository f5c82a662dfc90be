//! `sage eval` as a user meets it: what is exact is exact, what is starved is worse, and a killed run goes on.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod varied;

/// Two documents of plain English; nothing here depends on what the model makes of them, but that it was trained.
const TEXT: &str = "And it came to pass in those days, that the king went up to the house of the Lord, and the \
people stood before him. And he said unto them, Hear me, and I will tell you what the Lord hath done for his people, \
and for the children of his servants.<|endoftext|>
She was not at all afraid of being alone; but she was glad when her sister came into the room, and still more when she \
found that her mother had not been told of it. They sat down together, and talked of the ball until it was late.
<|endoftext|>
";

const TASKS: &str = r#"{"task": "repeat", "prompt": "Repeat: tree river stone", "answer": "tree river stone"}

{"task": "never", "prompt": "What is 2 + 2?", "answer": "no model says this", "note": "other fields may stand here"}
{"task": "repeat", "prompt": "Repeat: king lord", "answer": " king lord "}
"#;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments);
    command
}

fn sage(arguments: &[&str]) -> Output {
    command(arguments).output().expect("sage runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a text and a task file.
struct Material {
    folder: tempfile::TempDir,
}

impl Material {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let material = Self { folder };
        material.write("text.txt", TEXT);
        material.write("tasks.jsonl", TASKS);
        material
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).expect("written");
        self.name(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path").to_owned()
    }

    /// Arguments of an evaluation of the repository's model on the text, then `more`.
    fn text<'a>(&self, more: &[&'a str]) -> Vec<String> {
        let text = self.name("text.txt");
        let mut arguments: Vec<String> = ["eval", "models/tiny", "--text", &text]
            .map(str::to_owned)
            .into();
        arguments.extend(more.iter().map(|more: &&'a str| (*more).to_owned()));
        arguments
    }
}

fn run(arguments: &[String]) -> Output {
    sage(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn json(arguments: &[String]) -> Value {
    let output = run(&[arguments, &["--json".to_owned()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one object of JSON")
}

/// A report without what differs from run to run.
fn settled(mut report: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("measured");
                fields.values_mut().for_each(strip);
            }
            Value::Array(entries) => entries.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut report);
    report
}

fn arm<'a>(report: &'a Value, name: &str) -> &'a Value {
    let arms = report["arms"].as_array().expect("arms");
    arms.iter()
        .find(|arm| arm["name"] == name)
        .unwrap_or_else(|| panic!("no arm {name} in {report}"))
}

#[test]
fn exact_is_exact_under_any_limit_and_what_is_starved_differs() {
    let material = Material::new();
    let report = json(&material.text(&[
        "--limits",
        "none,4slots",
        "--states",
        "focus,depletion",
        "--policy",
        "topk,salient",
    ]));
    assert_eq!(report["mode"]["documents"], 2);
    assert_eq!(report["arms"].as_array().map(Vec::len), Some(10));
    let unlimited = &arm(&report, "exact none")["text"];
    // The trained k and the router's own choice: no difference, however little memory there is.
    for name in [
        "exact none",
        "exact 4slots",
        "focus topk none",
        "focus topk 4slots",
    ] {
        let text = &arm(&report, name)["text"];
        assert_eq!(text["kl"]["value"], 0.0, "{name}");
        assert_eq!(text["agreement"]["value"], 1.0, "{name}");
        assert_eq!(text["nll"]["value"], unlimited["nll"]["value"], "{name}");
        if name.starts_with("focus") {
            assert_eq!(text["nll"]["difference"]["value"], 0.0, "{name}");
            assert_eq!(text["nll"]["difference"]["tie"], true, "{name}");
        } else {
            assert!(text["nll"]["difference"].is_null(), "{name}");
        }
    }
    let number = |name: &str, key: &str| arm(&report, name)["text"][key].as_f64();
    let value = |name: &str, key: &str| arm(&report, name)["text"][key]["value"].as_f64();
    let starved = "depletion salient 4slots";
    assert!(value(starved, "kl") > Some(0.01), "{report}");
    assert!(value(starved, "agreement") < Some(1.0));
    assert!(number(starved, "denied_mass_per_token") > Some(0.0));
    assert_eq!(number("exact 4slots", "denied_mass_per_token"), Some(0.0));
    // Fewer experts, under a cap: fewer bytes. Less memory: fewer hits.
    assert!(number(starved, "bytes_per_token") < number("exact 4slots", "bytes_per_token"));
    assert!(number("exact 4slots", "hit_rate") < number("exact none", "hit_rate"));
    assert!(arm(&report, starved)["k"].as_u64() < arm(&report, "exact none")["k"].as_u64());
    for limited in report["arms"].as_array().expect("arms") {
        let measured = &limited["text"]["measured"];
        if let Some(limit) = measured["limit_bytes"].as_u64() {
            assert!(
                measured["peak_rss_bytes"].as_u64() <= Some(limit),
                "{limited}"
            );
        }
    }
}

#[test]
fn starving_costs_loss_on_held_out_texts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/heldout");
    let mut texts: Vec<String> = std::fs::read_dir(folder)
        .expect("held-out texts")
        .filter_map(|entry| Some(entry.ok()?.path().to_str()?.to_owned()))
        .filter(|path| path.ends_with(".txt"))
        .collect();
    texts.sort();
    let options = [
        "--limits",
        "8slots",
        "--states",
        "depletion",
        "--documents",
        "1",
        "--max-tokens-per-document",
        "128",
        "--text",
    ];
    let mut arguments: Vec<String> = ["eval", "models/tiny"].map(str::to_owned).into();
    arguments.extend(options.map(str::to_owned));
    arguments.extend(texts);
    let report = json(&arguments);
    let starved = &arm(&report, "depletion salient 8slots")["text"]["nll"]["difference"];
    assert!(starved["value"].as_f64() > Some(0.0), "{starved}");
}

#[test]
fn the_loss_of_the_exact_arm_is_the_loss_of_reading_in_chunks() {
    let material = Material::new();
    let prompt = TEXT.split("<|endoftext|>").next().expect("a document");
    let alone = material.write("alone.txt", prompt);
    let report =
        json(&["eval", "models/tiny", "--states", "wake", "--text", &alone].map(str::to_owned));
    let generated = sage(&[
        "generate",
        "models/tiny",
        "--raw",
        "--prompt",
        prompt,
        "--routing",
        "exact",
        "--max-tokens",
        "1",
        "--json",
    ]);
    let generated: Value = serde_json::from_slice(&generated.stdout).expect("JSON");
    let found = arm(&report, "exact none")["text"]["nll"]["value"].as_f64();
    let expected = generated["prompt_loss"].as_f64();
    let (found, expected) = found.zip(expected).expect("two losses");
    assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    // One document has no spread.
    let nll = &arm(&report, "wake salient none")["text"]["nll"];
    assert!(
        nll["low"].is_null() && nll["difference"]["tie"].is_null(),
        "{nll}"
    );
}

#[test]
fn two_runs_are_the_same_and_long_documents_are_read_in_pieces() {
    let material = Material::new();
    let arguments = material.text(&[
        "--limits",
        "6slots",
        "--states",
        "wake",
        "--policy",
        "salient,sage",
        "--max-tokens-per-document",
        "20",
        "--documents",
        "3",
    ]);
    let first = json(&arguments);
    let again = json(&[&arguments[..], &["--threads".to_owned(), "1".to_owned()]].concat());
    assert_eq!(first["mode"]["scored_tokens"], 57);
    assert_eq!(settled(first), settled(again));
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_numbers() {
    let material = Material::new();
    let tasks = material.name("tasks.jsonl");
    let common = material.text(&[
        "--tasks",
        &tasks,
        "--limits",
        "8slots",
        "--states",
        "wake,rest",
        "--answer-tokens",
        "12",
        "--max-tokens-per-document",
        "24",
    ]);
    let out = |name: &str| [&common[..], &["--out".to_owned(), material.name(name)]].concat();
    let whole = settled(json(&out("whole")));
    assert_eq!(settled(json(&common)), whole, "with a record or without");

    let killed = out("killed");
    let mut child = command(&killed.iter().map(String::as_str).collect::<Vec<_>>())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sage runs");
    let started = Instant::now();
    let lines = |name: &str| {
        let bytes = std::fs::read(material.path(name)).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count()
    };
    let finished = || {
        let record = std::fs::read_to_string(material.path("killed")).unwrap_or_default();
        record.contains("\"done\"")
    };
    while !finished() && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(lines("killed") < lines("whole"), "killed before the end");
    // As if the kill had come in the middle of a line.
    let mut bytes = std::fs::read(material.path("killed")).expect("a record");
    bytes.extend(br#"{"arm":1,"name":"wake sal"#);
    std::fs::write(material.path("killed"), bytes).expect("written");
    let resumed = run(&killed);
    assert!(stderr(&resumed).contains("parts (texts or tasks of an arm) are finished"));
    assert_eq!(settled(json(&killed)), whole);
    assert_eq!(lines("killed"), lines("whole"));

    // Finished: nothing runs again, and the timings are those of the first time.
    let report = json(&out("whole"));
    assert_eq!(report, json(&out("whole")));
    assert_eq!(settled(report), whole);

    let other = [
        &out("whole")[..],
        &["--documents".to_owned(), "1".to_owned()],
    ]
    .concat();
    let refused = run(&other);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let message = stderr(&refused);
    assert!(
        message.contains("whole") && message.contains("another run"),
        "{message}"
    );
}

#[test]
fn tasks_are_answered_and_counted() {
    let material = Material::new();
    let tasks = material.name("tasks.jsonl");
    let arguments = [
        "eval",
        "models/tiny",
        "--states",
        "focus",
        "--answer-tokens",
        "12",
        "--tasks",
        &tasks,
    ]
    .map(str::to_owned);
    let report = json(&arguments);
    let tasks = &arm(&report, "exact none")["tasks"];
    assert_eq!(tasks["items"], 3);
    let names: Vec<_> = tasks["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| (task["task"].as_str(), task["items"].as_u64()))
        .collect();
    assert_eq!(names, [(Some("repeat"), Some(2)), (Some("never"), Some(1))]);
    assert_eq!(tasks["tasks"][1]["exact_match"]["value"], 0.0);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 6);
    assert!(
        rows.iter()
            .all(|row| row["correct"] == (row["answer"] == row["expected"]))
    );
    assert!(
        rows[0]["item"]
            .as_str()
            .is_some_and(|item| item.starts_with("tasks.jsonl "))
    );

    let shown = run(&arguments);
    let table = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        table.contains("focus salient none") && table.contains("never"),
        "{table}"
    );
    assert!(
        stderr(&shown).starts_with("mode: priced against exact"),
        "{}",
        stderr(&shown)
    );
}

#[test]
fn wrong_requests_say_what_is_wrong_and_end_with_2() {
    let material = Material::new();
    let text = material.name("text.txt");
    let empty = material.write("empty.txt", " \n<|endoftext|>\n");
    let broken = material.write("broken.jsonl", &format!("{TASKS}{{\"task\": \"x\",\n"));
    let unanswered = material.write(
        "unanswered.jsonl",
        "{\"task\": \"x\", \"prompt\": \"y\", \"answer\": \" \"}\n",
    );
    let notes = material.write("notes.txt", "notes of mine\n");
    let cases: [(&[&str], &[&str]); 15] = [
        (&["models/tiny"], &["--text"]),
        (&["no-such-model", "--text", &text], &["no-such-model"]),
        (&["models/tiny", "--text", "no-such.txt"], &["no-such.txt"]),
        (
            &["models/tiny", "--text", &empty],
            &["empty.txt", "holds no text"],
        ),
        (
            &["models/tiny", "--tasks", &broken],
            &["broken.jsonl", "line 5", "`task`"],
        ),
        (
            &["models/tiny", "--tasks", &unanswered],
            &["line 1", "answer is empty"],
        ),
        (
            &["models/tiny", "--text", &text, "--limits", "big"],
            &["big", "or none"],
        ),
        (
            &["models/tiny", "--text", &text, "--limits", "1MiB"],
            &["exact 1MiB", "below the floor"],
        ),
        (
            &[
                "models/tiny",
                "--text",
                &text,
                "--max-tokens-per-document",
                "1",
            ],
            &["--max-tokens-per-document is 1"],
        ),
        (
            &["models/tiny", "--text", &text, "--chunk", "0"],
            &["--chunk is 0", "at least 1"],
        ),
        (
            &["models/tiny", "--text", &text, "--without", "router_mass"],
            &["`without router_mass` changes nothing", "leave it out"],
        ),
        (
            &[
                "models/tiny",
                "--text",
                &text,
                "--vary",
                "mind.budgets.wake.g=1",
            ],
            &["mind.budgets.wake.g"],
        ),
        (
            &["models/tiny", "--text", &text, "--kv", "bf16,f32"],
            &["--kv is f32", "expected bf16, q8"],
        ),
        (
            &["models/tiny", "--text", &text, "--out", &notes],
            &["notes.txt", "no record"],
        ),
        (
            &["tests/fixtures/tiny-thinker", "--text", &text],
            &["tokenizer.json"],
        ),
    ];
    for (arguments, wanted) in cases {
        let output = sage(&[&["eval"], arguments].concat());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        for wanted in wanted {
            assert!(message.contains(wanted), "{arguments:?}: {message}");
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let kept = std::fs::read_to_string(Path::new(&notes)).expect("still there");
    assert_eq!(kept, "notes of mine\n");

    // A run that is refused before it begins does not claim its file for its arguments.
    let out = material.name("out");
    for (limit, code) in [("1MiB", 2), ("4slots", 0)] {
        let output = run(&material.text(&["--states", "wake", "--limits", limit, "--out", &out]));
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}
