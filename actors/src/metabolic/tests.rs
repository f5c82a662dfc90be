mod events;
mod memory;
mod properties;
mod reading;
mod shares;
mod world;

use super::directives::k_of;
use super::*;
use crate::config::ModuleShape;
use crate::protocol::{Assess, Cause, Module, Salience, SalienceReport, Spent, Tick, Transition};
use world::*;

#[test]
fn every_row_of_the_table() {
    let request = Input {
        request: true,
        outside: true,
        ..IDLE
    };
    let mut world = World::new();
    // Wake -> Focus by request, after the dwell; back when it is answered.
    assert_eq!(world.until(&request, 5), (State::Focus, Cause::Request));
    assert_eq!(world.tick, 5);
    assert_eq!(world.until(&IDLE, 5), (State::Wake, Cause::Settled));
    assert_eq!(
        world.until(
            &Input {
                salience: 0.9,
                ..IDLE
            },
            10
        ),
        (State::Focus, Cause::Drive)
    );
    assert_eq!(world.until(&IDLE, 10), (State::Wake, Cause::Settled));
    assert_eq!(world.until(&IDLE, 40), (State::Rest, Cause::Bored));
    // Rest -> Wake by drive or request.
    assert_eq!(
        world.until(
            &Input {
                salience: 0.4,
                ..IDLE
            },
            10
        ),
        (State::Wake, Cause::Drive)
    );
    assert_eq!(world.until(&IDLE, 40), (State::Rest, Cause::Bored));
}

#[test]
fn the_rows_of_dream() {
    let request = Input {
        request: true,
        outside: true,
        ..IDLE
    };
    let mut world = World::new();
    assert_eq!(world.until(&IDLE, 40), (State::Rest, Cause::Bored));
    // With enough episodes; woken; again; until nothing is left; until the time is up.
    let dreamy = Input {
        episodes: 16,
        ..IDLE
    };
    assert!(
        world
            .run(
                &Input {
                    episodes: 15,
                    ..IDLE
                },
                50
            )
            .is_empty()
    );
    assert_eq!(world.until(&dreamy, 10), (State::Dream, Cause::Quiet));
    let woken = Input {
        outside: true,
        ..dreamy
    };
    assert_eq!(world.until(&woken, 1), (State::Wake, Cause::Awakened));
    assert_eq!(world.until(&dreamy, 40), (State::Rest, Cause::Bored));
    assert_eq!(world.until(&dreamy, 10), (State::Dream, Cause::Quiet));
    assert_eq!(world.until(&IDLE, 5), (State::Rest, Cause::Consolidated));
    assert_eq!(world.until(&dreamy, 10), (State::Dream, Cause::Quiet));
    let began = world.tick;
    assert_eq!(
        world.until(&dreamy, 200),
        (State::Rest, Cause::Consolidated)
    );
    assert_eq!(world.tick - began, 150);
    assert!(
        world.run(&dreamy, 300).is_empty(),
        "a Dream that consolidated nothing is not repeated"
    );
    assert_eq!(
        world.until(
            &Input {
                episodes: 17,
                ..IDLE
            },
            10
        ),
        (State::Dream, Cause::Quiet)
    );
    assert_eq!(world.until(&request, 5), (State::Wake, Cause::Awakened));
}

