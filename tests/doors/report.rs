//! `sage run --report`, run as a user runs it: the page and the data say what the events said.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;

const SCENARIO: &str = "scenarios/wake-focus-crisis.toml";

struct Run {
    output: Output,
    events: Vec<Value>,
    page: String,
    data: Value,
}

fn tmp() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn sage(scenario: &Path, folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("SAGE_CACHE", tmp().join("cache"))
        .arg("run")
        .arg(scenario)
        .arg("--report")
        .arg(folder)
        .args(more)
        .output()
        .expect("sage runs")
}

/// Runs a scenario into a fresh folder, and reads everything that came of it.
fn run(scenario: &Path, name: &str, more: &[&str]) -> Run {
    let folder = tmp().join(name);
    let _ = fs::remove_dir_all(&folder);
    let output = sage(scenario, &folder, more);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{stderr}");
    let lines = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let json = more.contains(&"--json");
    let events = lines.lines().filter(|_| json).map(|line| {
        let event: Value = serde_json::from_str(line).expect("an event a line");
        event
    });
    let events = events.collect();
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a report");
    let left: Vec<_> = fs::read_dir(&folder).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 2, "nothing but the report is left: {left:?}");
    Run {
        events,
        page: read("report.html"),
        data: serde_json::from_str(&read("report.json")).expect("JSON"),
        output,
    }
}

fn script(name: &str, text: &str) -> PathBuf {
    let path = tmp().join(name);
    fs::write(&path, text).expect("written");
    path
}

/// The scenario of the README, run once for several tests.
static COMMITTED: LazyLock<Run> =
    LazyLock::new(|| run(Path::new(SCENARIO), "report-committed", &["--json"]));

fn of<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["type"] == kind)
}

fn sum(values: &Value) -> u64 {
    let values = values.as_array().expect("a series");
    values
        .iter()
        .map(|value| value.as_u64().expect("a count"))
        .sum()
}

fn total(events: &[Value], kind: &str, key: &str) -> u64 {
    of(events, kind)
        .map(|event| event[key].as_u64().expect("a count"))
        .sum()
}

#[test]
fn the_data_agrees_with_the_events() {
    let Run { events, data, .. } = &*COMMITTED;
    let summary = events.last().expect("events");
    assert_eq!(summary["type"], "summary", "the summary is the last event");
    assert_eq!(data["ticks"], summary["tick"]);
    assert_eq!(data["resolution"]["events"], events.len());
    for (key, kind, of_event) in [
        ("hits", "cache", "hits"),
        ("misses", "cache", "misses"),
        ("bytes_read", "cache", "bytes_read"),
        ("denied_experts", "denied", "experts"),
        ("read_tokens", "read", "tokens"),
    ] {
        let expected = total(events, kind, of_event);
        assert!(expected > 0, "nothing in {key}");
        assert_eq!(data["totals"][key], expected, "{key}");
        assert_eq!(sum(&data["series"][key]), expected, "{key} over time");
    }
    assert_eq!(data["totals"]["bytes_read"], summary["bytes_read"]);
    let read = &data["measured"]["read_bytes"];
    assert_eq!(*read, summary["read_bytes"]);
    assert!(
        read["prefetch"].as_u64() > Some(0),
        "Focus reads ahead: {read}"
    );
    assert!(read["total"].as_u64() > read["demand"].as_u64(), "{read}");
    let mode = of(events, "mode").next().expect("a mode");
    assert_eq!(data["mode"]["text"], mode["text"]);
    let verdicts: Vec<_> = of(events, "expectation")
        .map(|e| (&e["text"], &e["met"]))
        .collect();
    let told = data["expectations"]
        .as_array()
        .expect("expectations")
        .iter();
    let told: Vec<_> = told
        .map(|verdict| (&verdict["text"], &verdict["met"]))
        .collect();
    assert_eq!(told, verdicts);
}

