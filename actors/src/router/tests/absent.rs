//! Routers of a store that lacks experts.

use super::*;

#[test]
fn absent_experts_are_never_chosen_and_counted_as_denied() {
    let logits = [4.0, 3.0, 2.0, 1.0, 0.5, 0.0];
    for policy in [RoutingPolicy::Salient, RoutingPolicy::Sage] {
        let mut whole = router(policy, directive(2, 0.0, 0.0, 0.0), LayerTrust::prior(6));
        assert_eq!(chosen(&mut whole, &route(&logits)), [0, 1]);
        let mut partial = whole.clone().without([0, 2]);
        let selection = partial.route(&route(&logits)).unwrap();
        assert_eq!(experts(&selection, 0), [1, 3], "{policy:?}");
        assert_eq!(selection.denied, [0]);
        // The weights are still the router's own over those that work.
        let weight = |e: f32| libm::expf(e) / (libm::expf(3.0) + libm::expf(1.0));
        assert!((selection.row(0)[0].weight - weight(3.0)).abs() < 1e-6);
        let mut single = whole.without([0, 1, 2, 3, 4]);
        assert_eq!(chosen(&mut single, &route(&logits)), [5], "fewer than k");
    }
    let exact = router(
        RoutingPolicy::Exact,
        directive(2, 0.0, 0.0, 0.0),
        LayerTrust::prior(6),
    );
    assert_eq!(
        chosen(&mut exact.without([0]), &route(&logits)),
        [0, 1],
        "exact has no exception"
    );
}

proptest! {
    #[test]
    fn a_cap_and_a_bias_admit_no_absent_expert(
        logits in proptest::collection::vec(-4.0f32..4.0, 8..40),
        absent in proptest::collection::btree_set(0u16..40, 0..7),
        resident in proptest::collection::vec(0u16..40, 0..20),
        k in 1u16..12,
        bytes in 0u64..120,
    ) {
        let mut partial = router(
            RoutingPolicy::Salient,
            directive(k, 0.3, 0.1, 1.0),
            LayerTrust::prior(logits.len() as u16),
        )
        .without(absent.iter().copied().filter(|e| usize::from(*e) < logits.len()));
        let mut request = route(&logits);
        request.resident = set(&resident);
        request.bytes_left = Some(bytes);
        let selection = partial.route(&request).unwrap();
        prop_assert!(!selection.row(0).is_empty());
        for chosen in selection.row(0) {
            prop_assert!(!absent.contains(&chosen.expert));
            prop_assert!(usize::from(chosen.expert) < logits.len());
        }
    }
}
