//! Mass enough ends a choice before k.

use super::*;

#[test]
fn mass_enough_ends_the_choice_before_k() {
    // Probabilities 0.4, 0.3, 0.2, 0.1 of four experts; of a k of 4 all of it.
    let logits = [0.4f32, 0.3, 0.2, 0.1].map(libm::logf);
    let with = |mass: f32, policy: RoutingPolicy| {
        let directive = ModuleDirective {
            router_mass: mass,
            ..directive(4, 0.0, 0.0, 0.0)
        };
        router(policy, directive, LayerTrust::prior(4))
    };
    let count = |mass: f32, salience_t: f32, phase: Phase| {
        let route = Route {
            salience_t,
            phase,
            ..route(&logits)
        };
        let selection = with(mass, RoutingPolicy::Salient).route(&route).unwrap();
        let total: f32 = selection.row(0).iter().map(|chosen| chosen.weight).sum();
        assert!((total - 1.0).abs() < 1e-6, "renormalised over what is left");
        assert_eq!(
            selection.denied_mass, 0.0,
            "what is not wanted is not denied"
        );
        selection.row(0).len()
    };
    for phase in [Phase::Prefill, Phase::Decode] {
        let counts = [0.39, 0.41, 0.69, 0.71, 0.91, 1.0].map(|mass| count(mass, 0.0, phase));
        assert_eq!(counts, [1, 2, 2, 3, 4, 4], "{phase:?}");
        // A share of 0.39 becomes 0.695 at half salience, and 1 at full.
        assert_eq!([0.0, 0.5, 1.0].map(|s| count(0.39, s, phase)), [1, 2, 4]);
    }
    let exact = with(0.39, RoutingPolicy::Exact).route(&route(&logits));
    assert_eq!(
        exact.unwrap().row(0).len(),
        4,
        "the exact policy always takes k"
    );
}

#[test]
fn a_cap_that_keeps_wanted_experts_out_denies_them() {
    let logits = [0.4f32, 0.3, 0.2, 0.1].map(libm::logf);
    let directive = ModuleDirective {
        router_mass: 0.65,
        ..directive(4, 0.0, 0.0, 0.0)
    };
    let mut router = router(RoutingPolicy::Salient, directive, LayerTrust::prior(4));
    let route = Route {
        phase: Phase::Decode,
        bytes_left: Some(0),
        resident: set(&[2, 3]),
        ..route(&logits)
    };
    let selection = router.route(&route).unwrap();
    // The best is protected; residents stand in for the second until there is mass enough.
    assert_eq!(experts(&selection, 0), [0, 2, 3]);
    assert_eq!(selection.denied, [1]);
}

/// What is read may have fewer experts a token than what is written; the exact policy obeys that too.
#[test]
fn reading_has_a_k_of_its_own() {
    let logits = [0.4f32, 0.3, 0.2, 0.1].map(libm::logf);
    let count = |reading_k: Option<u16>, policy: RoutingPolicy, phase: Phase| {
        let directive = ModuleDirective {
            reading_k,
            ..directive(3, 0.0, 0.0, 0.0)
        };
        let mut router = router(policy, directive, LayerTrust::prior(4));
        let of = |phase| Route {
            phase,
            ..route(&logits)
        };
        // The phase of one request does not outlast it.
        router.route(&of(Phase::Prefill)).unwrap();
        router.route(&of(Phase::Decode)).unwrap();
        let selection = router.route(&of(phase)).unwrap();
        assert_eq!(selection.denied_mass, 0.0);
        selection.row(0).len()
    };
    for policy in [RoutingPolicy::Exact, RoutingPolicy::Salient] {
        let both = |reading_k| [Phase::Prefill, Phase::Decode].map(|p| count(reading_k, policy, p));
        assert_eq!(both(None), [3, 3]);
        assert_eq!(both(Some(1)), [1, 3]);
        assert_eq!(both(Some(9)), [4, 3], "no more than there are");
    }
}
