//! Feedback is an event: it fades.

use super::*;

fn feedback(value: f32, ticks: u32) -> Observe {
    Observe {
        ticks,
        events_in: 1,
        feedback: Some(value),
        ..Observe::default()
    }
}

fn idle(ticks: u32) -> Observe {
    Observe {
        ticks,
        ..Observe::default()
    }
}

#[test]
fn half_of_a_reward_goes_in_each_half_life_however_time_is_cut() {
    let reward = |steps: &[u32]| {
        let mut assessor = Assessor::new();
        assessor.step(&feedback(1.0, 1));
        let last = steps.iter().map(|ticks| assessor.step(&idle(*ticks)));
        last.last().map(|report| report.salience.reward)
    };
    assert_eq!(reward(&[16]), Some(0.75));
    assert_eq!(reward(&[32]), Some(0.625));
    assert_eq!(reward(&[1; 32]), Some(0.625));
    assert_eq!(reward(&[5, 20, 7]), Some(0.625));
    assert_eq!(reward(&[u32::MAX, u32::MAX]), Some(0.5));
    let mut blamed = Assessor::new();
    blamed.step(&feedback(-1.0, 1));
    assert_eq!(blamed.step(&idle(16)).salience.reward, 0.25);
}

#[test]
fn new_feedback_counts_in_full_whatever_was_before() {
    let mut assessor = Assessor::new();
    for value in [1.0, -1.0, 0.8, -0.3, 0.0] {
        let report = assessor.step(&feedback(value, 3));
        assert_eq!(report.salience.reward, (1.0 + value) / 2.0);
    }
    assert_eq!(assessor.step(&idle(1)).salience.reward, 0.5);
}

#[test]
fn without_a_half_life_it_stands_as_it_stood_in_recordings_without_one() {
    let config = SalienceConfig {
        reward_half_life_ticks: 0,
        ..SalienceConfig::default()
    };
    let mut assessor = Assessor::of(config);
    assessor.step(&feedback(1.0, 1));
    assert_eq!(assessor.step(&idle(100_000)).salience.reward, 1.0);
}
