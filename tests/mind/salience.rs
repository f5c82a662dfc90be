//! Salience on the committed text: it reacts where the domain changes, and lets a text run on.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};

use crate::common::runs::{root, sage};
use serde_json::Value;

const SCENARIO: &str = "scenarios/change-of-domain.toml";

/// The first characters of a held-out text, in a file of its own.
fn beginning(folder: &Path, domain: &str) -> String {
    let text = root().join(format!("models/tiny/heldout/{domain}.txt"));
    let text = std::fs::read_to_string(text).expect("held-out text");
    let path = folder.join(format!("{domain}.txt"));
    let beginning: String = text.chars().take(5_500).collect();
    std::fs::write(&path, beginning).expect("written");
    path.to_str().expect("a path").to_owned()
}

/// The bounds are generous: what the whole of the text gives stands in the README. But a surprise that no longer tells
/// domains apart, or that is as great inside one, fails.
#[test]
fn a_cut_surprises_and_the_run_of_a_text_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = ["kjv", "python"].map(|domain| beginning(folder.path(), domain));
    let arguments = [
        "salience",
        "models/tiny",
        "--text",
        &texts[0],
        &texts[1],
        "--cuts",
        "2",
        "--before",
        "11",
        "--after",
        "2",
        "--json",
    ];
    let output = sage(&arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let share = |name: &str| report[name]["value"].as_f64().expect("a share");
    assert!(
        report["inside_surprised"]["of"].as_u64() >= Some(30),
        "{report}"
    );
    assert!(share("inside_surprised") <= 0.2, "{report}");
    assert!(share("inside_focus") <= 0.1, "{report}");
    assert_eq!(report["cut_surprised"]["of"], 4);
    assert!(share("cut_surprised") >= 0.75, "{report}");
    assert!(share("cut_focus") >= 0.5, "{report}");
    let mean = |cuts: &[Value], name: &str| {
        let means = cuts
            .iter()
            .map(|cut| cut["mean"][name].as_f64().expect("a mean"));
        means.sum::<f64>() / cuts.len() as f64
    };
    let cuts = report["cuts"].as_array().expect("cuts").clone();
    let (control, changed): (Vec<Value>, Vec<Value>) =
        cuts.into_iter().partition(|cut| cut["from"] == cut["to"]);
    for name in ["surprise", "novelty", "drive"] {
        assert!(
            mean(&changed, name) > mean(&control, name) + 0.2,
            "{name}: {report}"
        );
    }
}

#[test]
fn a_text_that_is_too_short_is_refused_with_what_would_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("short.txt");
    std::fs::write(&path, "Too short. ").expect("written");
    let output = sage(&[
        "salience",
        "models/tiny",
        "--text",
        path.to_str().expect("a path"),
    ]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("expected at least"), "{complaint}");
}

/// The events of a scenario, and whether all that it expects came true.
fn played(scenario: &Path) -> (Vec<Value>, bool) {
    let output = sage(&["run", scenario.to_str().expect("a path"), "--json"]);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let events = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"));
    (events.collect(), output.status.code() == Some(0))
}

/// Ticks at which Focus was entered by drive.
fn driven_to_focus(events: &[Value]) -> Vec<u64> {
    let changes = events
        .iter()
        .filter(|event| event["type"] == "state" && event["to"] == "focus");
    changes
        .filter(|change| change["cause"] == "drive")
        .filter_map(|change| change["tick"].as_u64())
        .collect()
}

/// The tick at which the code begins.
fn cut(table: &toml::Table) -> u64 {
    let observations = table["observe"].as_array().expect("observations");
    let code = observations
        .iter()
        .find(|entry| entry.get("source").and_then(toml::Value::as_str) == Some("code"));
    let at = code.and_then(|entry| entry["at"].as_integer());
    at.and_then(|at| u64::try_from(at).ok())
        .expect("the code begins")
}

fn scenario() -> toml::Table {
    let text = std::fs::read_to_string(root().join(SCENARIO)).expect("the scenario");
    text.parse().expect("TOML")
}

#[test]
fn a_change_of_domain_alone_leads_to_focus() {
    let table = scenario();
    for entry in table["observe"].as_array().expect("observations") {
        assert!(
            entry.get("urgency").is_none(),
            "{entry} declares an urgency"
        );
    }
    let (events, met) = played(Path::new(SCENARIO));
    let failed: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "expectation" && event["met"] == false)
        .collect();
    assert!(met, "{failed:?}");
    let driven = driven_to_focus(&events);
    assert!(
        driven.iter().any(|tick| *tick > cut(&table)),
        "Focus was entered by drive at {driven:?}"
    );
}

/// The same with more of the book in place of the code: it is asked for attention by nothing, and gives none.
#[test]
fn without_the_change_the_book_goes_on_unheeded() {
    let mut table = scenario();
    let book = std::fs::read_to_string(root().join("models/tiny/heldout/kjv.txt")).expect("text");
    let mut words = book.split_inclusive(' ').skip(700);
    for entry in table["observe"].as_array_mut().expect("observations") {
        let entry = entry.as_table_mut().expect("a table");
        if entry["source"].as_str() == Some("code") {
            let more: String = words.by_ref().take(32).collect();
            entry.insert("text".into(), more.trim_end().into());
            entry.insert("source".into(), "book".into());
        }
    }
    table.remove("expect");
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-change.toml");
    std::fs::write(&path, toml::to_string(&table).expect("TOML")).expect("written");
    let (events, _) = played(&path);
    assert_eq!(driven_to_focus(&events), Vec::<u64>::new());
}
