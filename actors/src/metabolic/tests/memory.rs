//! Memory that shrinks: the level of a pool that has to go.

use super::*;

/// One idle tick with this pool, and so much in use that cannot be given back.
fn tick(controller: &mut Controller, tick: Tick, pool_bytes: u64, lacking: u64) -> Directives {
    controller.step(&Assess {
        pool_bytes,
        unreclaimable_bytes: lacking,
        ..assess(&IDLE, None, tick)
    })
}

#[test]
fn a_limit_at_the_floor_holds_and_one_below_it_exhausts() {
    let mut controller = Controller::new(&config());
    let at_floor = tick(&mut controller, 1, 0, 0);
    assert_eq!(at_floor.energy.level, 1.0);
    assert_eq!(at_floor.transition, None);
    let window = at_floor.modules[0].expert_bytes;
    assert!(
        window > 0 && at_floor.modules[0].k > 0,
        "one window is left"
    );
    // A single byte that is in use and not covered: nothing of the pool is left.
    let below = tick(&mut controller, 2, 0, 1);
    assert_eq!(below.energy.level, 0.0);
    let change = below.transition.expect("a crisis");
    assert_eq!(
        (change.to, change.cause),
        (State::Depletion, Cause::Exhausted)
    );
    assert!(below.end_answer);
    assert_eq!(below.modules[0].expert_bytes, window);
    // As long as it lasts, answers end; when the memory is back, so is the mind.
    assert!(tick(&mut controller, 3, 0, 1).end_answer);
    let entered = 2;
    let recovered = (4..60).find_map(|at| {
        let back = tick(&mut controller, at, POOL, 0);
        back.transition.map(|change| (at, change))
    });
    let (at, change) = recovered.expect("recovered");
    assert_eq!((change.to, change.cause), (State::Rest, Cause::Recovered));
    assert!(at >= entered + u64::from(config().transitions.dwell_ticks));
}

#[test]
fn the_level_is_the_share_of_the_pool_that_could_go() {
    let mut controller = Controller::new(&config());
    assert_eq!(tick(&mut controller, 1, 1000, 250).energy.level, 0.75);
    assert_eq!(tick(&mut controller, 2, 1000, 2000).energy.level, 0.0);
}

#[test]
fn directives_follow_the_pool() {
    let mut controller = Controller::new(&config());
    let bytes = |directives: &Directives| directives.modules[0].expert_bytes;
    let whole = tick(&mut controller, 1, POOL, 0);
    let tenth = tick(&mut controller, 2, POOL / 10, 0);
    let again = tick(&mut controller, 3, POOL, 0);
    assert!(bytes(&tenth) < bytes(&whole) / 2);
    assert_eq!(bytes(&again), bytes(&whole));
}

/// The talker reads nothing that is not its own, and k stays within what can be pinned.
#[test]
fn only_the_thinker_reads_with_fewer_experts() {
    let both = MindConfig {
        modules: vec![thinker(), talker()],
        ..config()
    };
    let of = |state: State, reading_share: f64, pool_bytes: u64| {
        let budget = StateBudget {
            reading_share,
            ..both.budgets[state]
        };
        let modules = directives::undriven(&both, state, &budget, pool_bytes);
        let ks = modules.iter().map(|module| (module.k, module.reading_k));
        ks.collect::<Vec<_>>()
    };
    assert_eq!(of(State::Focus, 1.0, POOL), [(8, None), (6, None)]);
    assert_eq!(of(State::Focus, 0.5, POOL), [(8, Some(4)), (6, None)]);
    assert_eq!(of(State::Wake, 0.01, POOL)[0], (4, Some(1)), "one at least");
    // Where memory holds no more than a window, twice the trained number is cut to it, and so is what is read.
    assert_eq!(of(State::Threat, 0.75, 0)[0], (8, None));
}
