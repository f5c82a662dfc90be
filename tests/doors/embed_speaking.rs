//! A loop as a library that speaks: sound in pieces, alarms and cancellations while it speaks, recorded and again.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::common::layouts::{sage as program, text};
use crate::common::speaking::{samples, speaking_model, vouched};
use sage::Sage;
use sage::events::{Event, EventKind, SpeechEnded};
use sage::replay;
use sage::session::{Action, Builder, Ended, Observation, Request, Stop, Telemetry, VoiceChoice};

/// Patience of a test, beyond anything that the loop should need.
const LONG: Duration = Duration::from_secs(120);

/// Frames of a piece of sound.
const CHUNK_FRAMES: usize = 300;

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("in time")
}

fn voice(max_codes: usize) -> VoiceChoice {
    VoiceChoice {
        max_codes: Some(max_codes),
        ..VoiceChoice::default()
    }
}

fn builder(model: &Path, max_codes: usize) -> Builder {
    let builder = Sage::builder().model(model).context_tokens(96).exact();
    let builder = builder.answer_tokens(12).threads(1);
    builder.speaks_as(voice(max_codes))
}

/// Ticks until nothing waits.
async fn settle(sage: &mut Sage) -> Vec<Action> {
    let mut actions = Vec::new();
    while !sage.is_idle() {
        actions.extend(sage.tick().await.expect("a tick").actions);
    }
    actions
}

/// Ticks until a request is being spoken, and some frames more.
async fn until_spoken(sage: &mut Sage, id: u64, frames: usize) {
    loop {
        let actions = sage.tick().await.expect("a tick").actions;
        let said = |action: &Action| matches!(action, Action::Say { id: of, .. } if *of == id);
        if actions.iter().any(said) {
            break;
        }
    }
    // The first tick reads what the talker is told.
    for _ in 0..=frames {
        sage.tick().await.expect("a tick");
    }
}

/// The tick in which speech ended, how many samples it has, and why.
type SpeechEnd = (u64, usize, SpeechEnded);

/// The sound of a request: its pieces with their ticks, and how it ended.
fn sound_of(actions: &[Action], request: u64) -> (Vec<(u64, usize)>, Option<SpeechEnd>) {
    let (mut pieces, mut end) = (Vec::new(), None);
    for action in actions {
        match action {
            Action::Sound { tick, id, samples } if *id == request => {
                assert!(end.is_none(), "a sound behind the end");
                pieces.push((*tick, samples.len()));
            }
            Action::Spoken {
                tick,
                id,
                samples,
                ended,
            } if *id == request => {
                assert!(end.is_none(), "{request} is spoken twice");
                end = Some((*tick, *samples, *ended));
            }
            _ => {}
        }
    }
    (pieces, end)
}

async fn assert_comes_again(trace: &Path, model: &Path) {
    let verdict = replay::verify(trace, model).await.expect("a verdict");
    assert!(verdict.equal && verdict.whole, "{verdict:?}");
}

/// The library speaks as the program does.
#[tokio::test]
async fn an_awaited_answer_has_its_sound() {
    let model = speaking_model();
    let out = tempfile::tempdir().expect("a folder");
    let (file, trace) = (out.path().join("a.wav"), out.path().join("a.trace"));
    let generate = [
        "generate",
        text(model.path()),
        "--prompt",
        "Hello",
        "--exact",
        "--max-tokens",
        "12",
    ];
    let speak = ["--speak", text(&file), "--max-codes", "12"];
    let (code, _, errors) = program(&[&generate[..], &speak].concat());
    assert_eq!(code, 0, "{errors}");

    let built = builder(model.path(), 12).record(&trace).build().await;
    let handle = built.expect("a loop").run();
    let mut events = handle
        .stream(Request::question("me", "Hello"))
        .expect("taken on");
    let reply = soon(handle.ask(Request::question("me", "Hello"))).await;
    let reply = reply.expect("an answer");
    assert_eq!(
        (reply.samples, reply.ended),
        (samples(&file), Ended::Length)
    );
    let mut streamed = 0;
    while let Some(event) = soon(events.next()).await {
        assert_eq!(event.kind.request(), Some(events.id()));
        match &event.kind {
            EventKind::Audio(audio) => {
                assert_eq!(audio.pcm.len(), audio.samples);
                streamed += audio.samples;
            }
            EventKind::Spoken(spoken) => assert_eq!(spoken.samples, streamed),
            _ => {}
        }
    }
    assert_eq!(streamed, samples(&file).len());
    handle.shutdown().await.expect("an end");
    assert_comes_again(&trace, model.path()).await;
}

