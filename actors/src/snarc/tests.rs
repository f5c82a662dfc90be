use super::*;

mod beginnings;
mod reward;
mod senses;

/// One token with this excess of nll over entropy.
fn token(excess: f32) -> TokenMeasure {
    TokenMeasure {
        nll: 2.0 + excess,
        entropy: 2.0,
    }
}

fn segment(excess: f32) -> Segment {
    Segment {
        perceived: Vec::new(),
        experts: Vec::new(),
        begins_context: false,
        origin: TokenOrigin::Observed,
        tokens: vec![token(excess)],
        mean_hidden: vec![1.0, 0.0, 0.0],
        router_entropy: 0.5,
    }
}

fn seen(segment: Segment) -> Observe {
    Observe {
        ticks: 10,
        tokens_in: 9,
        events_in: 1,
        segment: Some(segment),
        ..Observe::default()
    }
}

/// An assessor whose every baseline is warm: nine segments alike, ten readings alike.
fn warm() -> Assessor {
    let mut assessor = Assessor::new();
    for _ in 0..10 {
        let mut observe = seen(segment(0.0));
        observe.sensors = vec![reading(20.0)];
        observe.last_token = Some(token(0.0));
        let report = assessor.step(&observe);
        let nothing = Salience {
            reward: 0.5,
            ..Salience::default()
        };
        assert_eq!(report.salience, nothing);
    }
    assessor
}

fn reading(value: f64) -> SensorReading {
    SensorReading {
        name: "temperature".into(),
        value,
        range: Some((0.0, 90.0)),
        resolution: 0.5,
        level: None,
    }
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-5
}

/// 1 − e^(−1): a value three floors above baselines without spread.
const THREE: f32 = 0.632_120_56;

#[test]
fn surprise_by_hand() {
    let mut assessor = Assessor::new();
    for i in 0..8 {
        let surprise = assessor
            .step(&seen(segment(i as f32 * 0.1)))
            .salience
            .surprise;
        assert_eq!(surprise, 0.0, "warm-up");
    }
    // Median 2.35, MAD 0.2: z = 1 / (1.4826 · 0.2 + 0.1) = 2.52194, of which 1.5 are nothing unusual.
    let report = assessor.step(&seen(segment(1.35)));
    assert!(close(report.salience.surprise, 0.494_038_1), "{report:?}");
    // The model's own text has baselines of its own.
    let own = Segment {
        origin: TokenOrigin::Generated,
        ..segment(9.0)
    };
    assert_eq!(assessor.step(&seen(own)).salience.surprise, 0.0);
    // Better than usual is no surprise.
    assert_eq!(assessor.step(&seen(segment(-3.0))).salience.surprise, 0.0);
}

#[test]
fn the_loss_of_a_segment_is_the_mean_of_its_tokens() {
    let tokens: Vec<TokenMeasure> = [0.0, 4.0, -2.0, f32::NAN].map(token).to_vec();
    assert!((mean_nats(&tokens).unwrap() - (2.0 + 2.0 / 3.0)).abs() < 1e-6);
    assert_eq!(mean_nats(&[]), None);
    assert_eq!(mean_nats(&[token(f32::NAN)]), None);
}

/// Text that is predicted as well as ever, and remembered, but not what was being read.
#[test]
fn to_leave_the_course_of_a_text_surprises_until_the_new_course_is_the_usual() {
    let towards = |x: f32, y: f32| {
        seen(Segment {
            mean_hidden: vec![x, y, 0.0],
            ..segment(0.0)
        })
    };
    let mut assessor = warm();
    // A cosine of 0.85 with what is expected, over a floor of 0.05: z = 3.
    let surprise = assessor.step(&towards(0.85, 0.526_782_7)).salience.surprise;
    assert!((surprise - THREE).abs() < 1e-4, "{surprise}");
    // Away, and back to what is no longer new: novelty is silent, surprise is not.
    let mut assessor = warm();
    let away: Vec<f32> = (0..12)
        .map(|_| assessor.step(&towards(0.0, 1.0)).salience.surprise)
        .collect();
    assert!(away[0] > 0.99 && away[1] > 0.9, "{away:?}");
    assert_eq!(away[11], 0.0, "{away:?}");
    let back = assessor.step(&towards(1.0, 0.0)).salience;
    assert!(back.surprise > 0.9 && back.novelty == 0.0, "{back:?}");
    // Each origin has its own course.
    let mut own = warm();
    let strange = Segment {
        origin: TokenOrigin::Generated,
        mean_hidden: vec![0.0, 1.0, 0.0],
        ..segment(0.0)
    };
    assert_eq!(own.step(&seen(strange)).salience.surprise, 0.0);
}

