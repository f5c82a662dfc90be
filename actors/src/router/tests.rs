use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::protocol::Module;

mod absent;
mod mass;
mod spans;

fn shape(experts: u16, k_trained: u16, norm_topk_prob: bool) -> ModuleShape {
    ModuleShape {
        module: Module::Thinker,
        layers: vec![0],
        experts,
        k_trained,
        norm_topk_prob,
        expert_bytes: 10,
        smaller: Vec::new(),
    }
}

fn directive(k: u16, lambda: f32, beta: f32, focus_weight: f32) -> ModuleDirective {
    ModuleDirective {
        module: Module::Thinker,
        epoch: 1,
        state: State::Focus,
        k,
        reading_k: None,
        router_mass: 1.0,
        expert_bytes: 0,
        speculation_bytes: 0,
        miss_bytes_per_token: None,
        lambda,
        beta,
        focus_weight,
        lookahead: 0,
    }
}

fn route(logits: &[f32]) -> Route {
    Route {
        spans: Vec::new(),
        tick: 0,
        phase: Phase::Decode,
        logits: logits.to_vec(),
        resident: ExpertSet::default(),
        bytes_left: None,
        salience_t: 0.0,
        surprise_t: 0.0,
        reward: 0.0,
    }
}

fn set(members: &[u16]) -> ExpertSet {
    let mut set = ExpertSet::default();
    members.iter().for_each(|e| set.insert(*e));
    set
}

fn router(policy: RoutingPolicy, directive: ModuleDirective, trust: LayerTrust) -> Router {
    let experts = trust.trust.len() as u16;
    let mut router = Router::new(&shape(experts, 1, true), policy);
    router.apply(&directive, Arc::new(trust)).unwrap();
    router
}

fn experts(selection: &Selection, row: usize) -> Vec<u16> {
    let mut experts: Vec<u16> = selection.row(row).iter().map(|c| c.expert).collect();
    experts.sort();
    experts
}

fn chosen(router: &mut Router, route: &Route) -> Vec<u16> {
    experts(&router.route(route).unwrap(), 0)
}

fn bits(selection: &Selection) -> Vec<(u16, u32)> {
    selection
        .chosen
        .iter()
        .map(|c| (c.expert, c.weight.to_bits()))
        .collect()
}

prop_compose! {
    fn cases()(experts in 1u16..130)(
        k in 1..=experts,
        norm in any::<bool>(),
        rows in 1usize..4,
        z in prop::collection::vec(
            prop_oneof![8 => -20.0f32..20.0, 1 => Just(1.0f32), 1 => Just(-0.0f32), 1 => -3e38f32..3e38],
            3 * usize::from(experts)),
        resident in prop::collection::vec(any::<bool>(), usize::from(experts)),
        trust in prop::collection::vec(0.0f32..=1.0, usize::from(experts)),
        visits in prop::collection::vec(0.0f32..1e6, usize::from(experts)),
        salience in (0.0f32..=1.0, 0.0f32..=1.0, 0.0f32..=1.0, 0.0f32..=1.0),
        experts in Just(experts),
    ) -> (ModuleShape, ModuleDirective, LayerTrust, Route) {
        let (salience_t, surprise_t, reward, focus) = salience;
        let logits = z[..rows * usize::from(experts)].to_vec();
        let mut members = ExpertSet::new(usize::from(experts));
        resident.iter().enumerate().filter(|(_, r)| **r).for_each(|(e, _)| members.insert(e as u16));
        let route = Route { logits, resident: members, salience_t, surprise_t, reward, ..route(&[]) };
        let affinity = vec![trust.iter().rev().copied().collect(); 6];
        (shape(experts, 1, norm), directive(k, 0.0, 0.0, focus), LayerTrust { trust, visits, affinity, ..LayerTrust::prior(experts) }, route)
    }
}

