use super::*;
use crate::core::Limit;

fn inbox(observations: usize) -> Inbox {
    Inbox::new(Bound {
        observations,
        bytes: 1 << 20,
    })
}

fn limit(bytes: u64) -> Observation {
    Observation::Limit {
        source: "host".to_owned(),
        limit: Limit::Bytes(bytes),
    }
}

fn reading(value: f64) -> Observation {
    super::super::ports::SensorValue::new(value).of("tide")
}

/// Kind, source and number of everything that waits, in order.
fn waiting(inbox: &Inbox) -> Vec<(&'static str, &str, u64)> {
    let waiting = inbox.waiting.iter();
    waiting
        .map(|waiter| {
            (
                waiter.observation.kind(),
                waiter.observation.source(),
                waiter.id,
            )
        })
        .collect()
}

fn check(inbox: &Inbox) {
    let counts = inbox.counts();
    let all = counts.taken + counts.waiting + counts.shed_total();
    assert_eq!(counts.submitted, all, "{counts:?}");
    let bytes: usize = inbox.waiting.iter().map(Waiter::bytes).sum();
    assert_eq!(inbox.bytes, bytes);
}

#[test]
fn the_least_goes_first() {
    // Each displaces the one before it, and not the other way round.
    let ladder = [
        Observation::text("dull", "a"),
        Observation::text("new", "a"),
        Observation::text("keen", "a"),
        reading(1.0),
        reading(2.0),
        Observation::question("visitor", "a"),
        Observation::text("dull", "a").urgent(0.2),
        Observation::question("visitor", "a").urgent(0.2),
        Observation::Feedback(1.0),
        Observation::goal("host", "a"),
        Observation::alarm("watch", "a").urgent(0.0),
        Observation::alarm("watch", "a").urgent(1.0),
        limit(1),
    ];
    for (at, lesser) in ladder.iter().enumerate() {
        for greater in &ladder[at + 1..] {
            let of = |first: &Observation, then: &Observation| {
                let mut inbox = inbox(8);
                inbox.running.learn("dull", 0.1);
                inbox.running.learn("keen", 0.9);
                for _ in 0..7 {
                    inbox.offer(limit(1), None).expect("room");
                }
                inbox.offer(first.clone(), None).expect("room");
                let offered = inbox.offer(then.clone(), None);
                check(&inbox);
                offered
            };
            assert_eq!(of(lesser, greater), Ok(8), "{lesser:?} for {greater:?}");
            // A limit cannot be refused, and the older of two readings goes.
            if !matches!(lesser, Observation::Limit { .. } | Observation::Sensor(_)) {
                let refused = Err((8, ShedReason::Full));
                assert_eq!(of(greater, lesser), refused, "{greater:?} for {lesser:?}");
            }
        }
    }
}

#[test]
fn of_equals_the_first_stay_but_of_readings_the_last() {
    let mut inbox = inbox(8);
    for number in 0..20 {
        let _ = inbox.offer(Observation::text("book", number.to_string()), None);
    }
    let stayed: Vec<u64> = waiting(&inbox).iter().map(|waiter| waiter.2).collect();
    assert_eq!(stayed, (0..8).collect::<Vec<_>>());
    for value in 0..20 {
        let _ = inbox.offer(reading(f64::from(value)), None);
    }
    let stayed: Vec<u64> = waiting(&inbox).iter().map(|waiter| waiter.2).collect();
    assert_eq!(stayed, (32..40).collect::<Vec<_>>());
    check(&inbox);
}

#[test]
fn only_the_newest_limits_wait() {
    let mut inbox = inbox(8);
    for bytes in 0..30 {
        inbox.offer(limit(bytes), None).expect("a fact");
        check(&inbox);
    }
    assert_eq!(inbox.waiting.len(), 8);
    assert_eq!(inbox.waiting.back().map(|waiter| waiter.id), Some(29));
    assert_eq!(inbox.counts().shed[0].reason, ShedReason::Superseded);
}

#[test]
fn bytes_are_bounded_and_nothing_goes_in_vain() {
    let mut inbox = Inbox::new(Bound {
        observations: 100,
        bytes: 10_000,
    });
    let long = |bytes: usize| "x".repeat(bytes);
    for _ in 0..4 {
        inbox
            .offer(Observation::text("book", long(2_000)), None)
            .expect("room");
    }
    // It would not fit even if all that is less went: so nothing does.
    let question = Observation::question("visitor", long(20_000));
    let (_, reason) = inbox.offer(question, None).expect_err("too long");
    assert_eq!((reason, inbox.waiting.len()), (ShedReason::Bytes, 4));
    let question = Observation::question("visitor", long(5_000));
    inbox.offer(question, None).expect("room is made");
    assert_eq!(inbox.waiting.len(), 3);
    check(&inbox);
}

#[test]
fn what_the_loop_has_not_read_counts() {
    let mut inbox = inbox(8);
    inbox.hold(Waiting {
        texts: 2,
        questions: 2,
        ..Waiting::default()
    });
    for number in 0..8 {
        let offered = inbox.offer(Observation::text("book", "a"), None);
        assert_eq!(offered.is_ok(), number < 4, "{number}");
    }
    // It is not given more than it may hold.
    assert!(inbox.take().is_empty());
    inbox.hold(Waiting::default());
    assert_eq!(inbox.take().len(), 2);
    check(&inbox);
}

#[test]
fn a_tick_takes_in_order_of_arrival_the_urgent_first_and_one_feedback() {
    let mut inbox = inbox(16);
    let mut offer = |observation| inbox.offer(observation, None).expect("room");
    for number in 0..6 {
        offer(Observation::text("book", number.to_string()));
    }
    let urgent = offer(Observation::text("book", "now").urgent(0.5));
    let praise = offer(Observation::Feedback(1.0));
    let blame = offer(Observation::Feedback(-1.0));
    let alarm = offer(Observation::alarm("watch", "fire"));
    let ids = |inbox: &mut Inbox| -> Vec<u64> {
        let taken = inbox.take();
        taken.iter().map(|waiter| waiter.id).collect()
    };
    assert_eq!(ids(&mut inbox), [0, 1, 2, urgent, praise, alarm]);
    check(&inbox);
    assert_eq!(ids(&mut inbox), [3, 4, 5, blame]);
    assert!(inbox.take().is_empty());
    assert!(!inbox.is_idle(), "the loop has not said that it is done");
    inbox.hold(Waiting::default());
    assert!(inbox.is_idle());
}

#[test]
fn notes_and_names_are_bounded_and_counters_exact() {
    let mut inbox = inbox(8);
    for number in 0..5_000 {
        let _ = inbox.offer(Observation::text(number.to_string(), "a"), None);
    }
    check(&inbox);
    let (notes, unnoted) = inbox.take_notes();
    assert_eq!((notes.len(), unnoted), (MOST_NOTES, 5_000 - 8 - 1024));
    let counts = inbox.counts();
    assert_eq!(counts.shed.len(), 129);
    assert_eq!(counts.shed_total(), 4_992);
    inbox.close();
    check(&inbox);
    assert_eq!(inbox.counts().waiting, 0);
}
