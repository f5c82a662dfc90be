//! The scenario of the README, run as a user runs it, on the model in the repository.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};

use crate::common::runs::{complaint, events, failed, root, run, sage, states, summary};
use crate::common::scramble::scramble;
use serde_json::Value;

const SCENARIO: &str = "scenarios/wake-focus-crisis.toml";

/// The scenario with its text changed, beside the tests' own files.
fn changed(name: &str, change: impl FnOnce(toml::Table) -> toml::Table) -> PathBuf {
    let text = std::fs::read_to_string(root().join(SCENARIO)).expect("the scenario");
    let table = change(text.parse().expect("TOML"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, toml::to_string(&table).expect("TOML")).expect("written");
    path
}

fn observations(table: &mut toml::Table) -> &mut Vec<toml::Value> {
    table["observe"].as_array_mut().expect("observations")
}

#[test]
fn every_expectation_is_met() {
    let (output, events) = run(Path::new(SCENARIO), &[]);
    assert_eq!(failed(&events), Vec::<&str>::new());
    assert_eq!(output.status.code(), Some(0));
    let summary = summary(&events);
    assert!(summary["expectations_met"].as_u64() >= Some(5), "{summary}");
    assert!(
        summary["peak_rss_bytes"].as_u64() <= summary["limit_bytes"].as_u64(),
        "{summary}"
    );
    for state in ["wake", "focus", "threat"] {
        assert!(
            summary["states"][state]["tokens"].as_u64() > Some(0),
            "nothing was done in {state}: {summary}"
        );
    }
}

#[test]
fn without_the_alarm_there_is_no_crisis() {
    let path = changed("no-alarm.toml", |mut table| {
        let before = observations(&mut table).len();
        observations(&mut table).retain(|entry| entry["kind"].as_str() != Some("alarm"));
        assert_eq!(observations(&mut table).len() + 1, before);
        table
    });
    let events = events(&path, &[]);
    let crises = ["threat", "depletion"];
    assert!(
        !states(&events).iter().any(|state| crises.contains(state)),
        "{:?}",
        states(&events)
    );
    assert!(states(&events).contains(&"focus"));
}

#[test]
fn half_the_limit_reads_more_bytes() {
    let bytes = |more: &[&str]| {
        let events = events(Path::new(SCENARIO), more);
        summary(&events)["bytes_read"].as_u64().expect("bytes")
    };
    let (whole, half) = (bytes(&[]), bytes(&["--limit", "48slots"]));
    assert!(
        half > whole,
        "{half} bytes at half the limit, {whole} at the whole"
    );
}

/// The answers come from the weights: with every expert's output scrambled the text is a riddle and the answers wrong.
#[test]
fn scrambled_weights_lose_the_text_and_the_answers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scrambled");
    scramble(&root().join("models/tiny"), &folder, |_, _| true);
    let sound = events(Path::new(SCENARIO), &[]);
    let broken = events(
        Path::new(SCENARIO),
        &["--model", folder.to_str().expect("a path")],
    );
    let loss = |events: &[Value]| summary(events)["mean_loss"].as_f64().expect("a loss");
    assert!(
        loss(&broken) > loss(&sound) + 0.3,
        "loss {} scrambled, {} sound",
        loss(&broken),
        loss(&sound)
    );
    let answers = broken
        .iter()
        .filter(|event| event["type"] == "answer")
        .count();
    let wrong = failed(&broken)
        .iter()
        .filter(|text| text.contains("is answered"))
        .count();
    assert!(
        wrong > 0 && wrong * 2 >= answers,
        "only {wrong} of {answers} answers are wrong"
    );
}

