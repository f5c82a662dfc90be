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
