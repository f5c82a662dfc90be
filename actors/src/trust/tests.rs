mod state;

use std::sync::Arc;

use proptest::prelude::*;

use super::record::TrustRecord;
use super::*;
use crate::config::ModuleShape;
use crate::protocol::{
    ExpertKey, LayerKey, LayerTrust, Module, Outcome, State, TokenOrigin, TokenOutcome, Worked,
};

const LAYERS: [u16; 3] = [2, 3, 7];
const EXPERTS: u16 = 4;

fn ledger() -> Ledger {
    Ledger::new(&[ModuleShape {
        module: Module::Thinker,
        layers: LAYERS.to_vec(),
        experts: EXPERTS,
        k_trained: 2,
        norm_topk_prob: true,
        expert_bytes: 1,
        smaller: Vec::new(),
    }])
}

fn layer(layer: u16) -> LayerKey {
    LayerKey {
        module: Module::Thinker,
        layer,
    }
}

fn key(number: u16, expert: u16) -> ExpertKey {
    ExpertKey {
        layer: layer(number),
        expert,
    }
}

fn token(error: f32, entropy: f32, worked: &[(u16, u16, f32)]) -> TokenOutcome {
    let worked = worked.iter().map(|(layer, expert, gate)| Worked {
        layer: *layer,
        expert: *expert,
        gate: *gate,
    });
    TokenOutcome {
        origin: TokenOrigin::Observed,
        error,
        entropy,
        worked: worked.collect(),
    }
}

