use proptest::prelude::*;

use super::directives::k_of;
use super::*;
use crate::config::ModuleShape;
use crate::protocol::{Assess, Cause, Module, SalienceReport, Spent, Transition};

fn thinker() -> ModuleShape {
    ModuleShape {
        module: Module::Thinker,
        layers: (0..48).collect(),
        experts: 128,
        k_trained: 8,
        norm_topk_prob: true,
        expert_bytes: 1000,
    }
}

fn talker() -> ModuleShape {
    ModuleShape {
        module: Module::Talker,
        layers: (0..20).collect(),
        k_trained: 6,
        ..thinker()
    }
}

fn config() -> MindConfig {
    MindConfig {
        modules: vec![thinker()],
        pool_bytes: POOL,
        ..MindConfig::default()
    }
}

const POOL: u64 = 1_000_000;

/// One tick of an input. `drive` comes as surprise and conflict at once, so that it can reach 0.9.
#[derive(Clone, Copy, Debug)]
struct Input {
    request: bool,
    salience: f32,
    urgency: f32,
    threat: bool,
    outside: bool,
    level: f64,
    episodes: u32,
    load: f64,
    io_load: f64,
    ticks: u32,
}

const IDLE: Input = Input {
    request: false,
    salience: 0.0,
    urgency: 0.0,
    threat: false,
    outside: false,
    level: 1.0,
    episodes: 0,
    load: 0.0,
    io_load: 0.0,
    ticks: 1,
};

/// What a body would report that does `load` of what the last directives allow.
fn assess(input: &Input, last: Option<&Directives>, tick: Tick) -> Assess {
    let shape = thinker();
    let spent = match last {
        Some(last) if last.may_step => {
            let tokens = f64::from(input.ticks);
            let units = f64::from(last.modules[0].k) / f64::from(shape.k_trained);
            let dearest = units * shape.exact_token_bytes() as f64;
            let cap = last.modules[0]
                .miss_bytes_per_token
                .map_or(dearest, |cap| dearest.min(cap as f64));
            Spent {
                compute_units: input.load * units * tokens,
                miss_bytes: (input.io_load * cap * tokens) as u64,
            }
        }
        _ => Spent::default(),
    };
    let s = input.salience;
    let salience = Salience {
        surprise: s,
        novelty: s,
        arousal: s,
        conflict: s,
        reward: 0.5,
    };
    Assess {
        tick,
        ticks: input.ticks,
        report: SalienceReport {
            salience,
            urgency: input.urgency,
            threat: f32::from(u8::from(input.threat)),
            ..SalienceReport::default()
        },
        open_requests: u32::from(input.request),
        quiet: !input.outside && !input.request,
        outside_input: input.outside,
        spent,
        pool_bytes: POOL,
        unreclaimable_bytes: 0,
        levels: vec![input.level],
        unconsolidated_episodes: input.episodes,
    }
}

use crate::protocol::Tick;

/// A body that does what it may, tick after tick.
struct World {
    controller: Controller,
    last: Option<Directives>,
    tick: Tick,
}

impl World {
    fn new() -> Self {
        Self {
            controller: Controller::new(&config()),
            last: None,
            tick: 0,
        }
    }

    fn step(&mut self, input: &Input) -> Directives {
        let mut input = *input;
        if let Some(most) = self.last.as_ref().and_then(|last| last.tokens_max) {
            input.ticks = input.ticks.min(most).max(1);
        }
        self.tick += u64::from(input.ticks);
        let directives = self
            .controller
            .step(&assess(&input, self.last.as_ref(), self.tick));
        self.last = Some(directives.clone());
        directives
    }

    fn run(&mut self, input: &Input, steps: u32) -> Vec<Transition> {
        (0..steps)
            .filter_map(|_| self.step(input).transition)
            .collect()
    }

    /// Runs until the state changes; fails after `steps`.
    fn until(&mut self, input: &Input, steps: u32) -> (State, Cause) {
        for _ in 0..steps {
            if let Some(change) = self.step(input).transition {
                return (change.to, change.cause);
            }
        }
        panic!("still {:?} after {steps} steps", self.controller.state());
    }
}

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
    // Rest -> Dream with enough episodes; woken; again; until nothing is left; until the time is up.
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
    world.step(&Input {
        outside: true,
        ..dreamy
    });
    assert_eq!(
        world.until(&dreamy, 5),
        (State::Wake, Cause::Awakened),
        "an input within the dwell is not lost"
    );
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
            60
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

    let one = directives::directives(&config(), State::Wake, &budgets.wake, POOL, 7);
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].expert_bytes, 8 * 1000 + 475_000);
    assert_eq!(one[0].speculation_bytes, 50_000);
    assert_eq!(one[0].miss_bytes_per_token, Some(8 * 48 * 1000 / 2));
    assert_eq!(
        (one[0].epoch, one[0].lookahead, one[0].lambda),
        (7, 0, 0.10)
    );
    let focus = directives::directives(&config(), State::Focus, &budgets.focus, POOL, 7);
    assert_eq!(
        (focus[0].miss_bytes_per_token, focus[0].lookahead),
        (None, 8)
    );

    let both = MindConfig {
        modules: vec![thinker(), talker()],
        ..config()
    };
    let rest = directives::directives(&both, State::Rest, &budgets.rest, POOL, 1);
    assert_eq!(rest.len(), 1, "the talker sleeps");
    let wake = directives::directives(&both, State::Wake, &budgets.wake, POOL, 1);
    let shared: u64 = wake.iter().map(|d| d.expert_bytes - 8000).sum();
    assert!(wake.len() == 2 && (474_998..=475_000).contains(&shared));
    let none = directives::directives(&config(), State::Threat, &budgets.threat, 0, 1);
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
        world.controller.drive_average
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

