//! The loop that runs by itself: overload, shutdown, pace.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::common::embedding::{HELEN, all, builder, ids, says};
use sage::events::EventKind;
use sage::ledger::LedgerFile;
use sage::session::{Action, Ended, Observation, ObserveError, ShedReason};
use sage::store::open_model;

/// Patience of a test, beyond anything that the loop should need.
const LONG: Duration = Duration::from_secs(120);

/// Ten times more than the loop can take comes between each two ticks; an alarm and feedback come in the middle of it.
#[tokio::test]
async fn overload_is_shed_and_counted_and_what_matters_survives() {
    const INBOX: usize = 32;
    let mut sage = builder().inbox(INBOX).build().await.expect("a loop");
    let mut telemetry = sage.telemetry();
    let mut shed_at_once = 0;
    let mut submitted = 0;
    let mut alarms = Vec::new();
    let mut answered = Vec::new();
    let mut actions = Vec::new();
    let (mut taken_on, mut ticks) = (BTreeSet::new(), 0);
    for round in 0..30 {
        for number in 0..INBOX * 10 {
            let observation = match (round % 10, number) {
                (5, 100) => Observation::alarm("watch", HELEN),
                (6, 200) => Observation::Feedback(1.0),
                (7, 10) => Observation::goal("host", "Answer in one word."),
                (_, number) if number % 7 == 0 => Observation::question("crowd", HELEN),
                _ => Observation::text(format!("book {}", number % 3), "In those days. "),
            };
            let alarm = observation.is_urgent();
            let lasting = alarm
                || matches!(
                    observation,
                    Observation::Goal { .. } | Observation::Feedback(_)
                );
            let request = observation.is_request();
            submitted += 1;
            match sage.observe(observation) {
                Ok(id) => {
                    if request {
                        taken_on.insert(id);
                    }
                    if alarm {
                        alarms.push((id, ticks));
                    }
                }
                Err(ObserveError::Shed { .. }) => {
                    assert!(!lasting);
                    shed_at_once += 1;
                }
                Err(error) => panic!("{error}"),
            }
            let counts = sage.counts();
            assert!(counts.waiting + counts.open <= INBOX as u64, "{counts:?}");
        }
        // Each tick takes one step of work, however much waits.
        let ticked = sage.tick().await.expect("a tick");
        ticks += 1;
        for action in ticked.actions {
            if let Action::Say { id, .. } = &action {
                answered.push((*id, ticks));
            }
            actions.push(action);
        }
        let counts = sage.counts();
        assert_eq!(counts.submitted, submitted);
        assert_eq!(
            counts.taken + counts.waiting + counts.shed_total(),
            submitted
        );
    }
    assert!(submitted >= 10 * sage.counts().taken, "{:?}", sage.counts());
    while !sage.is_idle() {
        let ticked = sage.tick().await.expect("a tick");
        ticks += 1;
        let say = |action: &Action| matches!(action, Action::Say { .. });
        answered.extend(
            ticked
                .actions
                .iter()
                .filter(|a| say(a))
                .flat_map(|action| match action {
                    Action::Say { id, .. } => Some((*id, ticks)),
                    _ => None,
                }),
        );
        actions.extend(ticked.actions);
    }
    // An alarm waits for the answer under way, the mind's attention, and its own words.
    assert_eq!(alarms.len(), 3);
    for (alarm, since) in alarms {
        let answer = answered
            .iter()
            .find(|(id, _)| *id == alarm)
            .expect("an answer");
        assert!(answer.1 - since < 60, "{since} to {}", answer.1);
    }
    let counts = sage.counts();
    assert_eq!((counts.waiting, counts.open), (0, 0));
    assert_eq!(counts.submitted, counts.taken + counts.shed_total());
    let displaced = |shed: &sage::session::ShedCount| shed.reason == ShedReason::Displaced;
    let displaced = counts.shed.iter().filter(|shed| displaced(shed));
    let displaced: u64 = displaced.map(|shed| shed.observations).sum();
    assert_eq!(counts.shed_total(), shed_at_once + displaced);
    assert!(
        counts
            .shed
            .iter()
            .all(|shed| shed.source == "crowd" || shed.source.starts_with("book"))
    );
    // Every request that was taken on ended in exactly one way.
    assert_eq!(ids(&actions), Vec::from_iter(taken_on));
    let told = all(&mut telemetry);
    let shed = told
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Shed { .. }));
    let missed = told.iter().map(|event| match event.kind {
        EventKind::Missed { events } => events,
        _ => 0,
    });
    let (shed, missed) = (shed.count() as u64, missed.sum::<u64>());
    assert!(
        shed > 0 && shed + missed >= counts.shed_total(),
        "{shed} + {missed}"
    );
}

