//! Sounds and pictures beside words.

use super::*;
use crate::protocol::{ModalSalience, Modality, Perceived, Stimulus};

fn sound(level: f64, pitch: f32) -> Stimulus {
    Stimulus {
        modality: Modality::Audio,
        level,
        resolution: 3.0,
        character: vec![pitch, 1.0 - pitch],
        character_resolution: 0.05,
        urgency: 0.0,
    }
}

fn heard(hidden: [f32; 3], experts: [f32; 4]) -> Perceived {
    Perceived {
        modality: Modality::Audio,
        mean_hidden: hidden.to_vec(),
        router_entropy: 0.5,
        experts: experts.to_vec(),
        surprise: 0.0,
        arousal: 0.0,
    }
}

/// A question about a sound.
fn about(part: Perceived) -> Segment {
    Segment {
        perceived: vec![part],
        experts: vec![0.5, 0.5, 0.0, 0.0],
        ..segment(0.0)
    }
}

const USUAL: [f32; 3] = [0.0, 1.0, 0.0];
const NEAR: [f32; 4] = [0.4, 0.4, 0.1, 0.1];

/// An assessor that has heard ten sounds alike, with words beside them.
fn used_to_sounds() -> Assessor {
    let mut assessor = Assessor::new();
    for _ in 0..10 {
        assessor.step(&arriving(sound(-30.0, 0.2)));
        assessor.step(&seen(about(heard(USUAL, NEAR))));
    }
    assessor
}

fn arriving(stimulus: Stimulus) -> Observe {
    Observe {
        ticks: 10,
        tokens_in: 9,
        events_in: 1,
        stimuli: vec![stimulus],
        ..Observe::default()
    }
}

fn audio(report: &SalienceReport) -> ModalSalience {
    let senses = report.senses.expect("sounds were heard");
    senses.audio.expect("sounds were heard")
}

#[test]
fn words_alone_have_no_senses() {
    let mut assessor = warm();
    assert_eq!(assessor.step(&seen(segment(0.0))).senses, None);
}

#[test]
fn a_louder_and_stranger_sound_moves_its_own_modality_as_it_arrives() {
    let calm = used_to_sounds().step(&arriving(sound(-30.0, 0.2)));
    let loud = used_to_sounds().step(&arriving(sound(-3.0, 0.2)));
    let strange = used_to_sounds().step(&arriving(sound(-30.0, 0.9)));
    assert_eq!(audio(&calm).salience.arousal, 0.0);
    assert_eq!(audio(&calm).surprise_t, 0.0);
    // 27 dB above the usual, at a floor of 3 dB: 1 - exp(-9 / 3).
    assert!(close(audio(&loud).salience.arousal, 1.0 - libm::expf(-3.0)));
    assert_eq!(audio(&loud).surprise_t, 0.0);
    // 0.7 from what was expected, at a floor of 0.05: 1 - exp(-14 / 3).
    let expected = 1.0 - libm::expf(-14.0 / 3.0);
    assert!((audio(&strange).surprise_t - expected).abs() < 1e-4);
    assert_eq!(audio(&strange).salience.arousal, 0.0);
    for report in [&loud, &strange] {
        let senses = report.senses.unwrap();
        assert!(audio(report).salience_t > audio(&calm).salience_t);
        assert_eq!(senses.text.salience.surprise, 0.0, "the words are as ever");
        assert_eq!(senses.vision, None);
    }
    // The whole is what its parts are.
    assert_eq!(loud.salience.arousal, audio(&loud).salience.arousal);
    assert_eq!(strange.salience.surprise, audio(&strange).salience.surprise);
}

#[test]
fn a_softer_sound_does_not_arouse() {
    let report = used_to_sounds().step(&arriving(sound(-80.0, 0.2)));
    assert_eq!(audio(&report).salience.arousal, 0.0);
}

#[test]
fn what_was_perceived_is_judged_among_its_like() {
    let report = used_to_sounds().step(&seen(about(heard([1.0, 0.0, 0.0], NEAR))));
    let now = audio(&report).salience;
    assert!(now.surprise > 0.9, "{now:?}");
    assert!(now.novelty > 0.9, "{now:?}");
    // The same hidden state is nothing new for the words, which are always there.
    let words = report.senses.unwrap().text.salience;
    assert_eq!((words.surprise, words.novelty), (0.0, 0.0));
    assert_eq!(report.salience.novelty, now.novelty);
}

#[test]
fn two_modalities_that_want_other_experts_are_a_conflict() {
    let same = used_to_sounds().step(&seen(about(heard(USUAL, NEAR))));
    assert_eq!(same.salience.conflict, 0.0);
    let apart = used_to_sounds().step(&seen(about(heard(USUAL, [0.0, 0.0, 0.5, 0.5]))));
    // Total variation 1 where 0.2 is usual, at a floor of 0.02.
    assert!(apart.salience.conflict > 0.99, "{apart:?}");
    assert_eq!(audio(&apart).salience.conflict, apart.salience.conflict);
}

#[test]
fn a_sound_without_words_leaves_the_words_as_they_were() {
    let mut assessor = used_to_sounds();
    let episodes = assessor.unconsolidated_episodes();
    let only = Segment {
        tokens: Vec::new(),
        mean_hidden: Vec::new(),
        experts: Vec::new(),
        ..about(heard([0.0, 0.0, 1.0], NEAR))
    };
    let report = assessor.step(&seen(only));
    assert!(report.salience.novelty > 0.9);
    assert_eq!(assessor.unconsolidated_episodes(), episodes);
    let words = assessor.step(&seen(segment(0.0))).senses.unwrap().text;
    assert_eq!(words.salience.surprise, 0.0);
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let mut assessor = used_to_sounds();
    let mut broken = sound(f64::NAN, f32::NAN);
    broken.urgency = f32::NAN;
    let report = assessor.step(&arriving(broken));
    assert_eq!(audio(&report).salience.arousal, 0.0);
    let part = heard([f32::NAN; 3], [f32::NAN; 4]);
    let s = assessor.step(&seen(about(part))).salience;
    for x in [s.surprise, s.novelty, s.arousal, s.reward, s.conflict] {
        assert!((0.0..=1.0).contains(&x), "{s:?}");
    }
    let after = assessor.step(&arriving(sound(-3.0, 0.2)));
    assert!(
        audio(&after).salience.arousal > 0.9,
        "the baselines are whole"
    );
}