proptest! {
    #[test]
    fn without_bias_salient_is_exact_bit_for_bit((shape, directive, trust, route) in cases()) {
        let trust = Arc::new(trust);
        let mut exact = Router::new(&shape, RoutingPolicy::Exact);
        let mut salient = Router::new(&shape, RoutingPolicy::Salient);
        exact.apply(&directive, Arc::clone(&trust)).unwrap();
        salient.apply(&directive, trust).unwrap();
        let (a, b) = (exact.route(&route).unwrap(), salient.route(&route).unwrap());
        prop_assert_eq!(bits(&a), bits(&b));
        prop_assert_eq!(&a, &b);
        prop_assert!(a.denied.is_empty() && a.denied_mass == 0.0);
        // And exact is what its name says: the k greatest logits, of equals the lowest id.
        let e = usize::from(shape.experts);
        for (row, z) in route.logits.chunks(e).enumerate() {
            let mut order: Vec<u16> = (0..shape.experts).collect();
            order.sort_by(|a, b| z[usize::from(*b)].partial_cmp(&z[usize::from(*a)]).unwrap());
            order.truncate(usize::from(directive.k));
            prop_assert_eq!(a.row(row).iter().map(|c| c.expert).collect::<Vec<_>>(), order);
        }
    }

    #[test]
    fn any_policy_gives_valid_rows(
        (shape, mut directive, trust, mut route) in cases(),
        policy in prop::sample::select(vec![RoutingPolicy::Sage, RoutingPolicy::Salient]),
        lambda in 0.0f32..=1.0,
        beta in 0.0f32..=1.0,
        cap in prop::option::of(0u64..100),
    ) {
        directive.lambda = lambda;
        directive.beta = beta;
        route.bytes_left = cap;
        let mut router = Router::new(&shape, policy);
        router.apply(&directive, Arc::new(trust)).unwrap();
        let selection = router.route(&route).unwrap();
        let k = usize::from(directive.k);
        prop_assert_eq!(selection.rows(), route.logits.len() / usize::from(shape.experts));
        prop_assert_eq!(selection.denied.len(), selection.denied_each.len());
        let mut missed = std::collections::BTreeSet::new();
        for row in 0..selection.rows() {
            let row = selection.row(row);
            prop_assert!(row.len() <= k && row.len() >= protected_top(k));
            prop_assert!(cap.is_some() || row.len() == k);
            prop_assert!(row.windows(2).all(|pair| pair[0].weight >= pair[1].weight));
            prop_assert!(row.iter().all(|c| (0.0..=1.0).contains(&c.weight)));
            let distinct: std::collections::BTreeSet<u16> = row.iter().map(|c| c.expert).collect();
            prop_assert_eq!(distinct.len(), row.len());
            missed.extend(distinct.into_iter().filter(|e| !route.resident.contains(*e)));
        }
        if let Some(cap) = cap {
            prop_assert!(missed.len() as u64 * 10 <= cap + selection.overrun_bytes);
        }
        prop_assert!(selection.entropy_sum >= 0.0 && selection.entropy_sum <= selection.rows() as f32 + 1e-4);
    }
}

#[test]
fn weights_are_the_routers_own_restricted_to_the_choice() {
    let z = [2.0f32, 1.0, 0.0, -1.0];
    let sum: f32 = z.iter().map(|z| libm::expf(z - 2.0)).sum();
    let p: Vec<f32> = z.iter().map(|z| libm::expf(z - 2.0) / sum).collect();
    for norm in [true, false] {
        let mut router = Router::new(&shape(4, 2, norm), RoutingPolicy::Exact);
        let row = router.route(&route(&z)).unwrap();
        let total = if norm { p[0] + p[1] } else { 1.0 };
        for (chosen, e) in row.row(0).iter().zip([0usize, 1]) {
            assert_eq!(usize::from(chosen.expert), e);
            assert!((chosen.weight - p[e] / total).abs() < 1e-6);
        }
        let entropy: f32 = -p.iter().map(|p| p * libm::logf(*p)).sum::<f32>() / libm::logf(4.0);
        assert!((row.entropy_sum - entropy).abs() < 1e-5);
    }
}

