//! Who gets how much of pool and reads.

use super::*;
use crate::config::TowerShape;
use crate::protocol::{ModalSalience, Modality, Senses, TowerDirective};

/// A turn that is spoken with more drive moves memory and reads to the talker; without one it sleeps.
#[test]
fn a_driven_turn_shifts_bytes_to_the_talker() {
    let both = MindConfig {
        modules: vec![thinker(), talker()],
        ..config()
    };
    let given = |spoken_drive: Option<f32>| {
        let mut controller = Controller::new(&both);
        let input = Input {
            request: true,
            ..IDLE
        };
        let assess = Assess {
            spoken_drive,
            ..assess(&input, None, 0)
        };
        let modules = controller.step(&assess).modules;
        let of = |module| modules.iter().find(|d| d.module == module).copied();
        (
            of(Module::Thinker).expect("never asleep"),
            of(Module::Talker),
        )
    };
    let (alone, asleep) = given(None);
    assert_eq!(asleep, None);
    let (calm, calm_talker) = given(Some(0.0));
    let (stirred, stirred_talker) = given(Some(1.0));
    let (calm_talker, stirred_talker) = (calm_talker.unwrap(), stirred_talker.unwrap());
    assert!(calm.expert_bytes < alone.expert_bytes);
    assert!(stirred_talker.expert_bytes > calm_talker.expert_bytes);
    assert!(stirred.expert_bytes < calm.expert_bytes);
    assert!(stirred_talker.miss_bytes_per_token > calm_talker.miss_bytes_per_token);
    assert!(stirred.miss_bytes_per_token < calm.miss_bytes_per_token);
}

/// Ears of so many bytes in pieces of 1,000.
fn ears_of(bytes: u64) -> TowerShape {
    TowerShape {
        modality: Modality::Audio,
        piece_bytes: vec![1000; bytes as usize / 1000],
    }
}

fn with_ears() -> MindConfig {
    // Experts that weigh about twice as much as the ears.
    let small = ModuleShape {
        expert_bytes: 200,
        ..thinker()
    };
    MindConfig {
        modules: vec![small],
        towers: vec![ears_of(600_000)],
        ..config()
    }
}

/// A mind with ears that a request or a threat moves, told of a sound of this salience for `steps` steps.
fn hearing(threat: bool, perceiving: bool, stirred: f32, steps: u64) -> Directives {
    let mut controller = Controller::new(&with_ears());
    let input = Input {
        request: !threat,
        threat,
        ..IDLE
    };
    let calm = Salience {
        reward: 0.5,
        ..Salience::default()
    };
    let of = |salience| ModalSalience {
        salience,
        ..ModalSalience::default()
    };
    let mut last = None;
    for tick in 0..steps {
        let mut assess = assess(&input, None, tick);
        if perceiving {
            assess.perceiving = vec![Modality::Text, Modality::Audio];
        }
        assess.report.senses = Some(Senses {
            text: of(calm),
            audio: Some(of(Salience {
                surprise: stirred,
                arousal: stirred,
                ..calm
            })),
            vision: None,
        });
        last = Some(controller.step(&assess));
    }
    last.unwrap()
}

fn ears(directives: &Directives) -> Option<TowerDirective> {
    directives.towers.first().copied()
}

/// The same input with a sound that stirs more moves memory from the experts to the ears.
#[test]
fn a_stirring_sound_shifts_bytes_to_the_ears() {
    let calm = hearing(false, true, 0.0, 12);
    let stirred = hearing(false, true, 1.0, 12);
    assert_eq!((calm.state, stirred.state), (State::Focus, State::Focus));
    let (quiet, loud) = (ears(&calm).unwrap(), ears(&stirred).unwrap());
    assert!(loud.drive > 0.9 && quiet.drive == 0.0, "{loud:?} {quiet:?}");
    assert!(loud.weight_bytes > quiet.weight_bytes * 3 / 2);
    for ears in [quiet, loud] {
        assert_eq!(u64::from(ears.pieces), ears.weight_bytes / 1000, "{ears:?}");
    }
    let lost = calm.modules[0].expert_bytes - stirred.modules[0].expert_bytes;
    let gained = loud.weight_bytes - quiet.weight_bytes;
    // Of what the ears gain the experts lose the state's share, less what is kept for reading ahead.
    let share = 0.85 * 0.95;
    assert!(
        (lost as f64 - share * gained as f64).abs() < 2.0,
        "{lost} {gained}"
    );
}

/// Ears that nothing was heard with for long sleep in Focus; in Threat all senses are awake, in Wake none is.
#[test]
fn towers_are_awake_where_the_state_says_so() {
    assert!(ears(&hearing(false, true, 0.0, 12)).is_some());
    assert_eq!(ears(&hearing(false, false, 0.0, 12)), None);
    let alarmed = hearing(true, false, 0.0, 2);
    assert_eq!(alarmed.state, State::Threat);
    assert!(ears(&alarmed).is_some());
    let mut quiet = assess(&IDLE, None, 0);
    quiet.perceiving = vec![Modality::Audio];
    assert_eq!(Controller::new(&with_ears()).step(&quiet).towers, []);
}

/// A sense is in use for a while after the last of it.
#[test]
fn ears_fall_asleep_when_nothing_is_heard() {
    let mut controller = Controller::new(&with_ears());
    let asking = Input {
        request: true,
        ..IDLE
    };
    let mut awake = Vec::new();
    for tick in 0..100 {
        let mut assess = assess(&asking, None, tick);
        assess.report.senses = Some(Senses::default());
        if tick <= 20 {
            assess.perceiving = vec![Modality::Audio];
        }
        let directives = controller.step(&assess);
        if ears(&directives).is_some() {
            awake.push(tick);
        }
    }
    assert_eq!(awake.last(), Some(&(20 + 64)));
}

/// Ears never take more than their weights, and the experts get what is left.
#[test]
fn ears_take_no_more_than_they_weigh() {
    let small = MindConfig {
        modules: vec![ModuleShape {
            expert_bytes: 1,
            ..thinker()
        }],
        towers: vec![ears_of(5000)],
        ..with_ears()
    };
    let mut controller = Controller::new(&small);
    let input = Input {
        threat: true,
        ..IDLE
    };
    let directives = controller.step(&assess(&input, None, 1));
    assert_eq!(directives.state, State::Threat);
    let ears = ears(&directives).unwrap();
    assert_eq!((ears.weight_bytes, ears.pieces), (5000, 5));
    let expected = 8 + (0.95 * (POOL - 5000) as f64) as u64;
    assert!(directives.modules[0].expert_bytes.abs_diff(expected) < 2);
}
