//! Answers that are awaited, events of one request, and requests that are no longer wanted.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::pin::Pin;
use std::time::Duration;

use crate::common::embedding::{HELEN, builder};
use sage::Sage;
use sage::events::{Event, EventKind};
use sage::session::{
    Action, Actions, AskError, Ended, Handle, Observation, Request, RequestContent, RequestEvents,
    Telemetry,
};

/// Patience of a test, beyond anything that the loop should need.
const LONG: Duration = Duration::from_secs(120);

const TOM: &str = "Laura lives in London. Peter lives in Dublin. Helen lives in Milan. Tom lives in Oslo. Where does Tom live?";

async fn running() -> Handle {
    builder().build().await.expect("a loop").run()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("in time")
}

/// Everything of a stream, as any stream's reader takes it.
async fn drained<S: futures_core::Stream + Unpin>(stream: &mut S) -> Vec<S::Item> {
    let mut items = Vec::new();
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context));
        match soon(next).await {
            Some(item) => items.push(item),
            None => return items,
        }
    }
}

/// The words of a request's events, one behind the other.
fn joined(events: &[Event]) -> String {
    let words = events.iter().filter_map(|event| match &event.kind {
        EventKind::Token { text, .. } => Some(text.as_str()),
        _ => None,
    });
    words.collect()
}

/// The answer among a request's events, which is the last of them.
fn answer(events: &[Event]) -> &str {
    match events.last().map(|event| &event.kind) {
        Some(EventKind::Answer { text, .. }) => text,
        last => panic!("{last:?} is no answer"),
    }
}

#[tokio::test]
async fn an_answer_is_awaited() {
    let handle = running().await;
    let reply = soon(handle.ask(Request::question("me", HELEN))).await;
    let reply = reply.expect("an answer");
    assert_eq!((reply.text.as_str(), reply.ended), ("Milan", Ended::Stop));
    assert!(reply.samples.is_empty(), "it has no voice");
    // Several at a time, each its own.
    let (helen, tom) = tokio::join!(
        handle.ask(Observation::question("a", HELEN)),
        handle.ask(Observation::alarm("b", TOM)),
    );
    let (helen, tom) = (helen.expect("an answer"), tom.expect("an answer"));
    assert_eq!((helen.text.as_str(), tom.text.as_str()), ("Milan", "Oslo"));
    assert!(helen.id != tom.id && reply.id < helen.id);

    for question in [
        Observation::text("me", HELEN),
        Observation::Feedback(1.0),
        Observation::goal("me", "Answer."),
    ] {
        let refused = handle.ask(question).await;
        assert!(
            matches!(refused, Err(AskError::NotAQuestion)),
            "{refused:?}"
        );
    }
    // It is taken on, and then does not fit.
    let long = Observation::question("me", "word ".repeat(4_000));
    let refused = soon(handle.ask(long)).await.expect_err("it does not fit");
    assert!(refused.to_string().contains("context"), "{refused}");
    handle.shutdown().await.expect("an end");
    let ended = handle.ask(Request::question("me", HELEN)).await;
    assert!(ended.is_err(), "the loop has ended: {ended:?}");
}

/// Requests with such messages, of which one is given up; the others' answers, by their sources.
async fn answers_without(given_up: Option<&str>) -> Vec<(String, String)> {
    let mut sage = builder().build().await.expect("a loop");
    let mut found = Vec::new();
    let handle = sage.clone();
    let mut asked = Vec::new();
    for (source, question) in [("a", HELEN), ("b", TOM), ("c", HELEN)] {
        let ask = handle.ask(Request::question(source, question));
        let mut ask = Box::pin(ask);
        // An ask that nobody polls has not asked.
        let begun = std::future::poll_fn(|context| {
            let polled = ask.as_mut().poll(context);
            std::task::Poll::Ready(polled.is_pending())
        });
        assert!(begun.await, "nobody ticks yet");
        asked.push((source, ask));
    }
    let mut actions = Vec::new();
    let mut ticks = 0;
    while !sage.is_idle() {
        let ticked = sage.tick().await.expect("a tick");
        ticks += 1;
        actions.extend(ticked.actions);
        if ticks == 3 {
            // Dropped while the first is under way: this one waits in the loop.
            asked.retain(|(source, _)| Some(*source) != given_up);
        }
    }
    for (source, ask) in asked {
        let reply = soon(ask).await.expect("an answer");
        found.push((source.to_owned(), reply.text));
    }
    let unanswered = actions.iter().filter_map(|action| match action {
        Action::Unanswered { source, .. } => Some(source.as_str()),
        _ => None,
    });
    assert_eq!(Vec::from_iter(unanswered), Vec::from_iter(given_up));
    sage.shutdown().await.expect("an end");
    found
}

#[tokio::test]
async fn an_ask_that_is_dropped_is_cancelled_alone() {
    let all = answers_without(None).await;
    let expected = [("a", "Milan"), ("b", "Oslo"), ("c", "Milan")];
    let expected = expected.map(|(source, text)| (source.to_owned(), text.to_owned()));
    assert_eq!(all, expected);
    for dropped in ["a", "b", "c"] {
        let mut others = expected.to_vec();
        others.retain(|(source, _)| source != dropped);
        assert_eq!(
            answers_without(Some(dropped)).await,
            others,
            "without {dropped}"
        );
    }
}