// Long: one case for each term of the formula.
#[test]
fn each_term_of_sage_changes_a_choice() {
    // Expert 0 leads by less than the term is worth to expert 1.
    let z = [0.1f32, 0.0];
    let prior = LayerTrust::prior(2);
    let pick = |d: ModuleDirective, trust: &LayerTrust, r: &Route| {
        chosen(&mut router(RoutingPolicy::Sage, d, trust.clone()), r)
    };
    let d = directive(1, 0.0, 0.0, 0.0);
    assert_eq!(pick(d, &prior, &route(&z)), [0]);

    let visited = LayerTrust {
        visits: vec![99.0, 0.0],
        ..prior.clone()
    };
    assert_eq!(
        pick(d, &visited, &route(&z)),
        [0],
        "novelty alone moves nothing"
    );
    assert_eq!(
        pick(
            d,
            &prior,
            &Route {
                surprise_t: 1.0,
                ..route(&z)
            }
        ),
        [0],
        "nor surprise alone"
    );
    assert_eq!(
        pick(
            d,
            &visited,
            &Route {
                surprise_t: 1.0,
                ..route(&z)
            }
        ),
        [1]
    );

    let trusted = LayerTrust {
        trust: vec![0.2, 0.9],
        ..prior.clone()
    };
    assert_eq!(pick(d, &trusted, &route(&z)), [0]);
    assert_eq!(
        pick(
            d,
            &trusted,
            &Route {
                reward: 1.0,
                ..route(&z)
            }
        ),
        [1]
    );

    let mut fond = prior;
    fond.affinity[State::Focus.index()] = vec![0.1, 0.9];
    assert_eq!(pick(d, &fond, &route(&z)), [0]);
    assert_eq!(pick(directive(1, 0.0, 0.0, 1.0), &fond, &route(&z)), [1]);
    let elsewhere = ModuleDirective {
        state: State::Wake,
        ..directive(1, 0.0, 0.0, 1.0)
    };
    assert_eq!(
        pick(elsewhere, &fond, &route(&z)),
        [0],
        "affinity is that of the state in force"
    );
}

#[test]
fn each_term_of_salient_changes_a_choice() {
    // k = 2: expert 0 is protected, 1 leads 2 by a tenth of the range.
    let z = [1.0f32, 0.1, 0.0];
    let prior = LayerTrust::prior(3);
    let pick = |d: ModuleDirective, trust: &LayerTrust, r: &Route| {
        chosen(&mut router(RoutingPolicy::Salient, d, trust.clone()), r)
    };
    let plain = route(&z);
    assert_eq!(pick(directive(2, 0.15, 0.0, 0.0), &prior, &plain), [0, 1]);

    let warm = Route {
        resident: set(&[2]),
        ..plain.clone()
    };
    assert_eq!(pick(directive(2, 0.15, 0.0, 0.0), &prior, &warm), [0, 2]);
    assert_eq!(pick(directive(2, 0.05, 0.0, 0.0), &prior, &warm), [0, 1]);
    let salient = Route {
        salience_t: 0.5,
        ..warm.clone()
    };
    assert_eq!(
        pick(directive(2, 0.15, 0.0, 0.0), &prior, &salient),
        [0, 1],
        "a salient token pays"
    );
    let prefill = Route {
        phase: Phase::Prefill,
        ..warm
    };
    assert_eq!(
        pick(directive(2, 0.15, 0.0, 0.0), &prior, &prefill),
        [0, 1],
        "no bias in prefill"
    );

    let visited = LayerTrust {
        visits: vec![0.0, 99.0, 0.0],
        ..prior.clone()
    };
    let surprised = Route {
        surprise_t: 1.0,
        ..plain.clone()
    };
    assert_eq!(
        pick(directive(2, 0.0, 0.5, 0.0), &visited, &surprised),
        [0, 2]
    );
    assert_eq!(pick(directive(2, 0.0, 0.5, 0.0), &visited, &plain), [0, 1]);

    let trusted = LayerTrust {
        trust: vec![0.5, 0.1, 0.9],
        ..prior.clone()
    };
    let rewarded = Route {
        reward: 1.0,
        ..plain.clone()
    };
    assert_eq!(
        pick(directive(2, 0.0, 0.5, 0.0), &trusted, &rewarded),
        [0, 2]
    );
    assert_eq!(pick(directive(2, 0.0, 0.5, 0.0), &trusted, &plain), [0, 1]);

    let mut fond = prior;
    fond.affinity[State::Focus.index()] = vec![0.5, 0.1, 0.9];
    assert_eq!(pick(directive(2, 0.0, 0.5, 1.0), &fond, &plain), [0, 2]);
    assert_eq!(pick(directive(2, 0.0, 0.5, 0.0), &fond, &plain), [0, 1]);
}