#[test]
fn what_is_remembered_is_the_last_64_segments() {
    let mut assessor = warm();
    let loud: Vec<f32> = (0..64)
        .map(|_| assessor.step(&seen(segment(5.0))).salience.surprise)
        .collect();
    assert!(loud[0] > 0.99);
    assert_eq!(loud[63], 0.0);
    assert!(assessor.step(&seen(segment(0.0))).salience.surprise == 0.0);
}

// Long: one case for each of the five.
#[test]
fn each_of_the_five_moves_with_its_own_input_only() {
    let base = warm().step(&seen(segment(0.0))).salience;
    type Part = fn(&Salience) -> f32;
    let parts: [Part; 5] = [
        |s| s.surprise,
        |s| s.novelty,
        |s| s.arousal,
        |s| s.reward,
        |s| s.conflict,
    ];
    let hidden = |x: f32, y: f32| Segment {
        mean_hidden: vec![x, y, 0.0],
        ..segment(0.0)
    };
    let cases = [
        // 0.3 nats over a floor of 0.1.
        (0, seen(segment(0.3)), THREE),
        // 1 °C and a half over a resolution of half a degree.
        (
            0,
            Observe {
                sensors: vec![reading(21.5)],
                ..seen(segment(0.0))
            },
            THREE,
        ),
        // A cosine of 0.94 over a floor of 0.02.
        (1, seen(hidden(0.94, 0.341_174_4)), THREE),
        // A rate of 4 over a median of 1, floor 1.
        (
            2,
            Observe {
                tokens_in: 39,
                ..seen(segment(0.0))
            },
            THREE,
        ),
        (
            2,
            Observe {
                urgency: 0.7,
                ..seen(segment(0.0))
            },
            0.7,
        ),
        (
            3,
            Observe {
                feedback: Some(-0.5),
                ..seen(segment(0.0))
            },
            0.25,
        ),
        // A normalised entropy of 0.56 over 0.5, floor 0.02.
        (
            4,
            seen(Segment {
                router_entropy: 0.56,
                ..segment(0.0)
            }),
            THREE,
        ),
    ];
    for (moved, observe, expected) in cases {
        let salience = warm().step(&observe).salience;
        for (i, part) in parts.iter().enumerate() {
            if i == moved {
                assert!(
                    (part(&salience) - expected).abs() < 1e-4,
                    "{i}: {salience:?}"
                );
            } else {
                assert_eq!(part(&salience), part(&base), "{i} by {moved}: {salience:?}");
            }
        }
    }
}

#[test]
fn a_tick_without_observation_fades_reward_and_forgets_the_rest() {
    let mut assessor = warm();
    let strange = Segment {
        mean_hidden: vec![0.0, 1.0, 0.0],
        router_entropy: 0.9,
        ..segment(2.0)
    };
    let report = assessor.step(&Observe {
        feedback: Some(1.0),
        tokens_in: 500,
        ..seen(strange)
    });
    let s = report.salience;
    assert!(
        s.surprise > 0.99
            && s.novelty > 0.99
            && s.arousal > 0.99
            && s.conflict > 0.99
            && s.reward == 1.0
    );
    let after = assessor.step(&Observe {
        ticks: 1,
        ..Observe::default()
    });
    assert_eq!(
        after.salience,
        Salience {
            reward: 0.5 + 0.5 * libm::exp2f(-1.0 / 16.0),
            ..Salience::default()
        }
    );
    assert_eq!(
        after.salience_t, report.salience_t,
        "routers keep the segment's until the next"
    );
    assert!(report.salience_t > 0.99);
}

