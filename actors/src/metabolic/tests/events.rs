//! What happens once: an input in a Dream, one stimulus in Rest, feedback.

use super::*;
use crate::protocol::Observe;
use crate::snarc::Assessor;

/// In Rest since this very tick.
fn resting() -> World {
    let mut world = World::new();
    assert_eq!(world.until(&IDLE, 40), (State::Rest, Cause::Bored));
    world
}

/// One step that is driven this much, and what came of it and of the quiet after it.
fn states_after(mut world: World, stimulus: &Input) -> Vec<State> {
    let first = world.step(stimulus).transition;
    let later = world.run(&IDLE, 20);
    let all = first.into_iter().chain(later);
    all.map(|change| change.to).collect()
}

#[test]
fn an_input_wakes_at_every_tick_of_a_dream() {
    let dreamy = Input {
        episodes: 16,
        ..IDLE
    };
    for inputs in [
        Input {
            outside: true,
            ..dreamy
        },
        Input {
            request: true,
            outside: true,
            ..dreamy
        },
    ] {
        for dreamt in 0..149 {
            let mut world = resting();
            assert_eq!(world.until(&dreamy, 10), (State::Dream, Cause::Quiet));
            assert!(world.run(&dreamy, dreamt).is_empty());
            assert_eq!(world.until(&inputs, 1), (State::Wake, Cause::Awakened));
        }
    }
}

#[test]
fn one_overwhelming_stimulus_in_rest_leads_to_focus_whenever_it_comes() {
    // Said to be urgent, or measured at the end of what it took to read.
    let urgent = Input {
        urgency: 1.0,
        outside: true,
        ..IDLE
    };
    let read = Input {
        salience: 1.0,
        ticks: 15,
        ..IDLE
    };
    for stimulus in [urgent, read] {
        for rested in 0..20 {
            let mut world = resting();
            world.run(&IDLE, rested);
            let states = states_after(world, &stimulus);
            assert_eq!(states, [State::Focus, State::Wake], "after {rested} ticks");
        }
    }
}

#[test]
fn a_weak_stimulus_wakes_and_a_tired_mind_stays_where_it_is() {
    let stimulus = |urgency, level| Input {
        urgency,
        level,
        outside: true,
        ..IDLE
    };
    let after = |stimulus: &Input| {
        let mut world = resting();
        let tired = Input {
            level: stimulus.level,
            ..IDLE
        };
        world.run(&tired, 10);
        world.step(stimulus).transition.map(|change| change.to)
    };
    assert_eq!(after(&stimulus(0.6, 1.0)), Some(State::Wake));
    assert_eq!(after(&stimulus(0.8, 1.0)), Some(State::Wake));
    assert_eq!(after(&stimulus(0.81, 1.0)), Some(State::Focus));
    assert_eq!(after(&stimulus(0.5, 1.0)), None);
    // Enough to wake, too little to attend; and too little for either.
    assert_eq!(after(&stimulus(1.0, 0.45)), Some(State::Wake));
    assert_eq!(after(&stimulus(1.0, 0.4)), None);
}

#[test]
fn numbers_of_before_keep_both_as_they_were() {
    let mut before = config();
    before.transitions.rest_focus_drive = 1.0;
    before.transitions.dream_wake_ticks = u32::MAX;
    let old = |mut world: World| {
        world.controller = Controller::new(&before);
        assert_eq!(world.until(&IDLE, 40), (State::Rest, Cause::Bored));
        world
    };
    let urgent = Input {
        urgency: 1.0,
        outside: true,
        ..IDLE
    };
    let mut world = old(World::new());
    world.run(&IDLE, 10);
    assert_eq!(states_after(world, &urgent), [State::Wake]);
    let mut world = old(World::new());
    let dreamy = Input {
        episodes: 16,
        ..IDLE
    };
    assert_eq!(world.until(&dreamy, 10), (State::Dream, Cause::Quiet));
    let woken = Input {
        outside: true,
        ..dreamy
    };
    assert!(world.run(&woken, 4).is_empty());
    assert_eq!(world.until(&woken, 1), (State::Wake, Cause::Awakened));
}

/// A mind that is told nothing but feedback.
struct Praised {
    assessor: Assessor,
    controller: Controller,
    tick: Tick,
}

impl Praised {
    fn new() -> Self {
        Self {
            assessor: Assessor::new(),
            controller: Controller::new(&config()),
            tick: 0,
        }
    }

    /// A tick; returns the drive.
    fn tick(&mut self, feedback: Option<f32>, open_requests: u32) -> f32 {
        self.tick += 1;
        let report = self.assessor.step(&Observe {
            tick: self.tick,
            ticks: 1,
            events_in: u32::from(feedback.is_some()),
            feedback,
            ..Observe::default()
        });
        let directives = self.controller.step(&Assess {
            tick: self.tick,
            ticks: 1,
            report,
            open_requests,
            quiet: feedback.is_none() && open_requests == 0,
            outside_input: feedback.is_some(),
            pool_bytes: POOL,
            ..Assess::default()
        });
        directives.drive
    }

    /// Ticks without anything until the mind rests.
    fn rests_after(&mut self) -> u32 {
        for tick in 0..200 {
            if self.controller.state() == State::Rest {
                return tick;
            }
            self.tick(None, 0);
        }
        panic!("still {:?}", self.controller.state());
    }
}

#[test]
fn no_feedback_keeps_the_mind_awake() {
    let single = (-20..=20).map(|value| vec![value as f32 / 20.0]);
    let several = [vec![1.0; 5], vec![-1.0; 40], [1.0, -1.0].repeat(20)];
    for feedback in single.chain(several) {
        // Before anything else; in Focus; in Rest, where it wakes nobody.
        let mut fresh = Praised::new();
        for value in &feedback {
            fresh.tick(Some(*value), 0);
        }
        assert!(fresh.rests_after() <= 60, "{feedback:?}");
        let mut focused = Praised::new();
        for _ in 0..10 {
            focused.tick(None, 1);
        }
        assert_eq!(focused.controller.state(), State::Focus);
        for value in &feedback {
            focused.tick(Some(*value), 0);
        }
        assert!(focused.rests_after() <= 60, "{feedback:?}");
        for value in &feedback {
            focused.tick(Some(*value), 0);
            assert_eq!(focused.controller.state(), State::Rest);
        }
    }
}

#[test]
fn feedback_is_felt_all_the_same() {
    for value in [1.0, -1.0] {
        let mut praised = Praised::new();
        let felt = praised.tick(Some(value), 0);
        // 0.3 of 0.4 at once; it rises while the feedback is fresh, and fades.
        assert!((felt - 0.12).abs() < 1e-6, "{felt}");
        let after: Vec<f32> = (0..100).map(|_| praised.tick(None, 0)).collect();
        assert!(after.iter().any(|drive| *drive > 0.25), "{after:?}");
        assert!(after[60] < 0.04 && after[99] < 0.01, "{after:?}");
    }
}