#[test]
fn states_over_time_are_those_of_the_events() {
    let Run { events, data, .. } = &*COMMITTED;
    let changes = |values: Vec<&Value>| -> Vec<String> {
        let one = |c: &&Value| format!("{} {} {} {}", c["tick"], c["from"], c["to"], c["cause"]);
        values.iter().map(one).collect()
    };
    let told = changes(
        data["changes"]
            .as_array()
            .expect("changes")
            .iter()
            .collect(),
    );
    assert!(told.len() > 4, "{told:?}");
    assert_eq!(told, changes(of(events, "state").collect()));
    assert_eq!(data["resolution"]["bin_ticks"], 1, "tick by tick");
    let mut ticks = BTreeMap::new();
    for state in data["series"]["state"].as_array().expect("states") {
        *ticks
            .entry(state.as_str().expect("a name").to_owned())
            .or_insert(0) += 1;
    }
    let summary = events.last().expect("events");
    for (name, state) in summary["states"].as_object().expect("states") {
        assert_eq!(data["states"][name]["ticks"], state["ticks"], "{name}");
        // What ends the run may stand at its last tick, in a bin that no tick fills.
        let counted: u64 = ticks.get(name).copied().unwrap_or(0);
        let summed = state["ticks"].as_u64().expect("ticks");
        assert!(
            counted.abs_diff(summed) <= 1,
            "{name}: {counted} drawn, {summed} summed"
        );
    }
    // Where a tick has one step, it shows what that step felt; in single precision.
    let mut felt = BTreeMap::<u64, Vec<&Value>>::new();
    for event in of(events, "salience") {
        let tick = event["tick"].as_u64().expect("a tick");
        felt.entry(tick).or_default().push(event);
    }
    let single: Vec<_> = felt.iter().filter(|(_, steps)| steps.len() == 1).collect();
    assert!(single.len() > 100, "{} ticks", single.len());
    for (tick, steps) in single {
        for key in ["surprise", "arousal", "reward", "drive", "atp"] {
            let shown = data["series"][key][*tick as usize].as_f64();
            let (shown, was) = shown.zip(steps[0][key].as_f64()).expect("numbers");
            assert!(
                (shown - was).abs() < 1e-4,
                "{key} at tick {tick}: {shown} shown, {was} felt"
            );
        }
    }
}

#[test]
fn every_token_and_every_answer_is_accounted_for() {
    let Run { events, data, .. } = &*COMMITTED;
    let told = of(events, "experts").next().expect("the experts");
    for key in ["layers", "experts", "domains"] {
        assert_eq!(data["experts"][key], told[key]);
    }
    let domains = told["domains"].as_array().expect("domains");
    let sources: Vec<_> = domains
        .iter()
        .filter_map(|d| d["source"].as_str())
        .collect();
    assert_eq!(sources, ["book", "visitor", "libro", "watch"]);
    let states = events.last().expect("events")["states"]
        .as_object()
        .expect("states");
    let tokens: u64 = states
        .values()
        .filter_map(|state| state["tokens"].as_u64())
        .sum();
    let counted: u64 = domains.iter().filter_map(|d| d["tokens"].as_u64()).sum();
    assert_eq!(counted, tokens, "tokens of all domains and of all states");
    for domain in domains {
        for layer in domain["worked"].as_array().expect("layers") {
            let least = 4 * domain["tokens"].as_u64().expect("tokens");
            assert!(sum(layer) >= least, "at least four experts work on a token");
        }
    }
    let answers = of(events, "answer").count() as u64;
    let judged: Vec<_> = data["timeline"]
        .as_array()
        .expect("a time line")
        .iter()
        .filter(|entry| entry["kind"] == "answer")
        .map(|entry| (entry["text"] == entry["expected"], entry["right"] == true))
        .collect();
    assert_eq!(judged.len() as u64, answers);
    assert!(
        judged.iter().all(|(same, right)| same == right),
        "{judged:?}"
    );
    let (right, wrong) = (
        &data["totals"]["answers_right"],
        &data["totals"]["answers_wrong"],
    );
    assert_eq!(
        right.as_u64().zip(wrong.as_u64()).map(|(r, w)| r + w),
        Some(answers)
    );
}