#[test]
fn novelty_needs_eight_episodes() {
    let mut assessor = Assessor::new();
    for i in 0..9 {
        let mut hidden = vec![0.0; 16];
        hidden[i] = 1.0;
        let novelty = assessor
            .step(&seen(Segment {
                mean_hidden: hidden,
                ..segment(0.0)
            }))
            .salience
            .novelty;
        assert_eq!(novelty, 0.0);
    }
    assert_eq!(assessor.unconsolidated_episodes(), 9);
    // All were new, so one more is nothing new.
    let mut hidden = vec![0.0; 16];
    hidden[15] = 1.0;
    assert_eq!(
        assessor
            .step(&seen(Segment {
                mean_hidden: hidden,
                ..segment(0.0)
            }))
            .salience
            .novelty,
        0.0
    );
    let nowhere = Segment {
        mean_hidden: vec![0.0; 16],
        ..segment(0.0)
    };
    assert_eq!(assessor.step(&seen(nowhere)).salience.novelty, 0.0);
    assert_eq!(
        assessor.unconsolidated_episodes(),
        10,
        "no direction, no episode"
    );
}

#[test]
fn reward_without_feedback_is_what_came_of_similar_episodes() {
    let mut assessor = Assessor::new();
    let hidden = |x: f32, y: f32| {
        seen(Segment {
            mean_hidden: vec![x, y, 0.0],
            ..segment(0.0)
        })
    };
    assert_eq!(assessor.step(&hidden(1.0, 0.0)).salience.reward, 0.5);
    // Feedback marks the turn's episodes: here (1, 0) with 1, then (0, 1) with 0.
    assessor.step(&Observe {
        feedback: Some(1.0),
        ..Observe::default()
    });
    assessor.step(&hidden(0.0, 2.0));
    assessor.step(&Observe {
        feedback: Some(-1.0),
        ..Observe::default()
    });
    // cos 0.6 and 0.8: (0.6 · 1 + 0.8 · 0) / 1.4.
    assert!(close(
        assessor.step(&hidden(3.0, 4.0)).salience.reward,
        0.428_571_4
    ));
    // Unlike everything: no expectation. (3, 4) has no outcome yet.
    assert_eq!(assessor.step(&hidden(-1.0, -1.0)).salience.reward, 0.5);
}

#[test]
fn only_the_ten_nearest_outcomes_count() {
    let mut assessor = Assessor::new();
    let hidden = |x: f32, y: f32| {
        seen(Segment {
            mean_hidden: vec![x, y, 0.0],
            ..segment(0.0)
        })
    };
    for _ in 0..20 {
        assessor.step(&hidden(1.0, 1.0));
    }
    assessor.step(&Observe {
        feedback: Some(-1.0),
        ..Observe::default()
    });
    for _ in 0..10 {
        assessor.step(&hidden(1.0, 0.0));
    }
    assessor.step(&Observe {
        feedback: Some(1.0),
        ..Observe::default()
    });
    assert!(close(assessor.step(&hidden(1.0, 0.0)).salience.reward, 1.0));
}

#[test]
fn a_decoded_tokens_own_surprise_raises_salience_until_the_next_token() {
    let mut assessor = warm();
    let calm = assessor.step(&Observe {
        last_token: Some(token(0.0)),
        ..Observe::default()
    });
    assert_eq!((calm.surprise_t, calm.salience_t), (0.0, 0.1));
    let raised = assessor.step(&Observe {
        last_token: Some(token(0.3)),
        ..Observe::default()
    });
    assert!(
        close(raised.surprise_t, THREE) && close(raised.salience_t, 0.1 + THREE / 5.0),
        "{raised:?}"
    );
    assert_eq!(
        raised.salience.surprise, 0.0,
        "the step's own five are not raised"
    );
    assert_eq!(assessor.step(&Observe::default()).surprise_t, 0.0);
}