#[test]
fn a_spent_cap_takes_residents_and_books_what_it_denies() {
    let z = [3.0f32, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0];
    let mut router = router(
        RoutingPolicy::Salient,
        directive(4, 0.0, 0.0, 0.0),
        LayerTrust::prior(8),
    );
    let mut p = Vec::new();
    softmax(&z, &mut p);
    // Nothing may be missed, 5 and 7 are there: the protected 0 is overrun, one slot stays empty.
    let spent = Route {
        bytes_left: Some(0),
        resident: set(&[5, 7]),
        ..route(&z)
    };
    let selection = router.route(&spent).unwrap();
    assert_eq!(experts(&selection, 0), [0, 5, 7]);
    assert_eq!(selection.overrun_bytes, 10);
    assert_eq!(selection.denied, [1, 2, 3]);
    assert_eq!(selection.denied_each, p[1..4]);
    assert!((selection.denied_mass - p[1..4].iter().sum::<f32>()).abs() < 1e-7);
    // Room for the protected one and one more: then residents.
    let some = Route {
        bytes_left: Some(29),
        ..spent.clone()
    };
    let selection = router.route(&some).unwrap();
    assert_eq!(
        (experts(&selection, 0), selection.overrun_bytes),
        (vec![0, 1, 5, 7], 0)
    );
    // A protected expert that is covered in part overruns by the rest.
    let part = Route {
        bytes_left: Some(4),
        ..spent.clone()
    };
    assert_eq!(router.route(&part).unwrap().overrun_bytes, 6);
    // Prefill knows no cap.
    let prefill = Route {
        phase: Phase::Prefill,
        ..spent
    };
    assert_eq!(chosen(&mut router, &prefill), [0, 1, 2, 3]);
}

#[test]
fn the_exact_policy_knows_no_cap_and_no_residents() {
    let z = [3.0f32, 2.0, 1.0, 0.0];
    let mut router = router(
        RoutingPolicy::Exact,
        directive(2, 0.15, 0.5, 1.0),
        LayerTrust::prior(4),
    );
    let capped = Route {
        bytes_left: Some(0),
        resident: set(&[3]),
        ..route(&z)
    };
    assert_eq!(chosen(&mut router, &capped), [0, 1]);
}

#[test]
fn an_expert_paid_for_by_one_row_is_free_for_the_next() {
    let z = [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let mut router = router(
        RoutingPolicy::Salient,
        directive(1, 0.0, 0.0, 0.0),
        LayerTrust::prior(4),
    );
    let selection = router
        .route(&Route {
            bytes_left: Some(10),
            ..route(&z)
        })
        .unwrap();
    assert_eq!((selection.rows(), selection.overrun_bytes), (2, 0));
}

#[test]
fn edges_one_expert_all_experts_equal_logits() {
    for policy in [
        RoutingPolicy::Exact,
        RoutingPolicy::Sage,
        RoutingPolicy::Salient,
    ] {
        let mut one = router(policy, directive(1, 0.1, 0.1, 1.0), LayerTrust::prior(1));
        let selection = one.route(&route(&[-7.0])).unwrap();
        assert_eq!(
            selection.row(0),
            [Chosen {
                expert: 0,
                weight: 1.0
            }]
        );
        assert_eq!(selection.entropy_sum, 0.0);
        let mut all = router(policy, directive(5, 0.1, 0.1, 1.0), LayerTrust::prior(5));
        assert_eq!(
            chosen(&mut all, &route(&[1.0, 5.0, 2.0, -3.0, 0.0])),
            [0, 1, 2, 3, 4]
        );
        let mut equal = router(policy, directive(3, 0.0, 0.1, 1.0), LayerTrust::prior(6));
        let selection = equal.route(&route(&[0.25; 6])).unwrap();
        assert_eq!(experts(&selection, 0), [0, 1, 2]);
        assert!((selection.entropy_sum - 1.0).abs() < 1e-6);
        assert_eq!(equal.route(&route(&[])).unwrap().rows(), 0);
    }
}

#[test]
fn what_is_not_finite_is_an_error_with_its_place() {
    let mut router = Router::new(&shape(2, 1, true), RoutingPolicy::Salient);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = router.route(&route(&[0.0, 0.0, 0.0, bad])).unwrap_err();
        assert_eq!(error, RouteError::NotFinite { row: 1, expert: 1 });
    }
    let error = router.route(&route(&[0.0; 3])).unwrap_err();
    assert_eq!(
        error,
        RouteError::Shape {
            logits: 3,
            experts: 2
        }
    );
    let error = router
        .route(&Route {
            reward: f32::NAN,
            ..route(&[0.0; 2])
        })
        .unwrap_err();
    assert_eq!(error, RouteError::NotANumber);
    let error = router
        .apply(&directive(1, 0.0, 0.0, 0.0), Arc::new(LayerTrust::prior(1)))
        .unwrap_err();
    assert_eq!(
        error,
        RouteError::Trust {
            entries: 1,
            experts: 2
        }
    );
}

#[test]
fn protected_top_by_k() {
    assert_eq!(
        [1, 2, 3, 4, 7, 8, 16, 64].map(protected_top),
        [1, 1, 1, 1, 1, 2, 2, 2]
    );
}
