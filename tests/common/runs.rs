//! Scenarios as a user runs them, with the events that come of it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every committed scenario.
pub fn scenarios() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("scenarios")).expect("scenarios");
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// Runs `sage` in the repository; the store of its model is made in a folder of the tests.
pub fn sage(arguments: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(root())
        .env("SAGE_CACHE", cache)
        .args(arguments)
        .output()
        .expect("sage runs")
}

/// Runs a command to its end, with these lines as its whole input.
pub fn typed(command: &mut Command, lines: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sage runs");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(lines.as_bytes()).expect("written");
    drop(stdin);
    child.wait_with_output().expect("its end")
}

/// What it complained of.
pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a scenario with `--json`.
pub fn run(scenario: &Path, more: &[&str]) -> (Output, Vec<Value>) {
    let run = ["run", scenario.to_str().expect("a path"), "--json"];
    let output = sage(&[&run, more].concat());
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let events = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect();
    (output, events)
}

/// Runs it and insists on an end without an error.
pub fn events(scenario: &Path, more: &[&str]) -> Vec<Value> {
    let (output, events) = run(scenario, more);
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 1)),
        "exit {code:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    events
}

/// The last event.
pub fn summary(events: &[Value]) -> &Value {
    let last = events.last().expect("events");
    assert_eq!(last["type"], "summary");
    last
}

/// What was read for a purpose, by a summary's or a report's `read_bytes`, whose parts add up.
pub fn read_for(report: &Value, purpose: &str) -> u64 {
    let parts = report["read_bytes"].as_object().expect("what was read");
    let sum: u64 = parts
        .iter()
        .filter(|(name, _)| *name != "total")
        .map(|(_, bytes)| bytes.as_u64().expect("bytes"))
        .sum();
    assert_eq!(parts["total"], sum, "{parts:?}");
    parts[purpose].as_u64().expect("bytes")
}

/// The states that were entered, in order.
pub fn states(events: &[Value]) -> Vec<&str> {
    let changes = events.iter().filter(|event| event["type"] == "state");
    changes.filter_map(|event| event["to"].as_str()).collect()
}

/// The expectations that were not met, in words.
pub fn failed(events: &[Value]) -> Vec<&str> {
    let expectations = events.iter().filter(|event| event["type"] == "expectation");
    expectations
        .filter(|event| event["met"] == false)
        .filter_map(|event| event["text"].as_str())
        .collect()
}

/// Everything but what the clock and the system say.
pub fn without_timings(events: &[Value]) -> Vec<Value> {
    let mut events = events.to_vec();
    for event in &mut events {
        let Some(event) = event.as_object_mut() else {
            continue;
        };
        event.remove("peak_rss_bytes");
        // What is read ahead, and what of it is cancelled, is a matter of moments.
        event.remove("read_bytes");
        event.remove("kernel_read_bytes");
        let limits = event.get_mut("limits").and_then(Value::as_array_mut);
        for period in limits.into_iter().flatten() {
            let period = period.as_object_mut().expect("a period");
            period.remove("peak_rss_bytes");
        }
        let states = event.get_mut("states").and_then(Value::as_object_mut);
        for (_, state) in states.into_iter().flatten() {
            state
                .as_object_mut()
                .expect("a state")
                .remove("tokens_per_second");
        }
    }
    events
}

/// A route trace of a model's shape with two experts a token: of so many tokens of a prompt, and so many of an answer.
pub fn route_trace(model: &Path, prompt: usize, answer: usize) -> String {
    let config = std::fs::read(model.join("config.json")).expect("a configuration");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let text = &config["thinker_config"]["text_config"];
    let number = |key: &str| text[key].as_u64().expect("a number") as usize;
    let (layers, experts) = (number("num_hidden_layers"), number("num_experts"));
    let mut lines = format!("# n_layer={layers} n_expert={experts}\nphase,step,layer,expert\n");
    for (phase, tokens) in [(0, prompt), (1, answer)] {
        for token in 0..tokens {
            for layer in 0..layers {
                for slot in 0..2 {
                    // A few experts more often than others.
                    let expert =
                        (token * token + 7 * token / 3 + 5 * layer + 3 * slot) % (experts / 2);
                    lines += &format!("{phase},{token},{layer},{expert}\n");
                }
            }
        }
    }
    lines
}