/// What is longer than a chunk is heard before it ends.
#[tokio::test]
async fn sound_comes_in_pieces() {
    let model = speaking_model();
    let mut sage = builder(model.path(), CHUNK_FRAMES + 20)
        .build()
        .await
        .expect("a loop");
    let id = sage
        .observe(Observation::question("me", "Hello"))
        .expect("taken on");
    let actions = settle(&mut sage).await;
    let (pieces, end) = sound_of(&actions, id);
    let (tick, samples, ended) = end.expect("an end");
    assert_eq!(ended, SpeechEnded::Length);
    assert_eq!(
        pieces.iter().map(|(_, samples)| samples).sum::<usize>(),
        samples
    );
    assert_eq!(pieces.len(), 2);
    // 319 frames: one a tick, and one tick for the end.
    assert_eq!(
        pieces.iter().map(|(tick, _)| *tick).collect::<Vec<_>>(),
        [tick - 20, tick]
    );
    sage.shutdown().await.expect("an end");
}

/// An answer of one token has nothing to be heard; whoever waits for its sound is not kept waiting.
#[tokio::test]
async fn an_answer_too_short_to_be_spoken_ends() {
    let model = speaking_model();
    let handle = builder(model.path(), 12)
        .build()
        .await
        .expect("a loop")
        .run();
    let mut actions = handle.actions();
    let stop = |token| Request {
        stop: Stop::Tokens(vec![token]),
        ..Request::question("me", "Hello")
    };
    // The second token of this answer.
    let mut events = handle.stream(stop(98)).expect("taken on");
    let reply = soon(handle.ask(stop(98))).await.expect("an answer");
    assert_eq!((reply.text.as_str(), reply.ended), ("Y", Ended::Stop));
    assert!(reply.samples.is_empty());
    let mut last = None;
    while let Some(event) = soon(events.next()).await {
        last = Some(event.kind);
    }
    assert!(
        matches!(last, Some(EventKind::Spoken(spoken)) if spoken.frames == 0 && spoken.samples == 0)
    );
    handle.shutdown().await.expect("an end");
    let mut order = Vec::new();
    while let Some(action) = actions.next().await {
        match action {
            Action::Say { id, .. } => order.push((id, "say")),
            Action::Spoken { id, .. } => order.push((id, "spoken")),
            _ => {}
        }
    }
    let each = |id| [(id, "say"), (id, "spoken")];
    assert_eq!(order, [each(0), each(1)].concat());
}

/// An alarm that comes while an answer is spoken is answered at once; what answers an alarm is spoken to its end.
#[tokio::test]
async fn an_alarm_ends_what_is_spoken() {
    let model = speaking_model();
    let out = tempfile::tempdir().expect("a folder");
    let trace = out.path().join("alarm.trace");
    let built = builder(model.path(), 60).record(&trace).build().await;
    let mut sage = built.expect("a loop");
    let mut telemetry = sage.telemetry();
    let question = sage
        .observe(Observation::question("me", "Hello"))
        .expect("taken on");
    let waiting = sage
        .observe(Observation::question("me", "Again"))
        .expect("taken on");
    until_spoken(&mut sage, question, 5).await;
    let alarm = sage
        .observe(Observation::alarm("watch", "Fire?"))
        .expect("taken on");
    let heard = sage.tick_count();
    let mut actions = sage.tick().await.expect("a tick").actions;
    let (pieces, end) = sound_of(&actions, question);
    let (tick, samples, ended) = end.expect("it is silent in the tick that hears the alarm");
    assert_eq!((tick, ended), (heard, SpeechEnded::Interrupted));
    // What was said of it is heard.
    assert_eq!(
        pieces.iter().map(|(_, samples)| samples).sum::<usize>(),
        samples
    );
    assert!(samples > 0);
    // An alarm does not break off what answers an alarm.
    until_spoken(&mut sage, alarm, 5).await;
    let second = sage
        .observe(Observation::alarm("watch", "Flood?"))
        .expect("taken on");
    actions.extend(settle(&mut sage).await);
    for id in [alarm, second, waiting] {
        let (_, end) = sound_of(&actions, id);
        let (_, _, ended) = end.unwrap_or_else(|| panic!("{id} is not spoken"));
        assert_eq!(ended, SpeechEnded::Length, "{id}");
    }
    let ends = spoken_order(&mut telemetry);
    assert_eq!(ends, [question, alarm, second, waiting]);
    sage.shutdown().await.expect("an end");
    assert_comes_again(&trace, model.path()).await;
}

fn spoken_order(telemetry: &mut Telemetry) -> Vec<u64> {
    let events = std::iter::from_fn(|| telemetry.try_next());
    let ends = events.filter_map(|event| match event.kind {
        EventKind::Spoken(spoken) => Some(spoken.request),
        _ => None,
    });
    ends.collect()
}

