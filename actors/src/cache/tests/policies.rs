//! Who leaves under each policy.

use super::*;

const POLICIES: [EvictionPolicy; 4] = [
    EvictionPolicy::Lru,
    EvictionPolicy::Lfu,
    EvictionPolicy::Trust,
    HORIZON,
];

/// Hits of 40 tokens that use the same two experts of every layer; the ledger prefers expert 0 where `taught`.
fn cycle(policy: EvictionPolicy, capacity: u64, taught: bool) -> u64 {
    let (mut cache, _) = cache(policy, capacity, 0);
    if taught {
        let mut first = LayerTrust::prior(EXPERTS);
        first.convergence = (0..EXPERTS)
            .map(|e| if e == 0 { 1.0 } else { 0.0 })
            .collect();
        first.stability.clone_from(&first.convergence);
        let view = view(|_| first.clone());
        let directives = directives(0, capacity, 0, None);
        cache.apply(&directives, &view).unwrap();
    }
    for tick in 1..=40 {
        for rank in 0..LAYERS {
            run(&mut cache, tick, rank, &[0, 1]);
        }
    }
    cache.stats().hits
}

#[test]
fn below_the_working_set_lru_hits_nothing_and_the_others_something() {
    let layers = u64::from(LAYERS);
    for capacity in 2..=layers * 2 + 1 {
        let cliff = cycle_cliff(capacity, layers, 2);
        let most = 39 * layers * cliff.lru_hits_per_layer_most;
        assert_eq!(
            cycle(EvictionPolicy::Lru, capacity, false),
            most,
            "{cliff:?}"
        );
        if capacity > 2 {
            for policy in [EvictionPolicy::Lfu, HORIZON] {
                let hits = cycle(policy, capacity, false);
                assert!(hits >= 35, "{policy:?} {hits} at {capacity}");
            }
        }
        // What is trusted of every layer fits beside a window.
        if capacity > layers {
            let hits = cycle(EvictionPolicy::Trust, capacity, true);
            assert!(hits >= 35, "trust {hits} at {capacity}");
        }
    }
    assert!(cycle_cliff(4, layers, 2).lru_hits_nothing());
    assert_eq!(
        cycle(EvictionPolicy::Trust, 4, false),
        0,
        "trust that knows nothing is lru"
    );
    for policy in POLICIES {
        assert_eq!(
            cycle(policy, 6, false),
            39 * 6,
            "{policy:?} with room for all"
        );
    }
}

#[test]
fn lfu_counts_tokens_survives_eviction_and_breaks_ties_by_the_layers_turn() {
    let (mut cache, _) = cache(EvictionPolicy::Lfu, 3, 0);
    for tick in 1..=3 {
        run(&mut cache, tick, 0, &[0]);
    }
    run(&mut cache, 4, 1, &[0]);
    run(&mut cache, 4, 2, &[0]);
    // One use each: from rank 2 on, rank 1 comes again after rank 0, and rank 2 itself is farther still.
    run(&mut cache, 5, 2, &[1]);
    assert_eq!(resident(&cache), [(1, 0), (4, 0), (5, 1)]);
    // The count of (5, 0) outlived its eviction: with a second use it beats those of one.
    run(&mut cache, 6, 2, &[0]);
    run(&mut cache, 6, 0, &[1]);
    assert_eq!(resident(&cache), [(1, 0), (1, 1), (5, 0)]);
    // A chunk counts the tokens that used an expert, not the leases; of equals in one layer the lowest goes.
    let mut chunk = request(7, 1, &[2, 3]);
    (chunk.phase, chunk.tokens) = (Phase::Prefill, 9);
    chunk.uses.iter_mut().for_each(|used| used.tokens = 4);
    let lease = cache.lease(&chunk).unwrap();
    cache.release(lease.id).unwrap();
    assert_eq!(resident(&cache), [(1, 0), (4, 2), (4, 3)]);
    run(&mut cache, 8, 2, &[5]);
    assert_eq!(resident(&cache), [(4, 2), (4, 3), (5, 5)]);
    run(&mut cache, 9, 2, &[4]);
    run(&mut cache, 9, 0, &[0, 3]);
    assert_eq!(resident(&cache), [(1, 0), (1, 3), (4, 3)]);
}

