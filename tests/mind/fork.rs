//! What one event or setting changed: a recording goes another way from a tick on.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;

use serde_json::Value;

use crate::common::runs::{complaint, sage};

const SCENARIO: &str = "scenarios/wake-focus-crisis.toml";

/// A recording of the scenario, and its inputs: (tick, number, kind of request).
fn recorded(folder: &Path) -> (String, Vec<(u64, u64, String)>) {
    let trace = folder
        .join("run.trace")
        .to_str()
        .expect("a path")
        .to_owned();
    let output = sage(&[
        "run",
        SCENARIO,
        "--model",
        "models/tiny",
        "--record",
        &trace,
    ]);
    assert!(output.status.success(), "{}", complaint(&output));
    let lines = std::fs::read_to_string(&trace).expect("a recording");
    let inputs = lines.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let event = &line["event"];
        let of = |key: &str| event[key].as_u64();
        (event["type"] == "input").then(|| {
            let observation = event["observation"].to_string();
            Some((of("tick")?, of("id")?, observation))
        })?
    });
    (trace, inputs.collect())
}

fn fork(trace: &str, more: &[&str]) -> Value {
    let fork = ["replay", trace, "--model", "models/tiny", "--json"];
    let output = sage(&[&fork[..], more].concat());
    assert!(output.status.success(), "{more:?}: {}", complaint(&output));
    serde_json::from_slice(&output.stdout).expect("one object")
}

fn states(outcome: &Value) -> Vec<&str> {
    let states = outcome["states"].as_array().expect("a list");
    let state = |entered: &Value| entered["state"].as_str().map(str::to_owned);
    states
        .iter()
        .filter(|entered| state(entered).is_some())
        .filter_map(|entered| entered["state"].as_str())
        .collect()
}

#[test]
fn one_event_or_setting_is_changed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (trace, inputs) = recorded(folder.path());
    let alarm = inputs.iter().find(|(.., what)| what.contains("alarm"));
    let (tick, id, _) = alarm.expect("an alarm");
    let (tick, id) = (tick.to_string(), id.to_string());

    // What is set to what it was changes nothing, and the fork itself neither.
    let same = fork(
        &trace,
        &["--fork", &tick, "--set", "mind.budgets.wake.f=0.5"],
    );
    assert_eq!(same["recorded"], same["forked"]);
    assert_eq!(same["whole"], true);
    assert!(states(&same["recorded"]).contains(&"threat"), "{same}");

    // Without the alarm there is no Threat and no answer to it.
    let without = fork(&trace, &["--fork", &tick, "--drop", &id]);
    assert_eq!(without["recorded"], same["recorded"]);
    assert!(!states(&without["forked"]).contains(&"threat"), "{without}");
    assert!(without["recorded"]["answers"].get(&id).is_some());
    assert!(without["forked"]["answers"].get(&id).is_none());
    assert_eq!(without["dropped"][0]["kind"], "alarm");

    // A Threat with fewer experts misses less; before the fork everything was the same.
    let set = ["mind.budgets.threat.f=0.25", "mind.budgets.focus.f=0.25"];
    let cheap = fork(&trace, &["--fork", &tick, "--set", set[0], "--set", set[1]]);
    let bytes = |of: &Value| of["miss_bytes"].as_u64().expect("bytes");
    assert!(
        bytes(&cheap["forked"]) < bytes(&cheap["recorded"]),
        "{cheap}"
    );
    assert_eq!(cheap["set"], serde_json::json!(set));

    // From the beginning anything can be set.
    let exact = fork(&trace, &["--fork", "0", "--set", "mind.routing=exact"]);
    assert_ne!(exact["recorded"], exact["forked"]);

    for (more, said) in [
        (&["--fork", "0", "--drop", "999"][..], "no such observation"),
        (
            &["--fork", "99999", "--set", "mind.budgets.wake.f=1"],
            "fork at an earlier tick",
        ),
        (
            &["--fork", "9", "--set", "mind.routing=exact"],
            "fork at tick 0",
        ),
        (&["--fork", "9", "--set", "mind.budgets.wake.g=1"], "hint"),
        (&["--fork", "9"], "--drop"),
        (&["--drop", "1"], "--fork"),
    ] {
        let arguments = ["replay", &trace, "--model", "models/tiny"];
        let output = sage(&[&arguments[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(
            complaint(&output).contains(said),
            "{more:?}: {}",
            complaint(&output)
        );
    }
    let late = (tick.parse::<u64>().expect("a number") + 1).to_string();
    let output = sage(&[
        "replay",
        &trace,
        "--model",
        "models/tiny",
        "--fork",
        &late,
        "--drop",
        &id,
    ]);
    assert!(
        complaint(&output).contains("before the fork"),
        "{}",
        complaint(&output)
    );
}