fn outcome(state: State, ticks: u32, tokens: Vec<TokenOutcome>) -> Outcome {
    Outcome {
        tick: 1,
        ticks,
        state,
        module: Module::Thinker,
        tokens,
        denied: vec![],
        feedback: None,
        scored: vec![],
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// A ledger whose baselines are warm: errors of 1 ± 0.5 at every entropy.
fn warm() -> Ledger {
    let mut ledger = ledger();
    for i in 0..512 {
        let error = if i % 2 == 0 { 0.5 } else { 1.5 };
        let token = token(error, (i % 256) as f32 / 100.0, &[]);
        ledger.learn(&outcome(State::Rest, 1, vec![token])).unwrap();
    }
    ledger
}

#[test]
fn everything_starts_at_the_prior() {
    let mut ledger = ledger();
    let view = ledger.snapshot();
    assert_eq!(
        view.layers.keys().map(|key| key.layer).collect::<Vec<_>>(),
        LAYERS
    );
    assert_eq!(*view.layers[&layer(3)], LayerTrust::prior(EXPERTS));
    let record = ledger.record(key(7, 3)).unwrap();
    assert_eq!(
        (record.trust, record.efficiency, record.affinity),
        (0.5, 0.5, [0.5; 6])
    );
    assert_eq!(ledger.record(key(7, 4)), None);
    assert_eq!(ledger.record(key(4, 0)), None);
}

#[test]
fn stability_by_hand() {
    let mut ledger = ledger();
    let gate = |gate| outcome(State::Rest, 1, vec![token(1.0, 1.0, &[(3, 1, gate)])]);
    ledger.learn(&gate(0.2)).unwrap();
    assert!(close(ledger.record(key(3, 1)).unwrap().stability, 0.525));
    // |0.5 − 0.2| / 0.25 is more than 1.
    ledger.learn(&gate(0.5)).unwrap();
    assert!(close(
        ledger.record(key(3, 1)).unwrap().stability,
        0.525 * 0.95
    ));
    // Usual gate now 0.215: |0.215 − 0.1| / 0.265.
    ledger.learn(&gate(0.1)).unwrap();
    let stability = 0.95 * 0.95 * 0.525 + 0.05 * (1.0 - 0.115 / 0.265);
    assert!(close(
        ledger.record(key(3, 1)).unwrap().stability,
        stability
    ));
    let record = ledger.record(key(3, 1)).unwrap();
    assert_eq!(
        (record.visits, record.activations, record.last_used),
        (3.0, 0.0, Some(1))
    );
    assert!(close(record.trust, 0.4 * 0.5 + 0.3 * stability + 0.3 * 0.5));
}

#[test]
fn a_success_is_a_token_better_than_tokens_as_hard() {
    let mut ledger = warm();
    let good = token(0.6, 1.0, &[(2, 0, 0.5), (3, 1, 0.5)]);
    let bad = token(1.4, 1.0, &[(2, 2, 0.5)]);
    ledger
        .learn(&outcome(State::Focus, 0, vec![good, bad]))
        .unwrap();
    let (of_good, of_bad) = (
        ledger.record(key(2, 0)).unwrap(),
        ledger.record(key(2, 2)).unwrap(),
    );
    assert!(close(of_good.efficiency, 2.0 / 3.0) && close(of_bad.efficiency, 1.0 / 3.0));
    assert_eq!((of_good.activations, of_good.successes), (1.0, 1.0));
    // Affinity is the state's own.
    let focus = State::Focus.index();
    for state in 0..6 {
        let expected = if state == focus { 2.0 / 3.0 } else { 0.5 };
        assert!(close(of_good.affinity[state], expected));
    }
    // An unstable expert has no success, however well the token went.
    let swing = |gate| token(0.6, 1.0, &[(7, 0, gate)]);
    ledger
        .learn(&outcome(
            State::Focus,
            0,
            vec![swing(0.1), swing(0.9), swing(0.9)],
        ))
        .unwrap();
    let record = ledger.record(key(7, 0)).unwrap();
    assert!(record.stability < 0.5);
    assert_eq!((record.activations, record.successes), (3.0, 1.0));
    // The other origin's baselines are cold: nothing is judged.
    let own = TokenOutcome {
        origin: TokenOrigin::Generated,
        ..token(0.6, 1.0, &[(7, 3, 0.5)])
    };
    ledger.learn(&outcome(State::Focus, 0, vec![own])).unwrap();
    assert_eq!(ledger.record(key(7, 3)).unwrap().activations, 0.0);
}

#[test]
fn work_for_a_sound_counts_and_is_not_judged() {
    let mut ledger = warm();
    let heard = TokenOutcome {
        origin: TokenOrigin::Perceived,
        ..token(0.0, 0.0, &[(2, 0, 0.5), (3, 1, 0.5)])
    };
    let before = ledger.clone();
    ledger
        .learn(&outcome(State::Focus, 0, vec![heard]))
        .unwrap();
    let record = ledger.record(key(2, 0)).unwrap();
    assert_eq!((record.visits, record.activations), (1.0, 0.0));
    assert!(record.stability > 0.5);
    // What errors are compared with is as it was: the same token scores the same.
    let word = outcome(State::Focus, 0, vec![token(0.6, 1.0, &[(7, 3, 0.5)])]);
    let mut without = before;
    without.learn(&word).unwrap();
    ledger.learn(&word).unwrap();
    assert_eq!(ledger.record(key(7, 3)), without.record(key(7, 3)));
}

#[test]
fn hard_tokens_are_compared_with_hard_tokens() {
    let mut deciles = deciles::Deciles::new();
    for i in 0..512 {
        // Entropies spread evenly over 0..10; the error follows them, half a nat above or below.
        let entropy = f64::from(i % 256) / 25.6;
        assert_eq!(deciles.score(entropy, entropy).is_some(), i >= 256);
        deciles.push(entropy + if i % 2 == 0 { 0.5 } else { -0.5 }, entropy);
    }
    // In the middle of a decile: its mean scores a half, a deviation (0.5 and the decile's own 0.29) below it Φ(1).
    for entropy in [0.5, 4.5, 9.5] {
        assert!((deciles.score(entropy, entropy).unwrap() - 0.5).abs() < 0.05);
        assert!((deciles.score(entropy - 0.577, entropy).unwrap() - 0.841).abs() < 0.03);
    }
}

#[test]
fn what_was_learned_decays_by_state() {
    for (state, ticks, kept) in [
        (State::Wake, 50_000, 0.5),
        (State::Focus, 100_000, 0.25),
        (State::Dream, 5_000, 0.5),
        (State::Rest, 1_000_000, 1.0),
        (State::Threat, 1_000_000, 1.0),
        (State::Depletion, 1_000_000, 1.0),
    ] {
        let mut ledger = warm();
        let used = token(0.6, 1.0, &[(2, 0, 0.5)]);
        let denied = vec![Worked {
            layer: 2,
            expert: 0,
            gate: 0.5,
        }];
        let first = Outcome {
            denied,
            feedback: Some(1.0),
            ..outcome(state, 0, vec![used])
        };
        ledger.learn(&first).unwrap();
        let before = ledger.record(key(2, 0)).unwrap();
        // Every layer is brought up to date within as many outcomes as there are layers.
        ledger.learn(&outcome(state, ticks, vec![])).unwrap();
        for _ in 0..LAYERS.len() {
            ledger.learn(&outcome(state, 0, vec![])).unwrap();
        }
        let after = ledger.record(key(2, 0)).unwrap();
        assert!(close(after.visits, before.visits * kept), "{state:?}");
        assert!(close(after.activations, before.activations * kept));
        assert!(close(after.successes, before.successes * kept));
        assert!(close(after.regret, before.regret * kept) && before.regret == 0.5);
        assert!(
            close(after.convergence - 0.5, (before.convergence - 0.5) * kept)
                && before.convergence > 0.5
        );
        assert!(close(
            after.stability - 0.5,
            (before.stability - 0.5) * kept
        ));
    }
}

#[test]
fn regret_sums_what_was_denied_and_forgets() {
    let mut ledger = ledger();
    let denied = vec![Worked {
        layer: 7,
        expert: 2,
        gate: 0.5,
    }];
    let deny = |ticks| Outcome {
        denied: denied.clone(),
        ..outcome(State::Wake, ticks, vec![])
    };
    ledger.learn(&deny(1)).unwrap();
    ledger.learn(&deny(50_000)).unwrap();
    assert!(close(ledger.record(key(7, 2)).unwrap().regret, 0.75));
    assert_eq!(ledger.record(key(7, 2)).unwrap().visits, 0.0);
}

#[test]
fn feedback_moves_convergence_by_each_experts_part() {
    let mut ledger = ledger();
    let turn = token(1.0, 1.0, &[(2, 0, 0.75), (2, 1, 0.25), (3, 3, 1.0)]);
    ledger.learn(&outcome(State::Focus, 0, vec![turn])).unwrap();
    let praise = Outcome {
        feedback: Some(1.0),
        ..outcome(State::Focus, 0, vec![])
    };
    ledger.learn(&praise).unwrap();
    let convergence =
        |ledger: &Ledger, layer, expert| ledger.record(key(layer, expert)).unwrap().convergence;
    assert!(close(convergence(&ledger, 2, 0), 0.5 + 0.1 * 0.75 * 0.5));
    assert!(close(convergence(&ledger, 2, 1), 0.5 + 0.1 * 0.25 * 0.5));
    assert!(
        close(convergence(&ledger, 3, 3), 0.55),
        "parts are of the layer"
    );
    assert_eq!(convergence(&ledger, 2, 2), 0.5);
    // The turn is over: the same feedback again has nobody to go to.
    ledger.learn(&praise).unwrap();
    assert!(close(convergence(&ledger, 3, 3), 0.55));
    let blame = Outcome {
        feedback: Some(-1.0),
        ..outcome(State::Focus, 0, vec![token(1.0, 1.0, &[(3, 3, 0.2)])])
    };
    ledger.learn(&blame).unwrap();
    assert!(close(convergence(&ledger, 3, 3), 0.55 * 0.9));
    let view = ledger.snapshot();
    let trust = ledger.record(key(3, 3)).unwrap().trust as f32;
    assert_eq!(view.layers[&layer(3)].trust[3], trust);
}

#[test]
fn a_view_is_shared_until_a_layer_changes() {
    let mut ledger = ledger();
    let first = ledger.snapshot();
    assert!(Arc::ptr_eq(&first, &ledger.snapshot()));
    // Refreshes layer 2; layer 3 works; layer 7 is left alone.
    ledger
        .learn(&outcome(
            State::Focus,
            1,
            vec![token(1.0, 1.0, &[(3, 1, 0.5)])],
        ))
        .unwrap();
    let second = ledger.snapshot();
    assert!(Arc::ptr_eq(
        &first.layers[&layer(7)],
        &second.layers[&layer(7)]
    ));
    assert!(!Arc::ptr_eq(
        &first.layers[&layer(3)],
        &second.layers[&layer(3)]
    ));
    assert_eq!(
        first.layers[&layer(3)].visits,
        [0.0; 4],
        "an old view does not change"
    );
    assert_eq!(second.layers[&layer(3)].visits, [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn impossible_outcomes_are_named_and_change_nothing() {
    let mut ledger = ledger();
    let before = ledger.snapshot();
    let fine = token(1.0, 1.0, &[(2, 0, 0.5)]);
    let with = |token| outcome(State::Focus, 1, vec![fine.clone(), token]);
    let cases = [
        (
            with(token(1.0, 1.0, &[(4, 0, 0.5)])),
            TrustError::UnknownExpert(key(4, 0)),
        ),
        (
            with(token(1.0, 1.0, &[(3, 4, 0.5)])),
            TrustError::UnknownExpert(key(3, 4)),
        ),
        (with(token(f32::NAN, 1.0, &[])), TrustError::NotFinite),
        (with(token(1.0, f32::INFINITY, &[])), TrustError::NotFinite),
        (
            with(token(1.0, 1.0, &[(3, 0, -0.1)])),
            TrustError::NotFinite,
        ),
        (
            Outcome {
                feedback: Some(f32::NAN),
                ..with(fine.clone())
            },
            TrustError::NotFinite,
        ),
        (
            Outcome {
                module: Module::Talker,
                ..with(fine.clone())
            },
            TrustError::UnknownModule(Module::Talker),
        ),
        (
            Outcome {
                denied: vec![Worked {
                    layer: 9,
                    expert: 0,
                    gate: 0.1,
                }],
                ..with(fine.clone())
            },
            TrustError::UnknownExpert(key(9, 0)),
        ),
    ];
    for (outcome, error) in cases {
        assert_eq!(ledger.learn(&outcome), Err(error));
    }
    assert!(Arc::ptr_eq(&before, &ledger.snapshot()));
}

prop_compose! {
    fn steps()(
        state in prop::sample::select(State::ALL.to_vec()),
        ticks in 0u32..200_000,
        tokens in prop::collection::vec(
            (0.0f32..10.0, 0.0f32..5.0, prop::collection::vec((0usize..3, 0u16..4, 0.0f32..=1.0), 0..6)), 0..4),
        feedback in prop::option::weighted(0.2, -1.0f32..=1.0),
    ) -> Outcome {
        let tokens = tokens.into_iter().map(|(error, entropy, worked)| {
            let worked: Vec<_> = worked.into_iter().map(|(l, e, g)| (LAYERS[l], e, g)).collect();
            token(error, entropy, &worked)
        });
        Outcome { feedback, ..outcome(state, ticks, tokens.collect()) }
    }
}

proptest! {
    #[test]
    fn values_stay_in_range_and_views_show_the_records(steps in prop::collection::vec(steps(), 0..200)) {
        let mut ledger = ledger();
        for step in steps {
            ledger.learn(&step).unwrap();
            let view = ledger.snapshot();
            for number in LAYERS {
                for expert in 0..EXPERTS {
                    let record = ledger.record(key(number, expert)).unwrap();
                    let values = [record.convergence, record.stability, record.efficiency, record.trust];
                    prop_assert!(values.iter().chain(&record.affinity).all(|v| (0.0..=1.0).contains(v)));
                    prop_assert!(record.successes <= record.activations && record.activations <= record.visits);
                    let (layer, at) = (&view.layers[&layer(number)], usize::from(expert));
                    prop_assert_eq!(layer.trust[at], record.trust as f32);
                    prop_assert_eq!(layer.convergence[at], record.convergence as f32);
                    prop_assert_eq!(layer.stability[at], record.stability as f32);
                    prop_assert_eq!(layer.visits[at], record.visits as f32);
                    for state in 0..6 {
                        prop_assert_eq!(layer.affinity[state][at], record.affinity[state] as f32);
                    }
                }
            }
        }
    }
}