#[test]
fn trust_weighs_age_against_what_the_ledger_believes() {
    let (mut cache, _) = cache(EvictionPolicy::Trust, 3, 0);
    let believe = |cache: &mut Cache, tick, convergence: [f32; 6], stability: [f32; 6]| {
        let view = view(|experts| LayerTrust {
            convergence: convergence.to_vec(),
            stability: stability.to_vec(),
            ..LayerTrust::prior(experts)
        });
        cache.apply(&directives(tick, 3, 0, None), &view).unwrap();
    };
    let fill = |cache: &mut Cache, tick| {
        for expert in [0, 1, 2] {
            run(cache, tick, 0, &[expert]);
        }
    };
    fill(&mut cache, 1);
    run(&mut cache, 1, 1, &[5]);
    assert_eq!(
        resident(&cache),
        [(1, 1), (1, 2), (4, 5)],
        "as lru without beliefs"
    );
    // Ages 1, 0.5, 0 (times 0.4): a convergence lower by one is worth 0.3, a stability lower by one 0.2.
    fill(&mut cache, 2);
    believe(&mut cache, 2, [1.0, 0.0, 0.5, 0.5, 0.5, 0.5], [0.5; 6]);
    run(&mut cache, 2, 1, &[5]);
    assert_eq!(resident(&cache), [(1, 0), (1, 2), (4, 5)]);
    fill(&mut cache, 3);
    believe(&mut cache, 3, [0.5; 6], [1.0, 0.5, 0.0, 0.5, 0.5, 0.5]);
    run(&mut cache, 3, 1, &[5]);
    assert_eq!(
        resident(&cache),
        [(1, 1), (1, 2), (4, 5)],
        "0.4 of age outweighs 0.2"
    );
    let (useful, steady) = (
        [1.0, 0.9, 0.0, 0.5, 0.5, 0.5],
        [1.0, 1.0, 0.0, 0.5, 0.5, 0.5],
    );
    believe(&mut cache, 4, useful, steady);
    fill(&mut cache, 4);
    run(&mut cache, 4, 1, &[5]);
    assert_eq!(
        resident(&cache),
        [(1, 0), (1, 1), (4, 5)],
        "one leaves that is younger"
    );
}

#[test]
fn a_view_that_lacks_an_expert_is_refused_and_changes_nothing() {
    let short = view(|_| LayerTrust::prior(EXPERTS - 1));
    let mut missing = view(LayerTrust::prior);
    missing.layers.remove(&layer(1));
    for (view, rank, entries) in [(&short, 0, 5), (&missing, 1, 0)] {
        let (mut cache, _) = cache(EvictionPolicy::Trust, 6, 0);
        run(&mut cache, 1, 0, &[0, 1, 2]);
        let before = cache.stats();
        let error = CacheError::Trust {
            layer: layer(rank),
            entries,
            experts: usize::from(EXPERTS),
        };
        assert_eq!(cache.apply(&directives(1, 3, 0, None), view), Err(error));
        assert_eq!(cache.stats(), before);
        let asleep = Directives {
            modules: vec![],
            ..directives(1, 3, 0, None)
        };
        assert!(cache.apply(&asleep, view).is_ok(), "who sleeps needs none");
        let (mut other, _) = super::cache(HORIZON, 6, 0);
        assert!(other.apply(&directives(1, 3, 0, None), view).is_ok());
    }
}

#[test]
fn lru_evicts_the_oldest_and_of_equals_the_lowest() {
    let (mut cache, _) = cache(EvictionPolicy::Lru, 4, 0);
    run(&mut cache, 1, 1, &[5, 3]);
    run(&mut cache, 1, 0, &[0, 1]);
    run(&mut cache, 1, 2, &[0]);
    assert_eq!(resident(&cache), [(1, 0), (1, 1), (4, 5), (5, 0)]);
}