#[test]
fn threat_is_an_alarm_or_a_sensor_out_of_its_range() {
    let threat = |observe: Observe| Assessor::new().step(&observe).threat;
    assert_eq!(threat(Observe::default()), 0.0);
    assert_eq!(
        threat(Observe {
            alarm: true,
            ..Observe::default()
        }),
        1.0
    );
    assert_eq!(
        threat(Observe {
            urgency: 1.0,
            ..Observe::default()
        }),
        0.0
    );
    for (value, expected) in [(90.0, 0.0), (90.1, 1.0), (-0.1, 1.0), (f64::NAN, 1.0)] {
        assert_eq!(
            threat(Observe {
                sensors: vec![reading(value)],
                ..Observe::default()
            }),
            expected
        );
    }
    let free = SensorReading {
        range: None,
        ..reading(1e9)
    };
    assert_eq!(
        threat(Observe {
            sensors: vec![free],
            ..Observe::default()
        }),
        0.0
    );
}

#[test]
fn what_is_not_a_number_is_not_remembered() {
    let mut assessor = warm();
    let bad = Segment {
        tokens: vec![token(f32::NAN)],
        mean_hidden: vec![f32::NAN; 3],
        router_entropy: f32::NAN,
        ..segment(0.0)
    };
    let observe = Observe {
        urgency: f32::NAN,
        feedback: Some(f32::NAN),
        last_token: Some(token(f32::NAN)),
        sensors: vec![reading(f64::NAN)],
        ..seen(bad)
    };
    let report = assessor.step(&observe);
    assert_eq!(
        report.salience,
        Salience {
            reward: 0.5,
            ..Salience::default()
        }
    );
    let after = assessor.step(&seen(segment(0.3)));
    assert!(close(after.salience.surprise, THREE));
}

/// A segment of this direction.
fn toward(direction: [f32; 3]) -> Observe {
    seen(Segment {
        mean_hidden: direction.to_vec(),
        ..segment(0.0)
    })
}

#[test]
fn pruning_merges_what_is_nearly_alike_and_averages_its_outcomes() {
    let mut assessor = Assessor::new();
    let marked = |assessor: &mut Assessor, direction, feedback| {
        let mut observe = toward(direction);
        observe.feedback = feedback;
        assessor.step(&observe);
    };
    marked(&mut assessor, [1.0, 0.0, 0.0], Some(1.0));
    marked(&mut assessor, [1.0, 0.01, 0.0], Some(0.0));
    marked(&mut assessor, [0.0, 1.0, 0.0], None);
    marked(&mut assessor, [2.0, 0.0, 0.01], None);
    assert_eq!(assessor.unconsolidated_episodes(), 4);
    assessor.consolidate(3);
    assert_eq!(assessor.unconsolidated_episodes(), 1);
    assessor.consolidate(7);
    assert_eq!(assessor.unconsolidated_episodes(), 0);
    let pruned = assessor.prune();
    assert_eq!((pruned.merged, pruned.kept), (2, 2));
    assert_eq!(assessor.prune().merged, 0);
    // Outcomes 1 and 0.5 are averaged; the unmarked episode adds none. The other direction is unmarked still.
    let report = assessor.step(&toward([1.0, 0.0, 0.0]));
    assert!(close(report.salience.reward, 0.75), "{report:?}");
    // Feedback marks what is left of the turn: the two newest directions, not what was merged away.
    assessor.step(&Observe {
        feedback: Some(-1.0),
        ..Observe::default()
    });
    let report = assessor.step(&toward([0.0, 1.0, 0.0]));
    assert!(report.salience.reward < 0.1, "{report:?}");
}