// Long: one world that goes through the states, in their order.
#[test]
fn the_rows_of_crisis() {
    let mut world = World::new();
    let alarm = Input {
        threat: true,
        outside: true,
        ..IDLE
    };
    assert_eq!(
        world.until(&alarm, 1),
        (State::Threat, Cause::Threat),
        "no dwell into Threat"
    );
    assert!(
        world.run(&alarm, 100).is_empty(),
        "it stays while the alarm stands and nothing is spent"
    );
    assert_eq!(world.until(&IDLE, 3), (State::Focus, Cause::ThreatOver));
    // Disarmed: neither alarm nor drive enter again until 30 ticks without either.
    assert!(
        world
            .run(&alarm, 10)
            .iter()
            .all(|change| change.to != State::Threat)
    );
    assert!(
        world
            .run(&IDLE, 29)
            .iter()
            .all(|change| change.to != State::Threat)
    );
    let urgent = Input {
        urgency: 1.0,
        ..IDLE
    };
    assert!(
        world
            .run(&urgent, 2)
            .iter()
            .all(|change| change.to != State::Threat)
    );
    world.run(&IDLE, 30);
    assert!(
        world
            .step(&urgent)
            .transition
            .is_none_or(|change| change.to != State::Threat),
        "once is not enough"
    );
    assert_eq!(
        world.until(&urgent, 1),
        (State::Threat, Cause::Overwhelming)
    );
    assert_eq!(
        world.until(
            &Input {
                load: 1.0,
                ..urgent
            },
            100
        ),
        (State::Wake, Cause::ThreatSpent)
    );
    // A level that falls: Depletion at once, and its answer ends; it recovers with the level.
    let low = |level| Input {
        level,
        request: true,
        ..IDLE
    };
    assert_eq!(
        world.until(&low(0.09), 1),
        (State::Depletion, Cause::Exhausted)
    );
    assert!(world.step(&low(0.09)).end_answer);
    assert!(!world.step(&low(0.2)).end_answer);
    world.run(&low(0.2), 20);
    assert_eq!(world.until(&low(0.26), 1), (State::Rest, Cause::Recovered));
    assert!(world.run(&low(0.4), 20).is_empty());
    assert_eq!(world.until(&low(0.41), 1), (State::Wake, Cause::Request));
    assert!(world.run(&low(0.5), 20).is_empty());
    assert_eq!(world.until(&low(0.51), 1), (State::Focus, Cause::Request));
    assert_eq!(world.until(&low(0.29), 5), (State::Wake, Cause::Tired));
    assert_eq!(world.until(&low(0.19), 5), (State::Rest, Cause::Tired));
    // Threat ends when energy does.
    world.run(&IDLE, 60);
    assert_eq!(world.until(&alarm, 1), (State::Threat, Cause::Threat));
    assert_eq!(
        world.until(
            &Input {
                level: 0.24,
                ..alarm
            },
            6
        ),
        (State::Wake, Cause::Tired)
    );
}

#[test]
fn budgets_of_the_real_modules() {
    let budgets = MindConfig::default().budgets;
    let k = |shape: &ModuleShape| State::ALL.map(|state| k_of(shape, &budgets[state]));
    assert_eq!(k(&thinker()), [4, 8, 4, 8, 16, 2]);
    let talks = k(&talker());
    assert_eq!([talks[0], talks[1], talks[4], talks[5]], [3, 6, 6, 2]);
    assert_eq!(
        k_of(
            &ModuleShape {
                k_trained: 1,
                ..thinker()
            },
            &budgets.depletion
        ),
        1
    );
    assert_eq!(
        k_of(
            &ModuleShape {
                experts: 10,
                ..thinker()
            },
            &budgets.threat
        ),
        10
    );

    let one = directives::undriven(&config(), State::Wake, &budgets.wake, POOL);
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].expert_bytes, 8 * 1000 + 475_000);
    assert_eq!(one[0].speculation_bytes, 50_000);
    assert_eq!(one[0].miss_bytes_per_token, Some(8 * 48 * 1000 / 2));
    assert_eq!((one[0].lookahead, one[0].lambda), (0, 0.10));
    let focus = directives::undriven(&config(), State::Focus, &budgets.focus, POOL);
    assert_eq!(
        (focus[0].miss_bytes_per_token, focus[0].lookahead),
        (None, 8)
    );

    let both = MindConfig {
        modules: vec![thinker(), talker()],
        ..config()
    };
    let rest = directives::undriven(&both, State::Rest, &budgets.rest, POOL);
    assert_eq!(rest.len(), 1, "the talker sleeps");
    let empty = directives::undriven(&both, State::Focus, &budgets.focus, 0);
    let windows: Vec<_> = empty.iter().map(|d| (d.k, d.expert_bytes)).collect();
    let window = 8 * talker().expert_bytes;
    assert_eq!(windows, [(8, 8000), (6, window)], "each has its window");
    let wake = directives::undriven(&both, State::Wake, &budgets.wake, POOL);
    let shared: u64 = wake.iter().map(|d| d.expert_bytes - 8000).sum();
    assert!(wake.len() == 2 && (474_998..=475_000).contains(&shared));
    let missed = wake.iter().filter_map(|d| d.miss_bytes_per_token);
    let allowed = (thinker().exact_token_bytes() + talker().exact_token_bytes()) / 2;
    let missed: u64 = missed.sum();
    assert!(
        (allowed - 1..=allowed).contains(&missed),
        "{missed} of {allowed}"
    );
    let none = directives::undriven(&config(), State::Threat, &budgets.threat, 0);
    assert_eq!(
        (none[0].k, none[0].expert_bytes),
        (8, 8000),
        "k never exceeds what can be pinned"
    );
}

