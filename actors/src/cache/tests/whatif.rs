use super::super::whatif::*;
use crate::config::EvictionPolicy;
use crate::protocol::Phase;

/// One layer, one expert a token.
fn routes(used: &[u16]) -> Routes {
    let mut routes = Routes::new(8, vec![10]);
    for expert in used {
        routes.push(Phase::Decode, 1, &[vec![(*expert, 1)]]);
    }
    routes
}

fn hits(routes: &Routes, chooser: Chooser, capacity: u64) -> u64 {
    let counts = replay(routes, chooser, capacity, false);
    counts.iter().map(|counts| counts.hits).sum()
}

const LRU: Chooser = Chooser::Online(EvictionPolicy::Lru);

#[test]
fn belady_looks_ahead_and_lru_looks_back() {
    // Worked by hand: a cycle of three in room for two.
    let cycle = routes(&[0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(hits(&cycle, LRU, 20), 0);
    assert_eq!(hits(&cycle, Chooser::Belady, 20), 3);
    assert_eq!(hits(&cycle, LRU, 30), 6);
    assert_eq!(hits(&cycle, LRU, 0), 0);
}

#[test]
fn a_prompt_enters_as_one_batch_and_counts_only_when_asked() {
    let mut routes = Routes::new(8, vec![10]);
    routes.push(Phase::Prefill, 5, &[vec![(0, 3), (1, 2)]]);
    routes.push(Phase::Decode, 1, &[vec![(1, 1)]]);
    let decode = replay(&routes, LRU, 20, false);
    assert_eq!(decode.len(), 1);
    assert_eq!(
        (decode[0].hits, decode[0].routed, decode[0].miss_bytes),
        (1, 1, 0)
    );
    let all = replay(&routes, LRU, 20, true);
    assert_eq!((all[0].routed, all[0].miss_bytes), (2, 20));
}

#[test]
fn layers_of_two_sizes_share_the_bytes() {
    let mut routes = Routes::new(4, vec![10, 30]);
    for _ in 0..3 {
        routes.push(Phase::Decode, 1, &[vec![(0, 1)], vec![(2, 1)]]);
    }
    assert_eq!(routes.all_bytes(), 160);
    assert_eq!(hits(&routes, LRU, 40), 4);
    // Only the small one fits.
    assert_eq!(hits(&routes, LRU, 29), 2);
}

/// Without a ledger `trust` goes by age alone, which is what `lru` goes by.
#[test]
fn trust_without_a_ledger_is_lru() {
    let mut state = 5u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut routes = Routes::new(16, vec![10, 10, 10]);
    for _ in 0..300 {
        let layers: Vec<Vec<(u16, u32)>> = (0..3)
            .map(|_| {
                let (a, b) = (next(16) as u16, next(16) as u16);
                let mut uses = vec![(a.min(b), 1), (a.max(b), 1)];
                uses.dedup();
                uses
            })
            .collect();
        routes.push(Phase::Decode, 1, &layers);
    }
    for capacity in [40, 120, 250] {
        let trust = hits(&routes, Chooser::Online(EvictionPolicy::Trust), capacity);
        assert_eq!(trust, hits(&routes, LRU, capacity), "{capacity}");
    }
}

#[test]
fn no_policy_beats_belady() {
    // A fixed pseudo-random walk over experts.
    let mut state = 7u32;
    let used: Vec<u16> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 29) as u16
    })
    .take(400)
    .collect();
    let routes = routes(&used);
    let best = hits(&routes, Chooser::Belady, 40);
    for policy in [
        EvictionPolicy::Lru,
        EvictionPolicy::Lfu,
        EvictionPolicy::Trust,
        EvictionPolicy::default(),
        EvictionPolicy::Learned,
    ] {
        let found = hits(&routes, Chooser::Online(policy), 40);
        assert!(found <= best && found > 0, "{policy:?} {found} of {best}");
    }
}
