//! The loop as a library, on the model in the repository.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::embedding::{HELEN, MODEL, all, builder, ids, says};
use sage::Sage;
use sage::events::{Event, EventKind};
use sage::session::{
    Action, BuildError, Effector, Ended, Observation, ObserveError, SageError, Sensor, SensorValue,
    State, Telemetry,
};
use sage::store::open_model;
use sage::text::{Message, Text};

/// Ticks until nothing is left to do; what was done.
async fn settle(sage: &mut Sage) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut ticks = 0;
    while !sage.is_idle() {
        actions.extend(sage.tick().await.expect("a tick").actions);
        ticks += 1;
        assert!(ticks < 5_000, "it does not come to rest");
    }
    actions
}

/// Everything that is the same in every run.
fn comparable(telemetry: &mut Telemetry) -> Vec<String> {
    let events = all(telemetry).into_iter();
    let events = events.filter(|event| !matches!(event.kind, EventKind::Summary(_)));
    events.map(|event| format!("{event:?}")).collect()
}

#[tokio::test]
async fn tick_by_tick_the_same_observations_give_the_same_run() {
    let run = async |threads| {
        let mut sage = builder().threads(threads).build().await.expect("a loop");
        let mut telemetry = sage.telemetry();
        let book = Observation::text("book", "There was no open vision. ".repeat(8));
        sage.observe(book).expect("taken");
        for _ in 0..3 {
            sage.tick().await.expect("a tick");
        }
        let id = sage
            .observe(Observation::question("me", HELEN))
            .expect("taken");
        let actions = settle(&mut sage).await;
        assert_eq!(says(&actions), [(id, "Milan", Ended::Stop)]);
        sage.feedback(id, 1.0).expect("taken");
        for _ in 0..20 {
            sage.tick().await.expect("a tick");
        }
        let read = sage.read_bytes();
        let outcome = sage.shutdown().await.expect("an end");
        assert!(read.demand > 0 && read.other > 0, "{read}");
        assert!(outcome.summary.read_bytes.total >= read.total);
        assert_eq!(outcome.counts.taken, 3);
        comparable(&mut telemetry)
    };
    let (one, two) = (run(1).await, run(2).await);
    assert!(one.len() > 50, "only {} events", one.len());
    assert_eq!(one, two);
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_and_the_loop_goes_on() {
    let mut sage = builder().context_tokens(96).build().await.expect("a loop");
    let mut telemetry = sage.telemetry();
    let too_long = sage
        .observe(Observation::question("me", HELEN.repeat(9)))
        .expect("taken");
    let empty = sage.observe(Observation::text("book", "")).expect("taken");
    let blank = sage.observe(Observation::turn("me", " ")).expect("taken");
    let goal = sage
        .observe(Observation::goal("host", "Be brief. ".repeat(60)))
        .expect("taken");
    let asked = sage
        .observe(Observation::question("me", HELEN))
        .expect("taken");
    let late = sage.feedback(77, 1.0).expect("taken");
    let actions = settle(&mut sage).await;
    assert_eq!(says(&actions), [(asked, "Milan", Ended::Stop)]);
    let unanswered = |action: &Action| match action {
        Action::Unanswered { id, .. } => Some(*id),
        _ => None,
    };
    let unanswered: Vec<u64> = actions.iter().filter_map(unanswered).collect();
    assert_eq!(unanswered, [too_long, blank]);
    let mut refused = Vec::new();
    for event in all(&mut telemetry) {
        if let EventKind::Refused { id, reason, .. } = event.kind {
            refused.push((id, reason));
        }
    }
    refused.sort();
    let numbers: Vec<u64> = refused.iter().map(|refused| refused.0).collect();
    assert_eq!(numbers, [too_long, empty, blank, goal, late]);
    assert!(
        refused[0]
            .1
            .contains("do not fit into the declared context of 96")
    );
    assert!(refused[4].1.contains("the answer to 77"), "{refused:?}");
    let counts = sage.counts();
    assert_eq!(
        (counts.refused, counts.taken, counts.shed_total()),
        (5, 6, 0)
    );
    // What cannot be at all does not come in.
    let unsound = [
        Observation::Feedback(f32::NAN),
        Observation::Feedback(1.5),
        Observation::question("me", "?").urgent(f32::NAN),
        Observation::text("x".repeat(300), "a"),
    ];
    for observation in unsound {
        let refused = sage.observe(observation.clone());
        assert!(
            matches!(refused, Err(ObserveError::Unsound(_))),
            "{observation:?}"
        );
    }
    assert_eq!(sage.counts().submitted, 6);
}

/// The prompt is what the model's template makes of the goal and the question, until another goal stands in its place.
#[tokio::test]
async fn a_goal_is_the_system_message_of_the_questions_that_follow() {
    let source = open_model(MODEL).expect("the model");
    let text = Text::load(&*source).expect("its tokenizer");
    let prompt = |goal: Option<&str>| {
        let message = |role: &'static str, content: &str| Message::new(role, content);
        let system = goal.map(|goal| message("system", goal));
        let messages: Vec<Message> = system.into_iter().chain([message("user", HELEN)]).collect();
        text.prompt_tokens(&messages, "").expect("tokens").len()
    };
    let goals = ["Name a town.", "Answer in one word, and be quick about it."];
    let mut sage = builder().goal(goals[0]).build().await.expect("a loop");
    let mut telemetry = sage.telemetry();
    let ask = |sage: &Sage| {
        sage.observe(Observation::question("me", HELEN))
            .expect("taken")
    };
    ask(&sage);
    sage.tick().await.expect("a tick");
    sage.observe(Observation::goal("host", goals[1]))
        .expect("taken");
    ask(&sage);
    sage.observe(Observation::turn("me", HELEN)).expect("taken");
    sage.tick().await.expect("a tick");
    sage.observe(Observation::goal("host", "")).expect("taken");
    ask(&sage);
    settle(&mut sage).await;
    let mut prompts = Vec::new();
    let mut read = 0;
    for event in all(&mut telemetry) {
        match event.kind {
            EventKind::Observation(seen) if seen.kind == "question" => prompts.push(seen.tokens),
            EventKind::Salience(_) => read += 1,
            _ => {}
        }
    }
    let (first, second) = (prompt(Some(goals[0])), prompt(Some(goals[1])));
    assert_eq!(prompts, [first, second, second, prompt(None)]);
    assert!(first > prompt(None) && second > first && read > 0);
}

/// A thermometer that the test turns, and what was read of it.
#[derive(Clone)]
struct Dial(Arc<AtomicU32>);

impl Sensor for Dial {
    fn name(&self) -> &str {
        "dial"
    }

    fn every_ticks(&self) -> u32 {
        2
    }

    fn read(&mut self, _: u64) -> Option<SensorValue> {
        let value = f64::from(self.0.load(Ordering::Relaxed));
        let range = Some((0.0, 80.0));
        Some(SensorValue {
            range,
            ..SensorValue::new(value)
        })
    }
}

/// Keeps what it heard, and praises every answer.
struct Keeper(Arc<Mutex<Vec<Action>>>);

impl Effector for Keeper {
    fn act(&mut self, action: &Action) -> Vec<Observation> {
        self.0.lock().expect("whole").push(action.clone());
        match action {
            // The second makes no sense.
            Action::Say { .. } => vec![Observation::Feedback(1.0), Observation::Feedback(2.0)],
            _ => Vec::new(),
        }
    }
}

#[tokio::test]
async fn sensors_are_observed_and_effectors_hear_and_answer() {
    let dial = Dial(Arc::new(AtomicU32::new(20)));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let built = builder()
        .sensor(dial.clone())
        .effector(Keeper(Arc::clone(&heard)));
    let mut sage = built.build().await.expect("a loop");
    let mut telemetry = sage.telemetry();
    let mut actions = Vec::new();
    for tick in 0..20 {
        if tick == 10 {
            dial.0.store(99, Ordering::Relaxed);
            sage.observe(Observation::question("me", HELEN))
                .expect("taken");
        }
        actions.extend(sage.tick().await.expect("a tick").actions);
    }
    actions.extend(settle(&mut sage).await);
    for _ in 0..3 {
        actions.extend(sage.tick().await.expect("a tick").actions);
    }
    let states = |action: &Action| match action {
        Action::State { to, .. } => Some(*to),
        _ => None,
    };
    assert!(
        actions
            .iter()
            .filter_map(states)
            .any(|state| state == State::Threat)
    );
    assert_eq!(*heard.lock().expect("whole"), actions);
    let seen = |event: &Event| match &event.kind {
        EventKind::Observation(seen) => Some((seen.kind, seen.value)),
        _ => None,
    };
    let events = all(&mut telemetry);
    let seen: Vec<_> = events.iter().filter_map(seen).collect();
    assert!(seen.contains(&("sensor", Some(20.0))) && seen.contains(&("sensor", Some(99.0))));
    assert!(seen.contains(&("feedback", Some(1.0))), "{seen:?}");
    let refused = |event: &&Event| matches!(event.kind, EventKind::Refused { .. });
    assert_eq!(events.iter().filter(refused).count(), 1);
}

#[tokio::test]
async fn a_slow_reader_is_told_how_much_it_missed() {
    let built = builder().telemetry_events(16).pending_actions(2);
    let mut sage = built.build().await.expect("a loop");
    let (mut telemetry, mut actions) = (sage.telemetry(), sage.actions());
    let mut events = 0;
    let mut steady = sage.telemetry();
    for _ in 0..4 {
        sage.observe(Observation::question("me", HELEN))
            .expect("taken");
    }
    let mut done = Vec::new();
    while !sage.is_idle() {
        done.extend(sage.tick().await.expect("a tick").actions);
        events += all(&mut steady).len() as u64;
    }
    let counted = |missed: u64, event: &Event| match event.kind {
        EventKind::Missed { events } => missed + events,
        _ => missed + 1,
    };
    let left = all(&mut telemetry);
    assert!(left.len() <= 17, "{}", left.len());
    assert_eq!(left.iter().fold(0, counted), events);
    let mut told = 0;
    while let Some(action) = actions.try_next() {
        told += match action {
            Action::Missed { actions } => actions,
            _ => 1,
        };
    }
    assert_eq!(told, done.len() as u64);
    assert_eq!(ids(&done), [0, 1, 2, 3]);
}

#[tokio::test]
async fn what_cannot_be_built_says_why() {
    let cases = [
        (Sage::builder(), "no model is named"),
        (builder().model("nowhere"), "nowhere"),
        (builder().limit("much"), "limit: `much` is not a size"),
        (builder().limit("1MiB"), "below the floor"),
        (builder().limit("1MiB"), "hint: .limit "),
        (
            builder().answer_tokens(0),
            "answer_tokens is 0; expected at least 1",
        ),
        (builder().context_tokens(4), "fewer than .context_tokens"),
        (builder().context_tokens(100_000), "beyond the model's 4096"),
        (builder().inbox(2), "inbox is 2; expected 8 to 1048576"),
        (builder().threads(0), "threads is 0; expected 1 to 1024"),
        (builder().temperature(f32::NAN), "temperature is NaN"),
        (builder().idle_pace(Duration::ZERO), "idle_pace is 0ns"),
        (
            builder().set("mind.budgets.wake.f=-1"),
            ".set mind.budgets.wake.f=-1: `mind.budgets.wake.f` is -1",
        ),
        (builder().exact().ledger("trust.redb"), "leave .ledger out"),
        (
            builder().exact().set("mind.routing=\"sage\""),
            "routes exactly",
        ),
        (builder().ledger("nowhere/trust.redb"), "nowhere/trust.redb"),
    ];
    for (builder, expected) in cases {
        let error: BuildError = builder.build().await.err().expect(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn a_tick_that_nobody_waited_for_is_not_lost() {
    fn may_move_between_threads(_: &impl Send) {}
    let mut sage = builder().build().await.expect("a loop");
    may_move_between_threads(&sage.tick());
    sage.observe(Observation::question("me", HELEN))
        .expect("taken");
    let mut actions = Vec::new();
    let mut ticks = Vec::new();
    while !sage.is_idle() || ticks.is_empty() {
        let waited = tokio::time::timeout(Duration::from_micros(50), sage.tick()).await;
        if let Ok(ticked) = waited {
            let ticked = ticked.expect("a tick");
            ticks.push(ticked.tick);
            actions.extend(ticked.actions);
        }
    }
    actions.extend(sage.tick().await.expect("a tick").actions);
    assert_eq!(says(&actions), [(0, "Milan", Ended::Stop)]);
    assert!(ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
}

#[tokio::test]
async fn after_its_end_a_loop_says_so() {
    let mut sage = builder().machine_sensors().build().await.expect("a loop");
    let handle = sage.handle();
    handle.feedback(None, 0.5).expect("taken");
    sage.tick().await.expect("a tick");
    assert!(handle.counts().taken >= 1 && handle.mode().is_some());
    handle.shutdown().await.expect("an end");
    handle.shutdown_now().await.expect("the same end");
    assert!(matches!(sage.tick().await, Err(SageError::Ended)));
    let late = handle.observe(Observation::text("book", "a"));
    assert_eq!(late, Err(ObserveError::Ended));
    assert_eq!(
        handle.telemetry().next().await.map(|event| event.tick),
        None
    );
}

/// The guide's program is the example, but for where the model lies, and says what the guide says it does; an error is a
/// sentence.
#[test]
fn the_guides_program_runs_as_it_is_written() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("a file");
    let guide = read("docs/embedding.md");
    let block = |kind: &str| {
        let begin = guide.find(&format!("```{kind}\n")).expect("a block") + kind.len() + 4;
        let end = guide[begin..].find("```").expect("its end");
        guide[begin..begin + end].to_owned()
    };
    let example = read("examples/embed.rs");
    let (_, program) = example.split_once("\n\n").expect("a first comment");
    assert_eq!(
        block("rust").replace("../SAGE/models/tiny", "models/tiny"),
        program
    );
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_sage"));
    let built = built.with_file_name("examples").join("embed");
    if !built.is_file() {
        println!(
            "passed over: the examples are not built; `cargo test` without --test builds them"
        );
        return;
    }
    let run = |folder: &std::path::Path| {
        let mut command = std::process::Command::new(&built);
        command.current_dir(folder).output().expect("it runs")
    };
    let done = run(root);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    // The guide shows how it begins and what is answered.
    for line in block("text").lines() {
        assert!(said.contains(line), "no `{line}` in: {said}");
    }
    let lost = run(&std::env::temp_dir());
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(!lost.status.success());
    assert!(
        said.starts_with("models/tiny") || said.contains("models/tiny:"),
        "{said}"
    );
    assert!(!said.contains(" { "), "{said}");
}