/// A reserve that runs out sheds load, whatever is asked; when it is back, so is the answer.
#[test]
fn an_empty_battery_depletes_and_a_full_one_recovers() {
    let path = changed("battery.toml", |table| {
        let script = r#"
            name = "battery"
            ticks = 80
            answer_tokens = 4
            [sensors.battery]
            resolution = 1
            reserve = [0, 100]
            [[observe]]
            at = 6
            kind = "sensor"
            sensor = "battery"
            value = 4
            [[observe]]
            at = 30
            kind = "sensor"
            sensor = "battery"
            value = 90
            [[observe]]
            at = 50
            kind = "question"
            text = "Say the longest word: kitchen, map, forest, rain, bread."
            [[expect]]
            states = ["wake", "crisis", "rest", "wake", "focus"]
        "#;
        drop(table);
        script.parse().expect("TOML")
    });
    let (output, events) = run(&path, &[]);
    assert_eq!(output.status.code(), Some(0), "{:?}", failed(&events));
    let depleted = events
        .iter()
        .find(|event| event["to"] == "depletion")
        .expect("a crisis");
    assert_eq!(
        (&depleted["tick"], &depleted["cause"]),
        (&Value::from(6), &Value::from("exhausted"))
    );
    assert!(events.iter().any(|event| event["type"] == "answer"));
}

/// What a script says is meant: a run without it would be another one.
#[test]
fn a_scripted_question_that_does_not_fit_ends_the_run() {
    let path = changed("too-long.toml", |table| {
        drop(table);
        let script = r#"
            name = "too long"
            ticks = 20
            context_tokens = 24
            answer_tokens = 8
            [[observe]]
            at = 2
            kind = "question"
            text = "Laura lives in London. Peter lives in Dublin. Helen lives in Milan. Where does Helen live?"
        "#;
        script.parse().expect("TOML")
    });
    let (output, events) = run(&path, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("do not fit into the declared context of 24"),
        "{said}"
    );
    let refused = events.iter().find(|event| event["type"] == "refused");
    assert_eq!(refused.expect("an event")["kind"], "question");
}

/// An alarm goes before a question that is being read; the question is then read again from its beginning.
#[test]
fn what_an_alarm_interrupts_is_still_answered_right() {
    let path = changed("interrupted.toml", |mut table| {
        let observations = observations(&mut table);
        observations.retain(|entry| entry["kind"].as_str() != Some("text"));
        let alarm = observations
            .iter()
            .position(|entry| entry["kind"].as_str() == Some("alarm"));
        let mut alarm = observations.remove(alarm.expect("the alarm"));
        let question = observations
            .iter()
            .position(|entry| entry["kind"].as_str() == Some("question"));
        let question = question.expect("a question");
        let asked = observations[question]["at"].as_integer().expect("a tick");
        alarm
            .as_table_mut()
            .expect("a table")
            .insert("at".into(), (asked + 1).into());
        observations.insert(question + 1, alarm);
        table.insert("chunk_tokens".into(), 8.into());
        table.remove("expect");
        table
    });
    let (output, events) = run(&path, &[]);
    assert_eq!(output.status.code(), Some(0), "{:?}", failed(&events));
    let answers: Vec<&str> = events
        .iter()
        .filter(|e| e["type"] == "answer")
        .filter_map(|e| e["text"].as_str())
        .collect();
    assert_eq!(
        answers[..2],
        ["heater", "Milan"],
        "the alarm is answered first"
    );
}

/// Memory that shrinks below what must be there ends the answer that is under way, and comes back.
#[test]
fn shrinking_memory_depletes_and_returning_memory_recovers() {
    let (output, events) = run(Path::new("scenarios/shrinking-memory.toml"), &[]);
    assert_eq!(output.status.code(), Some(0), "{:?}", failed(&events));
    let at = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let ended: Vec<&str> = at("answer").filter_map(|e| e["ended"].as_str()).collect();
    assert_eq!(ended, ["depletion", "stop"]);
    let depleted = at("state").find(|event| event["to"] == "depletion");
    assert_eq!(depleted.expect("a crisis")["cause"], "exhausted");
    let limits: Vec<&Value> = at("limit").collect();
    let lacking: Vec<bool> = limits
        .iter()
        .map(|limit| limit["lacking_bytes"].as_u64() > Some(0))
        .collect();
    assert_eq!(lacking, [false, true, false, false]);
    assert_eq!(limits[1]["pool_bytes"], 0);
    // Each time is judged by its own limit, and takes less under a smaller one.
    let summary = summary(&events);
    let periods = summary["limits"].as_array().expect("periods");
    let peak = |at: usize| periods[at]["peak_rss_bytes"].as_u64().expect("bytes");
    assert_eq!(periods.len(), 5);
    assert!(peak(0) > peak(1) && peak(4) > peak(1), "{periods:?}");
    assert_eq!(periods[2]["covers_floor"], false);
    assert_eq!(summary["limit_bytes"], periods[0]["limit_bytes"]);
}