// ---------------------------------------------------------------- properties

prop_compose! {
    fn inputs()(
        request in any::<bool>(),
        salience in 0.0f32..=1.0,
        urgency in prop_oneof![2 => Just(0.0f32), 1 => 0.0f32..=1.0, 1 => Just(1.0f32)],
        threat in prop::bool::weighted(0.2),
        outside in any::<bool>(),
        level in prop_oneof![2 => Just(1.0f64), 1 => 0.0f64..=1.0],
        episodes in 0u32..40,
        load in 0.0f64..=1.0,
        io_load in 0.0f64..=1.0,
        ticks in prop_oneof![3 => Just(1u32), 1 => 1u32..100],
    ) -> Input {
        Input { request, salience, urgency, threat, outside, level, episodes, load, io_load, ticks }
    }
}

/// Runs one tick at a time and returns the ticks and states of all transitions.
fn history(input: &Input, ticks: u64) -> Vec<(u64, Transition)> {
    let mut world = World::new();
    let mut changes = Vec::new();
    while world.tick < ticks {
        if let Some(change) = world.step(input).transition {
            changes.push((world.tick, change));
        }
    }
    changes
}

fn books_balance(world: &World, capacity: f64) -> bool {
    [
        world.controller.reserves().compute,
        world.controller.reserves().io,
    ]
    .iter()
    .all(|bucket| {
        let minted = capacity + bucket.refilled_units + bucket.overdrawn_units
            - bucket.spilled_units
            - bucket.spent_units
            - bucket.level();
        minted.abs() < 1e-6 && (0.0..=capacity).contains(&bucket.level())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_constant_input_without_request_settles_within_200_ticks(input in inputs()) {
        // Without a request nothing is decoded: the buckets do not drift.
        let input = Input { request: false, load: 0.0, io_load: 0.0, ticks: 1, ..input };
        let late: Vec<_> = history(&input, 3000).into_iter().filter(|(tick, _)| *tick > 200).collect();
        prop_assert!(late.is_empty(), "{:?}", late);
    }

    #[test]
    fn a_constant_request_has_no_cycle_shorter_than_50_ticks(input in inputs()) {
        let input = Input { request: true, ticks: 1, ..input };
        // A cycle: the same transition again, once what came before has settled.
        let changes: Vec<_> = history(&input, 6000).into_iter().filter(|(tick, _)| *tick > 200).collect();
        for (i, (tick, change)) in changes.iter().enumerate() {
            if let Some((again, _)) = changes[i + 1..].iter().find(|(_, other)| other.to == change.to) {
                prop_assert!(again - tick >= 50, "{:?} at {} and {}", change, tick, again);
            }
        }
    }

    #[test]
    fn threat_spends_at_most_its_cap_per_arming(inputs in prop::collection::vec((inputs(), 1u32..60), 1..20)) {
        let mut world = World::new();
        let mut spent = 0.0;
        for (input, steps) in inputs {
            for _ in 0..steps {
                let before = world.controller.state();
                let (compute, io) = spent_so_far(&world);
                let directives = world.step(&input);
                let (compute, io) = (spent_so_far(&world).0 - compute, spent_so_far(&world).1 - io);
                if before == State::Threat {
                    spent += compute + io;
                }
                prop_assert!(spent <= 64.0 + 1e-6, "{}", spent);
                if directives.transition.is_some_and(|change| change.to == State::Threat) {
                    spent = 0.0;
                }
            }
        }
    }

    #[test]
    fn buckets_are_never_negative_and_never_minted(inputs in prop::collection::vec((inputs(), 1u32..60), 1..20)) {
        let mut world = World::new();
        for (input, steps) in inputs {
            for _ in 0..steps {
                let input = Input { load: input.load * 3.0, io_load: input.io_load * 20.0, ..input };
                let energy = world.step(&input).energy;
                prop_assert!(books_balance(&world, 256.0));
                prop_assert!((0.0..=100.0).contains(&energy.atp));
            }
        }
    }

    #[test]
    fn depletion_recovers_when_idle(inputs in prop::collection::vec((inputs(), 1u32..60), 0..20)) {
        let mut world = World::new();
        for (input, steps) in inputs {
            world.run(&Input { load: input.load * 3.0, ..input }, steps);
        }
        world.step(&Input { level: 0.0, ..IDLE });
        let ticks = world.tick;
        while world.controller.state() == State::Depletion {
            world.step(&IDLE);
            // A quarter of 256 at 0.75 a tick, and the dwell.
            prop_assert!(world.tick - ticks < 100);
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_states(inputs in prop::collection::vec((inputs(), 1u32..20), 1..20)) {
        let (mut one, mut other) = (World::new(), World::new());
        for (input, steps) in inputs {
            for _ in 0..steps {
                prop_assert_eq!(one.step(&input), other.step(&input));
            }
        }
    }

    #[test]
    fn only_threat_and_depletion_break_the_dwell(inputs in prop::collection::vec((inputs(), 1u32..20), 1..20)) {
        let mut world = World::new();
        let mut since = 0;
        for (input, steps) in inputs {
            for _ in 0..steps {
                let Some(change) = world.step(&input).transition else { continue };
                prop_assert_ne!(change.from, change.to);
                let urgent = matches!(change.to, State::Threat | State::Depletion);
                prop_assert!(urgent || change.cause == Cause::ThreatSpent || world.tick - since >= 5);
                since = world.tick;
            }
        }
    }
}

fn spent_so_far(world: &World) -> (f64, f64) {
    (
        world.controller.reserves().compute.spent_units,
        world.controller.reserves().io.spent_units,
    )
}
