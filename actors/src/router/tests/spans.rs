//! Rows of another modality carry their own salience.

use super::*;
use crate::protocol::SalienceSpan;

#[test]
fn a_surprising_sound_among_unsurprising_words_admits_its_own_experts() {
    let visited = LayerTrust {
        visits: vec![0.0, 99.0, 0.0],
        ..LayerTrust::prior(3)
    };
    let of_words = route(&[2.0, 1.0, 0.9]);
    let with_sound = Route {
        logits: of_words.logits.repeat(3),
        surprise_t: 0.0,
        spans: vec![SalienceSpan {
            first_row: 1,
            rows: 1,
            salience_t: 0.5,
            surprise_t: 1.0,
        }],
        ..of_words
    };
    let mut router = router(RoutingPolicy::Salient, directive(2, 0.0, 0.5, 0.0), visited);
    let selection = router.route(&with_sound).unwrap();
    assert_eq!(experts(&selection, 0), [0, 1]);
    assert_eq!(experts(&selection, 1), [0, 2]);
    assert_eq!(experts(&selection, 2), [0, 1]);
    // Three rows alike: a third of the entropy is the sound's.
    let own = selection.span_entropy_sums[0];
    assert!(own > 0.0 && (3.0 * own - selection.entropy_sum).abs() < 1e-6);
}

#[test]
fn a_salient_sound_pays_for_its_true_experts_where_dull_words_take_what_is_there() {
    let mut resident = ExpertSet::new(3);
    resident.insert(2);
    let both = Route {
        phase: Phase::Decode,
        logits: [2.0, 1.0, 0.9].repeat(2),
        resident,
        salience_t: 0.0,
        spans: vec![SalienceSpan {
            first_row: 1,
            rows: 1,
            salience_t: 1.0,
            surprise_t: 0.0,
        }],
        ..route(&[])
    };
    let mut router = router(
        RoutingPolicy::Salient,
        directive(2, 0.2, 0.0, 0.0),
        LayerTrust::prior(3),
    );
    let selection = router.route(&both).unwrap();
    assert_eq!(experts(&selection, 0), [0, 2]);
    assert_eq!(experts(&selection, 1), [0, 1]);
}

#[test]
fn a_span_that_is_no_number_is_refused() {
    let broken = Route {
        spans: vec![SalienceSpan {
            first_row: 0,
            rows: 1,
            salience_t: 0.0,
            surprise_t: f32::NAN,
        }],
        ..route(&[2.0, 1.0, 0.9])
    };
    let mut router = router(
        RoutingPolicy::Salient,
        directive(2, 0.0, 0.0, 0.0),
        LayerTrust::prior(3),
    );
    assert_eq!(router.route(&broken), Err(RouteError::NotANumber));
}