/// Cancelling takes no room: what waits in a full inbox stays.
#[tokio::test]
async fn a_cancellation_sheds_nothing() {
    let mut sage = builder().inbox(8).build().await.expect("a loop");
    let first = sage
        .observe(Observation::question("me", HELEN))
        .expect("room");
    sage.tick().await.expect("a tick");
    let mut waiting = Vec::new();
    while let Ok(id) = sage.observe(Observation::question("crowd", TOM)) {
        waiting.push(id);
    }
    assert_eq!(waiting.len(), 7, "the inbox is full");
    let shed = sage.counts().shed_total();
    assert!(sage.cancel(first));
    assert_eq!(sage.counts().shed_total(), shed, "nothing made room for it");
    let mut said = Vec::new();
    while !sage.is_idle() {
        for action in sage.tick().await.expect("a tick").actions {
            if let Action::Say { id, .. } = action {
                said.push(id);
            }
        }
    }
    assert_eq!(said, waiting);
    sage.shutdown().await.expect("an end");
}

#[tokio::test]
async fn what_is_done_or_never_was_is_cancelled_without_harm() {
    let handle = running().await;
    let reply = soon(handle.ask(Request::question("me", HELEN))).await;
    let done = reply.expect("an answer").id;
    for id in [done, 77, u64::MAX] {
        handle.cancel(id);
        let reply = soon(handle.ask(Request::question("me", TOM))).await;
        assert_eq!(
            reply.expect("an answer").text,
            "Oslo",
            "after cancelling {id}"
        );
    }
    let outcome = handle.shutdown().await.expect("an end");
    assert_eq!(outcome.counts.shed_total(), 0);
    assert!(!handle.cancel(done), "the loop has ended");
}

/// A text that is read is let go too, and says so.
#[tokio::test]
async fn a_text_that_is_read_is_cancelled() {
    let mut sage = builder().build().await.expect("a loop");
    let mut telemetry = sage.telemetry();
    let book = "In those days there was no king. ".repeat(10);
    let text = sage.observe(Observation::text("book", book)).expect("room");
    sage.tick().await.expect("a tick");
    assert!(sage.cancel(text));
    sage.tick().await.expect("a tick");
    assert!(sage.is_idle());
    let refused = std::iter::from_fn(|| telemetry.try_next()).any(|event| {
        let cancelled = matches!(&event.kind, EventKind::Refused { reason, .. } if reason.contains("cancelled"));
        cancelled && event.kind.request() == Some(text)
    });
    assert!(refused);
    sage.shutdown().await.expect("an end");
}

/// Every stream is what the world's streams are.
fn is_stream<S: futures_core::Stream<Item = T> + Send + 'static, T>() {}

#[tokio::test]
async fn a_stream_has_the_events_of_its_request_alone() {
    is_stream::<RequestEvents, Event>();
    is_stream::<Telemetry, Event>();
    is_stream::<Actions, Action>();
    let handle = running().await;
    let stream = |observation: Observation| handle.stream(observation).expect("taken on");
    let mut helen = stream(Observation::question("a", HELEN));
    let mut tom = stream(Observation::question("b", TOM));
    let mut alarm = stream(Observation::alarm("c", HELEN));
    let cut = Request {
        max_tokens: Some(1),
        ..Request::question("d", HELEN)
    };
    let mut cut = stream(cut.into());
    for (events, expected) in [
        (&mut helen, "Milan"),
        (&mut tom, "Oslo"),
        (&mut alarm, "Milan"),
        (&mut cut, "Milan"),
    ] {
        let id = events.id();
        let events = drained(events).await;
        assert!(
            events.iter().all(|event| event.kind.request() == Some(id)),
            "{events:?}"
        );
        assert!(matches!(&events[0].kind, EventKind::Observation(seen) if seen.id == id));
        assert_eq!(joined(&events).trim(), answer(&events));
        assert!(expected.starts_with(answer(&events)) && !answer(&events).is_empty());
    }
    for other in [Observation::text("me", HELEN), Observation::Feedback(1.0)] {
        assert!(handle.stream(other).is_err(), "it has no last event");
    }
    // What is refused ends its stream too.
    let mut refused = stream(Observation::question("me", "word ".repeat(4_000)));
    let refused = drained(&mut refused).await;
    assert!(matches!(
        &refused[..],
        [Event {
            kind: EventKind::Refused { .. },
            ..
        }]
    ));
    handle.shutdown().await.expect("an end");
}

#[tokio::test]
async fn a_request_under_way_is_cancelled_with_what_there_is() {
    let mut sage: Sage = builder().answer_tokens(64).build().await.expect("a loop");
    let endless = |source| Request {
        stop: sage::session::Stop::Never,
        ..Request::new(source, RequestContent::said(HELEN))
    };
    let mut events = sage.stream(endless("a")).expect("taken on");
    let other = sage.observe(endless("b").into()).expect("taken on");
    let mut seen = Vec::new();
    while joined(&seen).len() < 8 {
        sage.tick().await.expect("a tick");
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::from_millis(1), events.next()).await
        {
            seen.push(event);
        }
    }
    assert!(sage.cancel(events.id()));
    let mut actions = Vec::new();
    while !sage.is_idle() {
        actions.extend(sage.tick().await.expect("a tick").actions);
    }
    seen.extend(drained(&mut events).await);
    let (said, whole) = (joined(&seen), answer(&seen));
    assert_eq!(said.trim(), whole);
    let says = crate::common::embedding::says(&actions);
    assert_eq!(says.len(), 2);
    assert_eq!((says[0].0, says[0].2), (events.id(), Ended::Interrupted));
    assert_eq!((says[1].0, says[1].2), (other, Ended::Length));
    assert!(says[1].1.starts_with(says[0].1), "{says:?}");
    sage.shutdown().await.expect("an end");
}
