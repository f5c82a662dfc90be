//! `sage chat` as a program meets it: lines in, answers out.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use crate::common::runs::typed;

const FACTS: &str = "Laura lives in London. Peter lives in Dublin. Helen lives in Milan. Tom lives in Oslo. Where does Helen live?";
const SENSORS: &str = "motor 77 (60-80); heater 99 (30-80); battery 73 (60-80); fan 55 (50-70). Which sensor is out of range?";

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

fn sage(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says `lines` to the model, and nothing more.
fn chat(lines: &str, options: &[&str]) -> Output {
    let mut chat = sage(&["chat", model().to_str().expect("a path")]);
    let output = typed(chat.args(options), lines);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{lines}: {}",
        text(&output.stderr)
    );
    output
}

/// The same, as events.
fn events(lines: &str, options: &[&str]) -> Vec<Value> {
    let output = chat(lines, &[&["--json"], options].concat());
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

fn answers(events: &[Value]) -> Vec<&str> {
    let answers = of(events, "answer").into_iter();
    answers
        .filter_map(|answer| answer["text"].as_str())
        .collect()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Of the second question only its own tokens are read, and the answer is the one that the whole conversation, asked as
/// one prompt, has.
#[test]
fn a_second_question_sees_the_first() {
    let second = "Where does Tom live?";
    let events = events(
        &format!("{FACTS}\n/state\n{second}\n/state\n/why\n"),
        &["--exact"],
    );
    let answers = answers(&events);
    let whole = format!(
        "<|im_start|>user\n{FACTS}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n<|im_start|>user\n{second}<|im_end|>\n<|im_start|>assistant\n",
        answers[0]
    );
    let model = model();
    let generated = sage(&[
        "generate",
        model.to_str().expect("a path"),
        "--exact",
        "--raw",
    ])
    .args(["--json", "--allow-control-tokens", "--prompt", &whole])
    .output()
    .expect("sage runs");
    let generated: Value = serde_json::from_slice(&generated.stdout).expect("JSON");
    assert_eq!(
        generated["text"].as_str().expect("text").trim(),
        answers[1],
        "the conversation is not what was asked as one prompt"
    );
    let held: Vec<f64> = of(&events, "state_report")
        .iter()
        .map(|state| number(&state["context_tokens"]))
        .collect();
    let turn = &of(&events, "why")[0]["turn"];
    assert_eq!(number(&turn["tokens"]), held[1] - held[0]);
    assert!(held[1] > held[0] && held[0] > number(&turn["tokens"]));
}

/// What was said before is forgotten by /reset, and then the answer is another conversation's.
#[test]
fn reset_forgets_and_the_same_lines_give_the_same_events() {
    let lines = format!("{FACTS}\n{SENSORS}\n/state\n/reset\n/state\n{FACTS}\n/state\n");
    let options = ["--temperature", "0.7", "--seed", "3", "--max-tokens", "12"];
    let once = events(&lines, &options);
    let turns: Vec<f64> = of(&once, "state_report")
        .iter()
        .map(|state| number(&state["turns"]))
        .collect();
    assert_eq!(turns, [2.0, 0.0, 1.0]);
    assert_eq!(of(&once, "reset")[0]["turns"], 2);
    let without_rss = |mut events: Vec<Value>| {
        for event in &mut events {
            event
                .as_object_mut()
                .expect("an object")
                .remove("rss_bytes");
        }
        events
    };
    let again = events(&lines, &[&options[..], &["--threads", "1"]].concat());
    assert_eq!(without_rss(once), without_rss(again));
}

/// Every command says what it should, and something else when something else has happened.
#[test]
fn commands_tell_what_the_mind_measures() {
    let lines = format!(
        "/state\n/why\n{FACTS}\n/state\n/salience\n/trust\n/why\n/good\n/trust\n/bad\n/help\n"
    );
    let events = events(&lines, &["--limit", "60slots"]);
    assert_eq!(answers(&events).len(), 1);
    let states = of(&events, "state_report");
    assert_eq!(states[0]["state"], "wake");
    assert_eq!(
        (&states[0]["turns"], &states[1]["turns"]),
        (&0.into(), &1.into())
    );
    for key in [
        "atp",
        "compute",
        "io",
        "level",
        "k",
        "expert_bytes",
        "dwell_ticks",
        "pool_bytes",
    ] {
        assert!(states[1][key].is_number(), "{key}");
    }
    assert!(number(&states[1]["resident_experts"]) > number(&states[0]["resident_experts"]));
    let salience = of(&events, "salience_report")[0];
    for key in [
        "surprise", "novelty", "arousal", "reward", "conflict", "drive",
    ] {
        assert!(salience["now"][key].is_number(), "{key}");
    }
    assert_eq!(salience["segments"][0]["origin"], "observed");

    let whys = of(&events, "why");
    assert!(whys[0].get("turn").is_none() && whys[0]["moves"] == Value::Array(Vec::new()));
    let moves = whys[1]["moves"].as_array().expect("moves");
    let causes: Vec<&Value> = moves.iter().map(|change| &change["cause"]).collect();
    assert_eq!(causes, ["request", "settled"]);
    let crossed = moves[0]["crossed"].as_array().expect("reasons");
    let energy = crossed.iter().find(|crossed| crossed["what"] == "atp");
    let energy = energy.expect("the energy that it took");
    assert_eq!(energy["condition"], "ATP > 50");
    assert!(number(&energy["measured"]) > number(&energy["threshold"]));
    let layers = whys[1]["turn"]["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 5);
    for layer in layers {
        let shares = layer["experts"].as_array().expect("experts");
        assert!(!shares.is_empty());
        assert!(
            shares
                .iter()
                .all(|part| (0.0..=1.0).contains(&number(&part["share"])))
        );
    }
    let trusts = of(&events, "trust");
    assert!(number(&trusts[0]["layers"][0]["worked"]) > 3.0);
    assert_ne!(trusts[0], trusts[1], "praise moves trust");
    let feedback = of(&events, "feedback");
    assert_eq!(
        (
            number(&feedback[0]["reward"]),
            number(&feedback[1]["reward"])
        ),
        (1.0, 0.0)
    );
    assert!(number(&feedback[0]["convergence_moved"]) > 0.0);
    assert!(
        of(&events, "help")[0]["commands"]
            .as_array()
            .expect("commands")
            .len()
            > 8
    );
}

#[test]
fn plain_lines_have_no_prompts_and_unknown_commands_a_hint() {
    let output = chat(&format!("/stat\n\n{FACTS}\n/why\n/feedback 3\n"), &[]);
    let (said, noted) = (text(&output.stdout), text(&output.stderr));
    assert!(said.starts_with("Milan\n"), "{said}");
    assert!(said.contains("wake → focus (request)"), "{said}");
    assert!(said.contains("ATP > 50: atp "), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("> ")), "{said}");
    assert!(noted.contains("did you mean `/state`?"), "{noted}");
    assert!(noted.contains("from -1 to 1"), "{noted}");
    assert!(noted.contains("mode: priced"), "{noted}");
    let quit = chat(&format!("/quit\n{FACTS}\n"), &[]);
    assert_eq!(text(&quit.stdout), "", "nothing is said after /quit");
    assert_eq!(text(&chat("", &[]).stdout), "");
}

/// When the context is full the oldest turns go, and what was asked last is still answered.
#[test]
fn a_full_context_forgets_the_oldest_turns() {
    let lines = format!("{FACTS}\n{SENSORS}\n{FACTS}\n/state\n");
    let options = ["--context", "110", "--max-tokens", "8"];
    let events = events(&lines, &options);
    let forgotten = of(&events, "forgotten");
    assert!(!forgotten.is_empty());
    let left = number(&of(&events, "state_report")[0]["turns"]);
    let gone: f64 = forgotten.iter().map(|event| number(&event["turns"])).sum();
    assert_eq!(gone + left, 3.0);
    assert_eq!(answers(&events).len(), 3);
    let long = format!("{}\n{FACTS}\n", "word ".repeat(200));
    let output = chat(&long, &options);
    assert!(
        text(&output.stderr).contains("declared context"),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("Milan"), "it goes on");
}

/// A wish below the floor is refused with the number that would do; a smaller pool reads more.
#[test]
fn a_limit_is_refused_or_changes_what_is_read() {
    let lines = format!(
        "/limit 3MiB\n/limit 320slots\n{FACTS}\n/reset\n{FACTS}\n/why\n/limit 0slots\n/reset\n{FACTS}\n/why\n/state\n"
    );
    let events = events(&lines, &["--limit", "60slots"]);
    let refused = of(&events, "refused")[0];
    assert!(
        refused["message"]
            .as_str()
            .expect("why")
            .contains("below the floor")
    );
    let would_do = refused["hint"].as_str().expect("a hint");
    let would_do = would_do.split_whitespace().nth(1).expect("a number");
    let limits = of(&events, "limit");
    assert_eq!(limits.len(), 2, "what is refused changes nothing");
    assert!(number(&limits[0]["pool_bytes"]) > number(&limits[0]["pool_bytes_before"]));
    assert_eq!(limits[1]["pool_bytes"], 0);
    let whys = of(&events, "why");
    let read = |why: &Value| number(&why["turn"]["miss_bytes"]);
    assert!(
        read(whys[1]) > read(whys[0]),
        "{} and {}",
        read(whys[1]),
        read(whys[0])
    );
    let state = of(&events, "state_report")[0];
    assert_eq!(state["pool_bytes"], 0);
    // The floor is that of the session's chunks, and their length came of its first limit.
    let accepted = self::events(&format!("/limit {would_do}\n"), &["--limit", "60slots"]);
    assert_eq!(of(&accepted, "limit").len(), 1, "{would_do} does not do");
}

/// A child that is spoken to line by line.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn with(model: &Path, options: &[&str]) -> Self {
        let mut child = sage(&["chat", model.to_str().expect("a path"), "--json"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sage runs");
        Self {
            input: child.stdin.take().expect("its input"),
            output: BufReader::new(child.stdout.take().expect("its output")),
            child,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("written");
    }

    /// Waits for the next event of a kind.
    fn hear(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.output.read_line(&mut line).expect("a line"),
                0,
                "no {kind} came"
            );
            let event: Value = serde_json::from_str(&line).expect("an event");
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Resident set, as the system counts it, when everything said is done.
    fn resident_bytes(&mut self) -> u64 {
        self.say("/state");
        self.hear("state_report");
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") * 1024
    }

    fn end(mut self) {
        drop(self.input);
        assert_eq!(self.child.wait().expect("its end").code(), Some(0));
    }
}

/// 128 experts of 768 KiB: 96 MiB, of random weights, which do not know when to stop.
fn synth(folder: &Path) -> PathBuf {
    let store = folder.join("store");
    let made = sage(&["synth", "--out", store.to_str().expect("a path")])
        .args([
            "--layers",
            "2",
            "--vocab",
            "1024",
            "--hidden",
            "256",
            "--experts",
            "64",
        ])
        .args([
            "--moe-intermediate",
            "512",
            "--heads",
            "4",
            "--kv-heads",
            "2",
            "--head-dim",
            "64",
        ])
        .output()
        .expect("sage runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    store
}

/// Memory goes back to the system when the limit falls, and is used again when it rises: read from outside.
#[test]
fn a_limit_gives_memory_back_to_the_system() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let mut talk = Talk::with(
        &synth(folder.path()),
        &["--max-tokens", "24", "--limit", "128slots"],
    );
    let question = "what is it that the sea says to the ships at night, and who has heard it?";
    talk.say(question);
    let wide = talk.resident_bytes();
    talk.say("/limit 8slots");
    let limit = talk.hear("limit");
    let narrow = talk.resident_bytes();
    let expert = 768 << 10;
    let pool = limit["pool_bytes_before"].as_u64().expect("bytes");
    assert!(pool >= 128 * expert, "{limit}");
    // Wake holds half of the pool beyond a window of 16.
    assert!(
        wide > narrow + 24 * MIB,
        "{} MiB before, {} MiB under the smaller limit",
        wide / MIB,
        narrow / MIB
    );
    talk.say("/limit none");
    talk.say(question);
    let again = talk.resident_bytes();
    assert!(
        again > narrow + 24 * MIB,
        "{} MiB, {} MiB",
        again / MIB,
        narrow / MIB
    );
    talk.end();
}

/// Ctrl-C breaks an answer off, and nothing else: what was said of it stays, and the conversation goes on.
#[test]
fn an_interrupt_ends_the_answer_and_not_the_conversation() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--max-tokens", "1500", "--context", "4096"];
    let mut talk = Talk::with(&synth(folder.path()), &options);
    talk.say("go on and on");
    talk.hear("token");
    let pid = rustix::process::Pid::from_child(&talk.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let answer = talk.hear("answer");
    assert_eq!(answer["ended"], "interrupted");
    assert!(number(&answer["tokens"]) < 1500.0);
    talk.say("/state");
    let state = talk.hear("state_report");
    assert_eq!(state["turns"], 1);
    talk.say("/limit none");
    talk.hear("limit");
    talk.end();
}

/// `/limit` alone says what is in force; a number without its unit is asked for it.
#[test]
fn the_limit_is_shown_and_wants_a_unit() {
    let lines = "/limit\n/limit 40\n/limit 300slots\n/limit\n";
    let events = events(lines, &["--limit", "60slots"]);
    let shown = of(&events, "limit_report");
    assert_eq!(shown[0]["limit_reason"], "as it was asked for");
    assert_eq!(
        number(&shown[0]["floor_bytes"]) + number(&shown[0]["pool_bytes"]),
        number(&shown[0]["limit_bytes"])
    );
    assert!(number(&shown[1]["limit_bytes"]) > number(&shown[0]["limit_bytes"]));
    let refused = of(&events, "refused");
    assert_eq!(refused.len(), 1);
    let message = refused[0]["message"].as_str().expect("why");
    assert!(message.contains("`40` has no unit"), "{message}");
    assert!(
        message.contains("40MiB") && message.contains("40slots"),
        "{message}"
    );
    let said = text(&chat("/limit\n", &["--limit", "60slots"]).stdout);
    for words in ["limit    ", "MiB, as it was asked for", "floor ", "pool "] {
        assert!(said.contains(words), "{said}");
    }
}
