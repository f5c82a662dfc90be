//! Properties of the controller under random and under constant inputs.

use proptest::prelude::*;

use super::*;
use crate::metabolic::table::{ROWS, TransitionRow};

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
    fn a_constant_input_that_costs_less_than_the_refill_settles(input in inputs(), load in 0.05f64..=0.37) {
        // Threat's allowance is used up in time; nothing else moves, and Threat is not entered again. At this load it
        // can take 192 units / (2 x 0.05 a tick) ticks, and what follows has the 200 ticks of an idle mind.
        let input = Input { request: false, load, io_load: load, ticks: 1, ..input };
        let settled = (crate::config::Transitions::default().threat_units_max / (2.0 * load)) as u64;
        let settled = (settled + 200).max(1000);
        let late: Vec<_> = history(&input, 3000).into_iter().filter(|(tick, _)| *tick > settled).collect();
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
                prop_assert!(spent <= crate::config::Transitions::default().threat_units_max + 1e-6, "{}", spent);
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
    fn only_what_is_urgent_breaks_the_dwell(inputs in prop::collection::vec((inputs(), 1u32..20), 1..20)) {
        let mut world = World::new();
        let mut since = 0;
        for (input, steps) in inputs {
            for _ in 0..steps {
                let Some(change) = world.step(&input).transition else { continue };
                prop_assert_ne!(change.from, change.to);
                let urgent = matches!(change.to, State::Threat | State::Depletion);
                let woken = change.cause == Cause::Awakened || (change.from, change.to) == (State::Rest, State::Focus);
                prop_assert!(urgent || woken || change.cause == Cause::ThreatSpent || world.tick - since >= 5);
                since = world.tick;
            }
        }
    }
}

/// A request and nothing else, at any load: from the first tick on no change comes again within 50 ticks.
#[test]
fn a_request_alone_never_cycles_within_50_ticks() {
    for load in 0..=10 {
        for io_load in 0..=5 {
            let input = Input {
                request: true,
                load: f64::from(load) / 10.0,
                io_load: f64::from(io_load) / 5.0,
                ..IDLE
            };
            let changes = history(&input, 3000);
            for (i, (tick, change)) in changes.iter().enumerate() {
                let again = changes[i + 1..].iter().find(|(_, other)| other == change);
                if let Some((again, _)) = again {
                    assert!(
                        again - tick >= 50,
                        "{input:?}: {change:?} at {tick}, {again}"
                    );
                }
            }
        }
    }
}

/// No row of the table is dead, and every change is some row's.
#[test]
fn every_row_is_used_and_every_change_is_a_row_s() {
    let mut changes = Vec::new();
    for seed in 0..300 {
        let mut world = World::new();
        for phase in 0..16 {
            let mut bits = mixed(seed * 16 + phase);
            let mut pick = |count: u64| {
                let picked = bits % count;
                bits /= count;
                picked as usize
            };
            let input = Input {
                request: pick(2) == 0,
                salience: [0.0, 0.6, 1.0][pick(3)],
                urgency: [0.0, 0.0, 0.0, 1.0][pick(4)],
                threat: pick(5) == 0,
                outside: pick(3) == 0,
                level: [1.0, 1.0, 0.45, 0.28, 0.15, 0.05][pick(6)],
                episodes: [0, 16, 30][pick(3)],
                load: pick(2) as f64,
                io_load: pick(2) as f64,
                ticks: 1,
            };
            changes.extend(world.run(&input, 1 + pick(80) as u32));
        }
    }
    let of = |row: &TransitionRow, change: &Transition| {
        row.from.includes(change.from) && (row.to, row.cause) == (change.to, change.cause)
    };
    for row in &ROWS {
        assert!(
            changes.iter().any(|change| of(row, change)),
            "never: {row:?}"
        );
    }
    for change in &changes {
        assert!(ROWS.iter().any(|row| of(row, change)), "no row: {change:?}");
    }
}

/// Well-spread bits of a number.
fn mixed(n: u64) -> u64 {
    let n = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ (n >> 27)
}

fn spent_so_far(world: &World) -> (f64, f64) {
    (
        world.controller.reserves().compute.spent_units,
        world.controller.reserves().io.spent_units,
    )
}