/// Of sources that are alike in all else, one whose texts moved nothing makes room for one that was not heard yet.
#[tokio::test]
async fn what_was_not_salient_of_late_makes_room() {
    let mut sage = builder().inbox(8).build().await.expect("a loop");
    let text = |source| Observation::text(source, "In those days.");
    sage.observe(text("prayer")).expect("room");
    while !sage.is_idle() {
        sage.tick().await.expect("a tick");
    }
    // The step after it brings it to the mind.
    sage.tick().await.expect("a tick");
    for _ in 0..8 {
        sage.observe(text("prayer")).expect("room");
    }
    sage.observe(text("stranger")).expect("room is made");
    let one_more = sage.observe(text("prayer"));
    assert!(matches!(one_more, Err(ObserveError::Shed { .. })));
    let shed = sage.counts().shed;
    let shed: Vec<_> = shed
        .iter()
        .map(|shed| (shed.source.as_str(), shed.reason, shed.observations))
        .collect();
    let expected = [ShedReason::Full, ShedReason::Displaced];
    assert_eq!(shed, expected.map(|reason| ("prayer", reason, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_loop_answers_any_task_and_does_not_spin() {
    let built = builder().idle_pace(Duration::from_millis(50));
    let sage = built.build().await.expect("a loop");
    let mut actions = sage.actions();
    let handle = sage.run();
    let asking = handle.clone();
    let asked = tokio::spawn(async move { asking.observe(Observation::question("me", HELEN)) });
    let asked = asked.await.expect("a task").expect("taken");
    let answer = async {
        while let Some(action) = actions.next().await {
            if let [(id, text, _)] = says(std::slice::from_ref(&action))[..] {
                return (id, text.to_owned());
            }
        }
        panic!("no answer");
    };
    let answer = tokio::time::timeout(LONG, answer).await.expect("in time");
    assert_eq!(answer, (asked, "Milan".to_owned()));
    handle.feedback(asked, 1.0).expect("taken");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(handle.is_idle());
    let (before, since) = (handle.tick_count(), Instant::now());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let passed = handle.tick_count() - before;
    // A busy machine is late, never early.
    let due = since.elapsed().as_millis() as u64 / 50;
    assert!((1..=due + 1).contains(&passed), "{passed} ticks, {due} due");
    let outcome = handle.shutdown().await.expect("an end");
    assert_eq!((outcome.counts.taken, outcome.counts.refused), (2, 0));
    assert_eq!(outcome.ticks, handle.tick_count());
    while let Some(action) = actions.next().await {
        assert!(matches!(action, Action::State { .. }), "{action}");
    }
}

#[tokio::test]
async fn a_shutdown_finishes_the_answer_under_way_and_accounts_for_the_rest() {
    for finish in [true, false] {
        let mut sage = builder().answer_tokens(24).build().await.expect("a loop");
        let mut telemetry = sage.telemetry();
        // Its answer is long.
        let say = "Say the longest word: kitchen, map, forest, rain, bread.";
        let first = sage
            .observe(Observation::question("me", say))
            .expect("taken");
        let second = sage
            .observe(Observation::question("me", HELEN))
            .expect("taken");
        let text = sage
            .observe(Observation::text("book", "In those days."))
            .expect("taken");
        let mut begun = false;
        while !begun {
            sage.tick().await.expect("a tick");
            begun = all(&mut telemetry)
                .iter()
                .any(|event| matches!(event.kind, EventKind::Token { .. }));
        }
        let mut actions = sage.actions();
        let late = sage
            .observe(Observation::question("me", HELEN))
            .expect("taken");
        let outcome = if finish {
            sage.shutdown().await
        } else {
            sage.shutdown_now().await
        };
        let counts = outcome.expect("an end").counts;
        let mut done = Vec::new();
        while let Some(action) = actions.next().await {
            done.push(action);
        }
        let said = says(&done);
        assert_eq!((said.len(), said[0].0), (1, first));
        assert_eq!(said[0].2 == Ended::Interrupted, !finish, "{said:?}");
        assert_eq!(ids(&done), [first, second, late]);
        assert_eq!((counts.submitted, counts.taken, counts.open), (4, 3, 0));
        assert_eq!(counts.shed[0].reason, ShedReason::Shutdown);
        let refused = |event: &sage::events::Event| match event.kind {
            EventKind::Refused { id, .. } => Some(id),
            _ => None,
        };
        let events = all(&mut telemetry);
        assert_eq!(events.iter().find_map(refused), Some(text));
        assert!(
            events
                .iter()
                .any(|event| matches!(event.kind, EventKind::Summary(_)))
        );
    }
}

#[tokio::test]
async fn what_was_learned_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = folder.path().join("trust.redb");
    let mut outcomes = 0;
    for _ in 0..2 {
        let mut sage = builder().ledger(&ledger).build().await.expect("a loop");
        sage.observe(Observation::question("me", HELEN))
            .expect("taken");
        while !sage.is_idle() {
            sage.tick().await.expect("a tick");
        }
        sage.shutdown().await.expect("an end");
        let (file, _) = LedgerFile::open(&ledger).expect("a ledger");
        assert!(file.about().outcomes > outcomes);
        outcomes = file.about().outcomes;
    }
    let model = open_model(crate::common::embedding::MODEL).expect("the model");
    let (file, _) = LedgerFile::open(&ledger).expect("a ledger");
    assert_eq!(file.about().fingerprint, model.fingerprint().expect("one"));
}

#[tokio::test]
async fn a_loop_that_everyone_let_go_of_ends() {
    let sage = builder().build().await.expect("a loop");
    let mut telemetry = sage.telemetry();
    let handle = sage.run();
    drop(handle);
    let ended = async { while telemetry.next().await.is_some() {} };
    tokio::time::timeout(LONG, ended).await.expect("it ends");
}

#[tokio::test]
async fn a_panic_of_the_hosts_own_is_told() {
    let built = builder().on_action(|action| {
        if matches!(action, Action::Say { .. }) {
            panic!("an effector's own fault");
        }
    });
    let sage = built.build().await.expect("a loop");
    let mut actions = sage.actions();
    let handle = sage.run();
    handle
        .observe(Observation::question("me", HELEN))
        .expect("taken");
    let ended = tokio::time::timeout(LONG, handle.ended())
        .await
        .expect("in time");
    assert!(
        ended
            .expect_err("gone")
            .to_string()
            .contains("did a sensor or an effector panic?")
    );
    while actions.next().await.is_some() {}
    assert_eq!(
        handle.observe(Observation::text("book", "a")),
        Err(ObserveError::Ended)
    );
}
