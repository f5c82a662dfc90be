//! Recordings of an embedded loop: whatever its host did, and whenever, comes again.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::time::Duration;

use crate::common::embedding::{HELEN, builder};
use sage::events::EventKind;
use sage::replay;
use sage::session::{Action, Observation, Sensor, SensorValue};
use sage::trace::{TraceReader, TraceRecord};
use sage_actors::protocol::State;

const MODEL: &str = "models/tiny";

/// The events of a host, by what they say.
fn of_host(trace: &Path) -> Vec<String> {
    let (mut reader, _) = TraceReader::open(trace).expect("a recording");
    let mut found = Vec::new();
    while let Some(line) = reader.next_line().expect("a line") {
        if let TraceRecord::Host { event } = line.record().expect("an event") {
            found.push(event["type"].as_str().unwrap_or_default().to_owned());
        }
    }
    found
}

/// A clock that nobody can replay: its readings are inputs.
struct Uptime(std::time::Instant);

impl Sensor for Uptime {
    fn name(&self) -> &str {
        "uptime"
    }

    fn every_ticks(&self) -> u32 {
        3
    }

    fn read(&mut self, _tick: u64) -> Option<SensorValue> {
        Some(SensorValue::new(self.0.elapsed().as_secs_f64() * 1000.0))
    }
}

/// Free-running, with a sensor of the wall clock, feedback, a goal, and far more than can be taken.
#[tokio::test]
async fn a_free_and_overloaded_run_comes_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("free.trace");
    let sage = builder()
        .inbox(16)
        .goal("Answer in one word.")
        .sensor(Uptime(std::time::Instant::now()))
        .idle_pace(Duration::from_millis(2))
        .record(&trace)
        .record_logits()
        .build()
        .await
        .expect("a loop");
    let mut actions = sage.actions();
    let handle = sage.run();
    for round in 0..20 {
        for number in 0..16 {
            let source = format!("crowd {number}");
            let _ = handle.observe(Observation::text(source, "In those days. "));
        }
        if round % 5 == 0 {
            let _ = handle.observe(Observation::question("me", HELEN));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let alarm = handle.observe(Observation::alarm("watch", HELEN));
    let alarm = alarm.expect("an alarm is taken on");
    while let Some(action) = actions.next().await {
        if matches!(&action, Action::Say { id, .. } if *id == alarm) {
            break;
        }
    }
    let _ = handle.feedback(Some(alarm), 1.0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let outcome = handle.shutdown().await.expect("an end");
    assert!(outcome.counts.shed_total() > 50, "{:?}", outcome.counts);

    let verdict = replay::verify(&trace, MODEL.as_ref()).await;
    let verdict = verdict.expect("a verdict");
    assert!(verdict.equal && verdict.whole, "{verdict:?}");
    assert_eq!(verdict.ticks, outcome.ticks);
    let again = replay::ask_again(&trace, &mut |_| ()).await;
    let again = again.expect("a verdict");
    assert!(again.equal && again.whole, "{again:?}");
    assert_eq!(again.digest, verdict.digest);

    let host = of_host(&trace);
    let shed = host.iter().filter(|kind| *kind == "shed").count() as u64;
    assert_eq!(
        shed,
        outcome.counts.shed_total(),
        "every shed one is recorded"
    );
}

/// Free-running through a long text in large chunks: an alarm that comes while one is read is heard at once, and when that was
/// comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_breaks_off_the_chunk_that_is_being_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("alarm.trace");
    let built = builder().chunk_tokens(128).context_tokens(1024);
    let sage = built.record(&trace).record_logits().build().await;
    let sage = sage.expect("a loop");
    let mut telemetry = sage.telemetry();
    let handle = sage.run();
    let book = std::fs::read_to_string("models/tiny/heldout/kjv.txt").expect("held-out text");
    let text: String = book.chars().take(2_500).collect();
    handle
        .observe(Observation::text("book", text))
        .expect("taken");
    let mut alarm = None;
    let (mut given, mut heard, mut read) = (0, None, 0);
    while let Some(event) = telemetry.next().await {
        match event.kind {
            // The first chunk is begun with the tick that hears of the text.
            EventKind::Observation(seen) if seen.kind == "text" => {
                given = handle.tick_count();
                let id = handle.observe(Observation::alarm("watch", HELEN));
                alarm = Some(id.expect("an alarm is taken on"));
            }
            EventKind::State {
                to: State::Threat, ..
            } => heard = Some(event.tick),
            EventKind::Answer { id, .. } => assert_eq!(Some(id), alarm),
            EventKind::Read { tokens, .. } => read += tokens,
            _ => {}
        }
        if read > 500 && handle.is_idle() {
            break;
        }
    }
    let heard = heard.expect("a crisis");
    assert!((given..=given + 8).contains(&heard), "{given}: {heard}");
    handle.shutdown().await.expect("an end");
    let recorded = std::fs::read_to_string(&trace).expect("a recording");
    assert_eq!(recorded.matches("{\"type\":\"given_up\"").count(), 1);
    let verdict = replay::verify(&trace, MODEL.as_ref()).await;
    let verdict = verdict.expect("a verdict");
    assert!(verdict.equal && verdict.whole, "{verdict:?}");
    let again = replay::ask_again(&trace, &mut |_| ()).await;
    let again = again.expect("a verdict");
    assert!(again.equal && again.whole, "{again:?}");
}

/// The same observations at the same ticks are the same recording; other ones are not.
#[tokio::test]
async fn equal_runs_have_equal_digests() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut digests = Vec::new();
    for (name, threads, text) in [
        ("a", 1, HELEN),
        ("b", 2, HELEN),
        ("c", 2, "What is 34 + 27?"),
    ] {
        let trace = folder.path().join(name);
        let built = builder().threads(threads).record(&trace).build().await;
        let mut sage = built.expect("a loop");
        sage.observe(Observation::question("me", text))
            .expect("taken");
        while !sage.is_idle() {
            sage.tick().await.expect("a tick");
        }
        sage.shutdown().await.expect("an end");
        let (mut reader, _) = TraceReader::open(&trace).expect("a recording");
        while reader.next_line().expect("a line").is_some() {}
        digests.push(reader.digest());
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[1], digests[2]);
}

#[tokio::test]
async fn a_recording_that_stands_there_is_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("kept.trace");
    std::fs::write(&trace, "kept").expect("written");
    let built = builder().record(&trace).build().await;
    let error = built.err().expect("refused").to_string();
    assert!(error.contains("give another name"), "{error}");
    assert_eq!(
        std::fs::read_to_string(&trace).expect("still there"),
        "kept"
    );
    let error = builder().record_logits().build().await.err();
    let error = error.expect("a contradiction").to_string();
    assert!(error.contains(".record(FILE)"), "{error}");
}