/// With nothing but a smaller pool, which holds, there is no crisis and the answer is whole.
#[test]
fn memory_that_shrinks_to_the_floor_is_no_crisis() {
    let text = std::fs::read_to_string(root().join("scenarios/shrinking-memory.toml"));
    let text = text.expect("the scenario").replace("1MiB", "0slots");
    let text = text.replace("\"depletion\", \"rest\", \"wake\",", "\"wake\",");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("to-the-floor.toml");
    std::fs::write(&path, text).expect("written");
    let events = events(&path, &[]);
    assert!(
        !states(&events).contains(&"depletion"),
        "{:?}",
        states(&events)
    );
    assert_eq!(failed(&events), Vec::<&str>::new());
}

/// Impatience is measured: what comes in at once is arousal, praise and blame are reward and drive.
#[test]
fn an_impatient_user_arouses_and_is_answered() {
    let (output, events) = run(Path::new("scenarios/impatient-user.toml"), &[]);
    assert_eq!(output.status.code(), Some(0), "{:?}", failed(&events));
    let salience: Vec<&Value> = events.iter().filter(|e| e["type"] == "salience").collect();
    let at = |tick: u64, key: &str| {
        let found = salience
            .iter()
            .rev()
            .find(|e| e["tick"].as_u64() <= Some(tick));
        found
            .and_then(|event| event[key].as_f64())
            .expect("a number")
    };
    // One thing at a time arouses nobody; three at once do.
    let calm = salience.iter().filter(|e| e["tick"].as_u64() < Some(300));
    assert!(
        calm.clone()
            .all(|event| event["arousal"].as_f64() < Some(0.3))
    );
    assert!(at(300, "arousal") > 0.5 && at(510, "arousal") > 0.3);
    assert!(at(221, "reward") > 0.7 && at(304, "reward") < 0.3);
    assert!(at(299, "drive") < at(304, "drive"));
    // It fades: long after the last praise nobody is moved by it.
    assert!(at(642, "reward") > 0.9 && at(699, "reward") < 0.6);
}

/// A text of several chunks of 128 tokens, and something in the middle of one: `more` of the script.
fn long_text(name: &str, more: &str) -> PathBuf {
    let book = std::fs::read_to_string(root().join("models/tiny/heldout/kjv.txt"));
    let text: String = book.expect("held-out text").chars().take(1_400).collect();
    let script = format!(
        "name = \"a long text\"\nticks = 500\ncontext_tokens = 512\nchunk_tokens = 128\n[[observe]]\nat = 0\n\
         kind = \"text\"\nsource = \"book\"\ntext = {}\n{more}",
        toml::Value::from(text)
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, script).expect("written");
    path
}

/// The tick at which a crisis began.
fn threatened(events: &[Value]) -> Option<u64> {
    let threat = events.iter().find(|event| event["to"] == "threat");
    threat.and_then(|event| event["tick"].as_u64())
}

fn tokens_read(events: &[Value]) -> Vec<u64> {
    let read = events.iter().filter(|event| event["type"] == "read");
    read.filter_map(|event| event["tokens"].as_u64()).collect()
}

const WHICH: &str = "motor 77 (60-80)\\nheater 99 (30-80)\\nbattery 73 (60-80)\\nfan 55 (50-70)\\nWhich sensor is out of range?";