#[test]
fn the_page_shows_what_the_data_holds_and_loads_nothing() {
    let Run {
        page, data, output, ..
    } = &*COMMITTED;
    balanced(page);
    for load in [
        "http://", "https://", " src=", "<link", "@import", "url(", "<iframe",
    ] {
        assert!(!page.contains(load), "the page loads: {load}");
    }
    let count = |text: &str| page.matches(text).count() as u64;
    let met = data["totals"]["expectations_met"]
        .as_u64()
        .expect("a count");
    assert_eq!(count("<li class=\"met\">"), met);
    let changes = data["changes"].as_array().expect("changes");
    assert_eq!(count("<g class=\"change\">"), changes.len() as u64);
    for change in changes {
        let tick = change["tick"].as_u64().expect("a tick");
        let (from, to) = (change["from"].as_str(), change["to"].as_str());
        let (from, to) = from.zip(to).expect("states");
        assert!(page.contains(&format!("tick {tick}: {from} to {to}, because ")));
    }
    let total = data["measured"]["read_bytes"]["total"].as_u64();
    let total = sage::input::human_bytes(total.expect("bytes"));
    assert!(page.contains(&format!("<dt>read from disk</dt><dd>{total}<")));
    let domains = data["experts"]["domains"].as_array().expect("domains");
    assert_eq!(count("<figure class=\"map\">"), domains.len() as u64);
    for entry in data["timeline"].as_array().expect("a time line") {
        let Some(text) = entry["text"].as_str() else {
            continue;
        };
        let first = text.split_whitespace().next().expect("a word");
        assert!(page.contains(first), "{first}");
    }
    // What the script reads is JSON, and the same numbers.
    let read = page
        .split("id=\"data\">")
        .nth(1)
        .and_then(|rest| rest.split("</script>").next());
    let read: Value = serde_json::from_str(read.expect("data")).expect("JSON");
    assert_eq!(read["series"]["read"], data["series"]["bytes_read"]);
    assert_eq!(read["series"]["state"], data["series"]["state"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("report.html"), "says where it is: {stderr}");
}

#[test]
fn two_runs_differ_in_what_is_measured_only() {
    let again = run(
        Path::new(SCENARIO),
        "report-again",
        &["--json", "--threads", "1"],
    );
    let without = |data: &Value| {
        let mut data = data.clone();
        let measured = data
            .as_object_mut()
            .and_then(|data| data.remove("measured"));
        assert!(measured.expect("measured")["peak_rss_bytes"].as_u64() > Some(0));
        data
    };
    assert_eq!(without(&again.data), without(&COMMITTED.data));
}

/// What comes from outside is text, never markup; and a report of a run that failed its expectations is a report.
#[test]
fn texts_are_escaped_and_a_failure_is_reported() {
    let hostile = r#"</script><script>alert("1")</script> <img src=x onerror='x'> & so on"#;
    let path = script(
        "report-hostile.toml",
        &format!(
            r#"
            name = {0}
            description = {0}
            ticks = 8
            answer_tokens = 4
            [[observe]]
            at = 0
            kind = "text"
            source = {0}
            text = {0}
            [[observe]]
            at = 4
            kind = "question"
            source = {0}
            text = {0}
            expect = {0}
            [[expect]]
            never = ["wake"]
            "#,
            toml::Value::from(hostile)
        ),
    );
    let run = run(&path, "report-hostile", &["--json"]);
    assert_eq!(run.output.status.code(), Some(1));
    balanced(&run.page);
    assert!(!run.page.contains("alert(\"1\")") && !run.page.contains("<img"));
    assert_eq!(run.page.matches("<script").count(), 2, "the page's own");
    assert!(run.page.matches("&lt;script&gt;alert(").count() >= 5);
    assert!(run.page.matches("<li class=\"failed\">").count() == 2);
    assert!(run.page.contains("</span> wrong</span>"));
    assert_eq!(run.data["totals"]["answers_wrong"], 1);
    assert_eq!(run.data["timeline"][0]["text"], hostile);
}

/// A long run in which nothing happens: few bins, and words where there is nothing to draw. Lines go on as without it.
#[test]
fn a_long_and_empty_run_has_a_report() {
    let path = script("report-empty.toml", "name = \"nothing\"\nticks = 3000\n");
    let run = run(&path, "report-empty", &[]);
    assert_eq!(run.output.status.code(), Some(0));
    balanced(&run.page);
    for words in [
        "Nothing came in, and nothing was said.",
        "no expert worked",
        "Nothing was denied",
        "The run had no limit",
        "The scenario expects nothing",
        "each point stands for 4 ticks",
    ] {
        assert!(run.page.contains(words), "{words}");
    }
    let states = run.data["series"]["state"].as_array().expect("states");
    assert_eq!(
        (states.len(), &run.data["resolution"]["bin_ticks"]),
        (750, &Value::from(4))
    );
    assert!(states.iter().any(|state| state == "rest"));
    let stdout = String::from_utf8_lossy(&run.output.stdout);
    assert!(stdout.contains("0 expectations met"), "{stdout}");
}

#[test]
fn a_folder_that_cannot_be_is_refused_before_the_run() {
    let file = script("report-file", "not a folder");
    let taken = tmp().join("report-taken");
    fs::create_dir_all(taken.join("report.html")).expect("a folder");
    for (folder, why) in [
        (file.clone(), "this is a file"),
        (file.join("below"), "cannot write there"),
        (taken, "report.html in it is a folder"),
    ] {
        let output = sage(Path::new(SCENARIO), &folder, &["--json"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains("--report") && stderr.contains(why),
            "{stderr}"
        );
        assert!(output.stdout.is_empty(), "nothing ran");
    }
    assert_eq!(fs::read_to_string(file).expect("the file"), "not a folder");
}

/// Every element that is opened is closed, in order; attributes are quoted. What stands in scripts and styles is theirs.
fn balanced(page: &str) {
    let void = ["meta", "br", "hr", "img", "input", "link"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let shown: String = rest[at..].chars().take(120).collect();
        let mut quoted = false;
        let end = rest[at..].find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let tag = &rest[at + 1..at + end.unwrap_or_else(|| panic!("no end: {shown}"))];
        rest = &rest[at + tag.len() + 2..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "at {shown}");
            continue;
        }
        let name = tag.split([' ', '\n', '/']).next().expect("a name");
        if tag.starts_with('!') || tag.ends_with('/') || void.contains(&name) {
            continue;
        }
        open.push(name);
        if matches!(name, "script" | "style") {
            rest = &rest[rest.find(&format!("</{name}>")).expect("an end")..];
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    let mut ids: Vec<_> = page
        .split(" id=\"")
        .skip(1)
        .map(|rest| rest.split('"').next())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id stands twice");
}
