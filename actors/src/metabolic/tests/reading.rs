//! Observations that take several steps to read.

use super::*;

/// Steps of reading: (ticks, what surprise, novelty, arousal and conflict are, whether the end is still to come).
fn drives(steps: &[(u32, f32, bool)]) -> Vec<(f32, State)> {
    let mut controller = Controller::new(&config());
    let step = |(tick, (ticks, salient, unfinished)): (usize, &(u32, f32, bool))| {
        let mut assess = Assess {
            tick: tick as Tick,
            ticks: *ticks,
            unfinished: *unfinished,
            pool_bytes: POOL,
            ..Assess::default()
        };
        assess.report.salience = Salience {
            surprise: *salient,
            novelty: *salient,
            arousal: *salient,
            conflict: *salient,
            reward: 0.5,
        };
        let directives = controller.step(&assess);
        (directives.drive, directives.state)
    };
    steps.iter().enumerate().map(step).collect()
}

#[test]
fn an_observation_weighs_with_all_its_ticks_however_it_is_cut_into_steps() {
    let whole = drives(&[(33, 0.95, false)]);
    let cut = drives(&[(32, 0.0, true), (1, 0.95, false)]);
    assert_eq!(whole[0].0, cut[1].0);
    assert!(whole[0].0 > 0.8, "{whole:?}");
}

#[test]
fn the_drive_stands_while_the_next_observation_is_read_and_falls_at_its_end() {
    let drives = drives(&[
        (32, 0.95, false),
        (32, 0.0, true),
        (32, 0.0, true),
        (16, 0.0, false),
    ]);
    assert_eq!((drives[0].0, drives[1].0), (drives[1].0, drives[2].0));
    assert!(drives[3].0 < 0.01, "{drives:?}");
}

#[test]
fn a_drive_that_only_stands_is_not_overwhelming() {
    let standing = drives(&[(32, 1.0, false), (32, 0.0, true), (32, 0.0, true)]);
    assert!(
        standing
            .iter()
            .all(|(drive, state)| *drive > 0.95 && *state != State::Threat),
        "{standing:?}"
    );
    let measured = drives(&[(32, 1.0, false), (32, 1.0, false)]);
    assert_eq!(measured[1].1, State::Threat);
}

/// A question that is read in Focus, a chunk of at most so many tokens a step: energy and state afterwards, and the least that
/// energy ever was.
fn read_in_focus(chunk_tokens: u32, tokens: u32) -> (f64, State, f64) {
    let mut world = World::new();
    let question = Input {
        request: true,
        urgency: 0.9,
        ..IDLE
    };
    let asked = world.until(&question, 40);
    assert_eq!(asked.0, State::Focus);
    let (mut left, mut least) = (tokens, f64::INFINITY);
    let mut last = world.step(&question);
    while left > 0 {
        let most = last.tokens_max.unwrap_or(u32::MAX);
        let ticks = chunk_tokens.min(left).min(most).max(1);
        last = world.step(&Input {
            load: 1.0,
            ticks,
            ..question
        });
        left -= ticks;
        least = least.min(last.energy.atp);
    }
    (last.energy.atp, last.state, least)
}

#[test]
fn energy_does_not_depend_on_how_a_text_is_cut() {
    let short = read_in_focus(1, 300);
    for chunk_tokens in [7, 64, 128, 300] {
        let (atp, state, _) = read_in_focus(chunk_tokens, 300);
        assert!((atp - short.0).abs() < 1e-6, "{chunk_tokens}: {atp}");
        assert_eq!(state, short.1);
    }
}

#[test]
fn a_long_chunk_leaves_focus_where_short_ones_would_and_exhausts_nothing() {
    let leaves = config().transitions.focus_wake_atp;
    for chunk_tokens in [32, 512, 4096] {
        let (_, _, least) = read_in_focus(chunk_tokens, 4000);
        // A chunk of 32 tokens that begins above the threshold may end 8 units below it.
        assert!(least > leaves - 4.0, "{chunk_tokens}: {least}");
    }
}