#[test]
fn an_alarm_is_heard_within_8_tokens_wherever_a_chunk_stands() {
    for at in [1, 60, 119, 120, 127, 128, 130, 250] {
        let alarm = format!(
            "[[observe]]\nat = {at}\nkind = \"alarm\"\ntext = \"{WHICH}\"\nexpect = \"heater\"\n"
        );
        let path = long_text("alarm-in-a-chunk.toml", &alarm);
        let (output, events) = run(&path, &[]);
        assert_eq!(output.status.code(), Some(0), "{:?}", failed(&events));
        let heard = threatened(&events).expect("a crisis");
        assert!((at..=at + 8).contains(&heard), "{at}: {heard}");
        // Nothing is cut where nothing is gained, and what was interrupted is read to its end.
        let first = if at < 120 { at } else { 128 };
        let read = tokens_read(&events);
        assert_eq!(read[0], first, "{at}: {read:?}");
        assert!(read.iter().sum::<u64>() > 400, "{at}: {read:?}");
    }
}

/// A sensor that leaves its range is a threat like an alarm; one that stays in it interrupts nobody.
#[test]
fn a_reading_out_of_its_range_is_heard_within_8_tokens_too() {
    for (value, heard) in [(95, Some(50)), (71, None)] {
        let reading = format!(
            "[[observe]]\nat = 50\nkind = \"sensor\"\nsensor = \"boiler\"\nvalue = {value}\n\
             [sensors.boiler]\nrange = [40, 90]\nresolution = 1\n"
        );
        let events = events(&long_text("reading-in-a-chunk.toml", &reading), &[]);
        assert_eq!(threatened(&events), heard);
        let read = tokens_read(&events);
        assert_eq!(read[0], heard.unwrap_or(128), "{read:?}");
    }
}

/// No input says where a chunk was cut: a recording does.
#[test]
fn a_chunk_that_was_cut_for_an_alarm_comes_again() {
    let alarm = format!("[[observe]]\nat = 50\nkind = \"alarm\"\ntext = \"{WHICH}\"\n");
    let path = long_text("recorded-alarm.toml", &alarm);
    let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded-alarm.trace");
    let _ = std::fs::remove_file(&trace);
    let trace = trace.to_str().expect("a path");
    events(&path, &["--record", trace, "--record-logits"]);
    let text = std::fs::read_to_string(trace).expect("a recording");
    let cut = "{\"event\":{\"type\":\"cut\",\"tick\":0,\"tokens\":50}";
    assert_eq!(text.matches(cut).count(), 1);
    for way in ["--verify", "--policy-only"] {
        let output = sage(&["replay", trace, way]);
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    }
}

/// Praise and blame fade, whatever they are and whenever they come: the mind goes to rest.
#[test]
fn feedback_does_not_keep_awake() {
    let feedback = |entries: &[(u64, f64)]| {
        let mut script = "name = \"feedback\"\nticks = 300\n".to_owned();
        for (at, value) in entries {
            script += &format!("[[observe]]\nat = {at}\nkind = \"feedback\"\nvalue = {value:?}\n");
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("feedback.toml");
        std::fs::write(&path, script).expect("written");
        events(&path, &[])
    };
    let alternating: Vec<(u64, f64)> = (0..40)
        .map(|tick| (tick, [1.0, -1.0][tick as usize % 2]))
        .collect();
    for entries in [
        vec![(0, 1.0)],
        vec![(0, -1.0)],
        vec![(3, 0.75), (4, 0.9), (5, 1.0)],
        vec![(100, 1.0), (200, -1.0)],
        alternating,
    ] {
        let events = feedback(&entries);
        let rest = events.iter().find(|event| event["to"] == "rest");
        let rested = rest.and_then(|event| event["tick"].as_u64());
        assert!(rested < Some(100), "{entries:?}: {rested:?}");
        // And it wakes nobody who rests.
        assert_eq!(states(&events), ["rest"], "{entries:?}");
    }
}