/// An alarm that waits while the words of an answer end is not kept waiting by their sound.
#[tokio::test]
async fn nothing_is_spoken_while_an_alarm_waits() {
    let model = speaking_model();
    let mut sage = builder(model.path(), 60).build().await.expect("a loop");
    let mut events = sage
        .stream(Request::question("me", "Hello"))
        .expect("taken on");
    loop {
        sage.tick().await.expect("a tick");
        let next = tokio::time::timeout(Duration::from_millis(1), events.next());
        if matches!(
            next.await,
            Ok(Some(Event {
                kind: EventKind::Token { .. },
                ..
            }))
        ) {
            break;
        }
    }
    let alarm = sage
        .observe(Observation::alarm("watch", "Fire?"))
        .expect("taken on");
    let actions = settle(&mut sage).await;
    let (pieces, end) = sound_of(&actions, events.id());
    let (_, samples, ended) = end.expect("an end");
    assert_eq!(
        (pieces.len(), samples, ended),
        (0, 0, SpeechEnded::Interrupted)
    );
    let (_, end) = sound_of(&actions, alarm);
    assert_eq!(end.expect("an end").2, SpeechEnded::Length);
    sage.shutdown().await.expect("an end");
}

/// Whoever cancels while it is spoken has what was said so far, and the next answer is as it would have been.
#[tokio::test]
async fn speech_is_cancelled_alone() {
    let model = speaking_model();
    let out = tempfile::tempdir().expect("a folder");
    let trace = out.path().join("cancel.trace");
    let built = builder(model.path(), 60).record(&trace).build().await;
    let mut sage = built.expect("a loop");
    let first = sage
        .observe(Observation::question("me", "Hello"))
        .expect("taken on");
    let second = sage
        .observe(Observation::question("me", "Again"))
        .expect("taken on");
    until_spoken(&mut sage, first, 5).await;
    assert!(sage.cancel(first));
    let actions = settle(&mut sage).await;
    let (pieces, end) = sound_of(&actions, first);
    let (_, samples, ended) = end.expect("an end");
    assert_eq!(ended, SpeechEnded::Interrupted);
    assert_eq!(
        pieces.iter().map(|(_, samples)| samples).sum::<usize>(),
        samples
    );
    let cut = sound_of(&actions, second).1.expect("an end");
    sage.shutdown().await.expect("an end");
    assert_comes_again(&trace, model.path()).await;

    let mut sage = builder(model.path(), 60).build().await.expect("a loop");
    let alone = sage
        .observe(Observation::question("me", "Again"))
        .expect("taken on");
    let whole = sound_of(&settle(&mut sage).await, alone).1.expect("an end");
    assert_eq!((cut.1, cut.2), (whole.1, whole.2));
    assert!(samples < whole.1, "it was broken off");
    sage.shutdown().await.expect("an end");
}

/// Whoever joins the words of a request has its answer, bytes of a character that never became whole included.
#[tokio::test]
async fn words_joined_are_the_answer() {
    let model = speaking_model();
    let out = tempfile::tempdir().expect("a folder");
    let trace = out.path().join("words.trace");
    let built = Sage::builder()
        .model(model.path())
        .context_tokens(96)
        .exact();
    let built = built.answer_tokens(12).record(&trace).build().await;
    let handle = built.expect("a loop").run();
    let mut held_back = 0;
    for max_tokens in 1..=12 {
        let request = Request {
            max_tokens: Some(max_tokens),
            ..Request::question("me", "Hello")
        };
        let mut events = handle.stream(request).expect("taken on");
        let (mut words, mut count) = (String::new(), 0);
        while let Some(event) = soon(events.next()).await {
            match event.kind {
                EventKind::Token { text, .. } => {
                    words += &text;
                    count += 1;
                }
                EventKind::Answer { text, tokens, .. } => {
                    assert_eq!(words.trim(), text, "of {max_tokens} tokens");
                    held_back += usize::from(count > tokens);
                }
                _ => {}
            }
        }
    }
    assert!(held_back > 0, "none of the answers ends within a character");
    handle.shutdown().await.expect("an end");
    assert_comes_again(&trace, model.path()).await;
    let old = out.path().join("old.trace");
    std::fs::write(&old, of_version_2(&trace)).expect("written");
    assert_comes_again(&old, model.path()).await;
}

/// The recording as version 2 of the format had it: no event names its request, and what is held back of an answer is no
/// word of it.
fn of_version_2(trace: &Path) -> String {
    let recorded = std::fs::read_to_string(trace).expect("a recording");
    let lines: Vec<Value> = recorded
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    let event = |line: &Value| line["event"]["event"].clone();
    let mut old = String::new();
    let mut words = 0;
    for (at, line) in lines.iter().enumerate() {
        let mut line = line.clone();
        let recorded = event(&line);
        match recorded["type"].as_str() {
            Some("token") => {
                words += 1;
                let next = lines.get(at + 1).map(event).unwrap_or_default();
                if next["type"] == "answer" && next["tokens"] == words - 1 {
                    continue;
                }
            }
            Some("answer") => words = 0,
            _ => {}
        }
        if line["event"]["type"] == "header" {
            line["event"]["schema"] = 2.into();
        }
        let event = line["event"].get_mut("event");
        if let Some(event) = event.and_then(Value::as_object_mut) {
            event.shift_remove("request");
        }
        // A request that version 2 could not say is read all the same.
        old += &format!("{line}\n");
    }
    vouched(&old)
}