#[test]
fn horizon_evicts_by_expected_distance() {
    let (mut cache, _) = cache(HORIZON, 4, 0);
    // In layer rank 0, expert 0 works with every token, expert 1 worked once; both other layers' are fresh.
    for tick in 1..=10 {
        run(&mut cache, tick, 0, &[0]);
    }
    run(&mut cache, 11, 0, &[0, 1]);
    run(&mut cache, 11, 1, &[2]);
    run(&mut cache, 11, 2, &[3]);
    // d(0, 0) is small. (0, 1), (1, 2) and (2, 3) have the same frequency; from rank 0 on, the layer itself is
    // farthest.
    assert_eq!(run(&mut cache, 12, 0, &[4]), [false]);
    assert_eq!(resident(&cache), [(1, 0), (1, 4), (4, 2), (5, 3)]);
    // From rank 1: rank 0 is two steps away, rank 2 one, rank 1 itself three.
    assert_eq!(run(&mut cache, 12, 1, &[5]), [false]);
    assert_eq!(resident(&cache), [(1, 0), (1, 4), (4, 5), (5, 3)]);
}

#[test]
fn horizon_counts_use_over_all_experts_and_forgets() {
    let (mut cache, _) = cache(HORIZON, 3, 0);
    for tick in 1..=12 {
        run(&mut cache, tick, 0, &[0]);
    }
    // Expert 0 is a memory by now, experts 1 and 2 alternate; a newcomer displaces 0.
    for tick in 13..=80 {
        run(&mut cache, tick, 0, &[1 + (tick % 2) as u16]);
    }
    run(&mut cache, 81, 0, &[3]);
    assert_eq!(resident(&cache), [(1, 1), (1, 2), (1, 3)]);
    // What was evicted keeps its frequency: 1 and 2 come back and stay against one-off experts.
    run(&mut cache, 82, 0, &[4, 5]);
    assert_eq!(run(&mut cache, 83, 0, &[1, 2]).len(), 2);
    run(&mut cache, 84, 0, &[5]);
    let left = resident(&cache);
    assert!(left.contains(&(1, 1)) && left.contains(&(1, 2)), "{left:?}");
}

#[test]
fn windows_of_one_chunk_count_its_tokens_once() {
    let (mut cache, _) = cache(HORIZON, 6, 0);
    let chunk = |experts: &[u16]| {
        let mut request = request(1, 0, experts);
        request.phase = Phase::Prefill;
        request.tokens = 12;
        request.uses.iter_mut().for_each(|used| used.tokens = 6);
        request
    };
    for window in [[2, 3], [0, 1]] {
        let lease = cache.lease(&chunk(&window)).unwrap();
        cache.release(lease.id).unwrap();
    }
    // 12 tokens are one half-life: half of a frequency of 6 in 12. Same clock: an exact tie, the lowest key goes.
    run(&mut cache, 1, 1, &[0, 1, 2]);
    assert_eq!(
        resident(&cache),
        [(1, 1), (1, 2), (1, 3), (4, 0), (4, 1), (4, 2)]
    );
}

#[test]
fn habits_keep_what_the_domain_will_need() {
    let habit = |module, expert| Habit {
        module,
        state: State::Wake,
        domain: "book".into(),
        tokens: 100,
        uses: vec![ExpertUse {
            layer: 1,
            expert,
            tokens: 100,
        }],
    };
    let after = |learned: bool, domain: &str| {
        let (mut cache, _) = cache(HORIZON, 2, 0);
        if learned {
            cache.consolidate(&habit(Module::Thinker, 0)).unwrap();
        }
        assert_eq!(
            cache.enter(domain, State::Focus),
            learned && domain == "book"
        );
        run(&mut cache, 1, 0, &[0]);
        for tick in 2..=9 {
            run(&mut cache, tick, 0, &[1]);
        }
        // One must go: expert 1 was used lately, expert 0 is what the domain needs.
        run(&mut cache, 10, 0, &[2]);
        resident(&cache)
    };
    assert_eq!(after(false, "book"), [(1, 1), (1, 2)]);
    assert_eq!(after(true, "libro"), [(1, 1), (1, 2)]);
    assert_eq!(after(true, "book"), [(1, 0), (1, 2)]);
    let (mut cache, _) = cache(HORIZON, 2, 0);
    assert!(cache.consolidate(&habit(Module::Thinker, EXPERTS)).is_err());
    assert!(cache.consolidate(&habit(Module::Talker, 0)).is_err());
    assert!(!cache.enter("book", State::Wake));
}