#[test]
fn held_budgets_never_change() {
    let hold = StateBudget {
        f: 1.0,
        residency_bias: 0.0,
        ..config().budgets.focus
    };
    let mut world = World::new();
    world.controller = Controller::new(&MindConfig {
        hold: Some(hold),
        ..config()
    });
    let greedy = Input {
        threat: true,
        level: 0.0,
        load: 4.0,
        io_load: 9.0,
        ticks: 64,
        urgency: 1.0,
        ..IDLE
    };
    for _ in 0..200 {
        let directives = world.step(&greedy);
        assert_eq!(
            (directives.state, directives.transition),
            (State::Focus, None)
        );
        assert!(directives.may_step && !directives.end_answer && directives.tokens_max.is_none());
        assert_eq!(
            (directives.modules[0].k, directives.modules[0].lambda),
            (8, 0.0)
        );
    }
}

#[test]
fn a_mind_can_be_held_in_any_state() {
    for state in State::ALL {
        let held = MindConfig {
            hold: Some(config().budgets[state]),
            hold_state: Some(state),
            ..config()
        };
        held.validate().unwrap();
        let mut world = World::new();
        world.controller = Controller::new(&held);
        for _ in 0..100 {
            let directives = world.step(&IDLE);
            assert_eq!((directives.state, directives.transition), (state, None));
            assert_eq!(directives.modules[0].state, state);
        }
    }
    let without = MindConfig {
        hold_state: Some(State::Rest),
        ..config()
    };
    assert!(without.validate().is_err());
}

#[test]
fn the_drive_weighs_ticks_and_takes_urgency_at_once() {
    let mut world = World::new();
    let full = Input {
        salience: 1.0,
        ..IDLE
    };
    let urge = 1.0 - 0.2 * 0.5 * 0.3 * 0.5;
    assert!((world.step(&full).drive - 0.3 * urge).abs() < 1e-6);
    assert!((world.step(&IDLE).drive - 0.7 * 0.3 * urge).abs() < 1e-6);
    let mut chunk = World::new();
    let drive = chunk.step(&Input { ticks: 10, ..full }).drive;
    assert!((drive - (1.0 - 0.7f32.powi(10)) * urge).abs() < 1e-5);
    assert_eq!(
        world
            .step(&Input {
                urgency: 0.9,
                ..IDLE
            })
            .drive,
        0.9
    );
    assert_eq!(
        world
            .step(&Input {
                urgency: f32::NAN,
                ..IDLE
            })
            .drive,
        world.controller.drive_average.average
    );
}

#[test]
fn each_of_the_five_moves_the_drive() {
    let energy = crate::config::EnergyConfig::default();
    let calm = Salience {
        reward: 0.5,
        ..Salience::default()
    };
    assert_eq!(urge(&calm, &energy), 0.0);
    let only = [
        (
            Salience {
                surprise: 1.0,
                ..calm
            },
            0.8,
        ),
        (
            Salience {
                novelty: 1.0,
                ..calm
            },
            0.5,
        ),
        (
            Salience {
                arousal: 1.0,
                ..calm
            },
            0.7,
        ),
        (
            Salience {
                conflict: 1.0,
                ..calm
            },
            0.5,
        ),
        (
            Salience {
                reward: 1.0,
                ..calm
            },
            0.4,
        ),
        (
            Salience {
                reward: 0.0,
                ..calm
            },
            0.4,
        ),
    ];
    for (salience, expected) in only {
        assert!(
            (urge(&salience, &energy) - expected).abs() < 1e-6,
            "{salience:?}"
        );
    }
}

#[test]
fn a_step_that_is_not_covered_idles() {
    let mut world = World::new();
    // A chunk far beyond the bucket: clamped at 0, the rest is in the books.
    let assess = Assess {
        ticks: 1,
        spent: Spent {
            compute_units: 300.0,
            miss_bytes: 0,
        },
        pool_bytes: POOL,
        ..Assess::default()
    };
    let directives = world.controller.step(&assess);
    assert_eq!(
        (directives.energy.compute, directives.energy.atp),
        (0.0, 0.0)
    );
    assert_eq!(world.controller.reserves().compute.overdrawn_units, 44.0);
    assert!(!directives.may_step && directives.end_answer);
    assert_eq!(
        directives.transition.map(|change| change.cause),
        Some(Cause::Exhausted)
    );
    assert!(
        world.step(&IDLE).may_step,
        "one tick's refill covers the cheapest form"
    );
    let reads = Assess {
        spent: Spent {
            miss_bytes: 257 * 8 * 48 * 1000,
            ..Spent::default()
        },
        ..assess
    };
    assert!(
        !world.controller.step(&reads).may_step,
        "and so must the bytes be"
    );
}
