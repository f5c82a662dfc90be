//! Every committed scenario as a user runs it: sound, its expectations met, the same every time; and every state is
//! entered and left by what is measured, none by what a script calls urgent.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::common::runs::{events, failed, run, scenarios, without_timings};
use serde_json::Value;

const STATES: [&str; 6] = ["wake", "focus", "rest", "dream", "threat", "depletion"];

/// Every scenario with its events, run once for all tests.
fn runs() -> &'static [(PathBuf, Vec<Value>)] {
    static RUNS: OnceLock<Vec<(PathBuf, Vec<Value>)>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let one = |path: PathBuf| {
            let (output, events) = run(&path, &[]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(failed(&events), Vec::<&str>::new(), "{}", path.display());
            assert_eq!(output.status.code(), Some(0), "{}: {said}", path.display());
            (path, events)
        };
        scenarios().into_iter().map(one).collect()
    })
}

#[test]
fn every_scenario_meets_its_expectations_twice_alike() {
    for (path, once) in runs() {
        let path = path.as_path();
        let expectations = once.iter().filter(|event| event["type"] == "expectation");
        assert!(
            expectations.count() > 0,
            "{} expects nothing",
            path.display()
        );
        let once = without_timings(once);
        let again = without_timings(&events(path, &["--threads", "1"]));
        for (once, again) in once.iter().zip(&again) {
            assert_eq!(once, again, "{}", path.display());
        }
        assert_eq!(once.len(), again.len(), "{}", path.display());
    }
}

#[test]
fn every_state_is_entered_and_left_without_a_declared_urgency() {
    let (mut entered, mut left) = (BTreeSet::new(), BTreeSet::new());
    for (_, events) in runs() {
        let declared = |event: &Value| event["urgency"].as_f64().unwrap_or_default() > 0.0;
        let mut observations = events.iter().filter(|event| event["type"] == "observation");
        if observations.any(declared) {
            continue;
        }
        for change in events.iter().filter(|event| event["type"] == "state") {
            let name = |key: &str| change[key].as_str().expect("a state").to_owned();
            entered.insert(name("to"));
            left.insert(name("from"));
        }
    }
    for state in STATES {
        assert!(entered.contains(state), "{state} is never entered");
        assert!(left.contains(state), "{state} is never left");
    }
}

/// An alarm in the night wakes from Dream; without it, and without the freezer that leaves its range, SAGE sleeps on.
#[test]
fn the_night_is_ended_by_its_alarm() {
    let path = crate::common::runs::root().join("scenarios/quiet-night.toml");
    let of_dream = |events: &[Value], key: &str| -> Vec<Value> {
        let changes = events.iter().filter(|event| event["type"] == "state");
        changes
            .filter(|event| event[key] == "dream")
            .cloned()
            .collect()
    };
    let (_, woken) = runs().iter().find(|(run, _)| *run == path).expect("it ran");
    let first = of_dream(woken, "from")[0].clone();
    assert_eq!(
        (&first["to"], &first["cause"]),
        (&"threat".into(), &"threat".into())
    );
    let text = std::fs::read_to_string(&path).expect("the scenario");
    let mut table: toml::Table = text.parse().expect("TOML");
    let quiet = table["observe"].as_array_mut().expect("observations");
    let alarm = quiet.len() - 2;
    quiet.truncate(alarm);
    table.remove("expect");
    let quiet = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-alarm-at-night.toml");
    std::fs::write(&quiet, toml::to_string(&table).expect("TOML")).expect("written");
    let slept = events(&quiet, &[]);
    assert_eq!(
        of_dream(&slept, "to")[0]["tick"],
        of_dream(woken, "to")[0]["tick"]
    );
    let left = of_dream(&slept, "from");
    assert!(left.iter().all(|change| change["to"] == "rest"), "{left:?}");
}
