mod model;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::ModuleShape;
use crate::protocol::{Energy, State, Use};

const LAYERS: u16 = 3;
const EXPERTS: u16 = 6;
const BYTES: u64 = 100;
const WINDOW: u16 = 3;

/// A source that checks what it is told: which slot holds what, and the order of calls.
#[derive(Default)]
struct Memory(Mutex<Held>);

#[derive(Default)]
struct Held {
    slots: BTreeMap<SlotId, (ExpertKey, bool)>,
    admitting: bool,
    settles: u32,
    most: usize,
}

impl ExpertSource for Memory {
    fn admit(&self, key: ExpertKey, slot: SlotId, speculative: bool) {
        let mut held = self.0.lock().unwrap();
        held.admitting = true;
        assert!(
            held.slots.insert(slot, (key, speculative)).is_none(),
            "slot {slot:?} is taken"
        );
        held.most = held.most.max(held.slots.len());
    }
    fn promote(&self, slot: SlotId) {
        let mut held = self.0.lock().unwrap();
        let speculative = &mut held.slots.get_mut(&slot).unwrap().1;
        assert!(std::mem::replace(speculative, false));
    }
    fn evict(&self, slot: SlotId) {
        let mut held = self.0.lock().unwrap();
        assert!(!held.admitting, "evict after admit");
        assert!(held.slots.remove(&slot).is_some(), "slot {slot:?} is empty");
    }
    fn settle(&self) {
        let mut held = self.0.lock().unwrap();
        held.admitting = false;
        held.settles += 1;
    }
}

fn config(eviction: EvictionPolicy) -> MindConfig {
    MindConfig {
        modules: vec![ModuleShape {
            module: Module::Thinker,
            layers: vec![1, 4, 5],
            experts: EXPERTS,
            k_trained: 2,
            norm_topk_prob: true,
            expert_bytes: BYTES,
        }],
        eviction,
        window_experts: WINDOW,
        ..MindConfig::default()
    }
}

fn layer(rank: u16) -> LayerKey {
    LayerKey {
        module: Module::Thinker,
        layer: [1, 4, 5][usize::from(rank)],
    }
}

fn directives(tick: Tick, demand: u64, speculation: u64, miss: Option<u64>) -> Directives {
    Directives {
        epoch: tick,
        tick,
        state: State::Focus,
        transition: None,
        energy: Energy::default(),
        drive: 0.0,
        may_step: true,
        end_answer: false,
        tokens_max: None,
        modules: vec![ModuleDirective {
            module: Module::Thinker,
            epoch: tick,
            state: State::Focus,
            k: 2,
            expert_bytes: demand * BYTES,
            speculation_bytes: speculation * BYTES,
            miss_bytes_per_token: miss,
            lambda: 0.0,
            beta: 0.0,
            focus_weight: 0.0,
            lookahead: 0,
        }],
    }
}

fn request(tick: Tick, rank: u16, experts: &[u16]) -> LeaseRequest {
    LeaseRequest {
        tick,
        phase: Phase::Decode,
        layer: layer(rank),
        tokens: 1,
        uses: experts
            .iter()
            .map(|expert| Use {
                expert: *expert,
                tokens: 1,
            })
            .collect(),
        next_layer: layer((rank + 1) % LAYERS),
    }
}

fn cache(eviction: EvictionPolicy, demand: u64, speculation: u64) -> (Cache, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let mut cache = Cache::new(
        &config(eviction),
        Arc::clone(&memory) as Arc<dyn ExpertSource>,
    );
    cache.apply(&directives(0, demand, speculation, None));
    (cache, memory)
}

const HORIZON: EvictionPolicy = EvictionPolicy::Horizon {
    half_life_tokens: 12.0,
};

fn run(cache: &mut Cache, tick: Tick, rank: u16, experts: &[u16]) -> Vec<bool> {
    let lease = cache.lease(&request(tick, rank, experts)).unwrap();
    cache.release(lease.id).unwrap();
    lease.experts.iter().map(|leased| leased.hit).collect()
}

fn resident(cache: &Cache) -> Vec<(u16, u16)> {
    cache
        .resident(Module::Thinker)
        .iter()
        .map(|key| (key.layer.layer, key.expert))
        .collect()
}

#[test]
fn a_cycle_longer_than_the_pool_gives_lru_nothing_and_horizon_something() {
    let hits = |policy| {
        let (mut cache, _) = cache(policy, 3, 0);
        for tick in 1..=40 {
            for rank in 0..LAYERS {
                run(&mut cache, tick, rank, &[0, 1]);
            }
        }
        cache.stats().hits
    };
    assert_eq!(hits(EvictionPolicy::Lru), 0);
    assert!(hits(HORIZON) >= 35, "{}", hits(HORIZON));
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
fn leases_pin_and_a_smaller_budget_waits_for_the_next_lease() {
    let (mut cache, _) = cache(EvictionPolicy::Lru, 6, 0);
    run(&mut cache, 1, 2, &[0, 1, 2]);
    let held = cache.lease(&request(1, 0, &[0, 1, 2])).unwrap();
    cache.apply(&directives(2, 2, 0, None));
    assert_eq!(
        resident(&cache),
        [(1, 0), (1, 1), (1, 2)],
        "what is not pinned goes at once"
    );
    assert!(cache.stats().resident_bytes > cache.stats().capacity_bytes);
    let error = cache.lease(&request(2, 1, &[0])).unwrap_err();
    let no_room = CacheError::NoRoom {
        needed_bytes: 100,
        pinned_bytes: 300,
        capacity_bytes: 200,
    };
    assert_eq!(error, no_room);
    cache.release(held.id).unwrap();
    assert_eq!(cache.stats().resident_bytes, 300);
    run(&mut cache, 2, 1, &[]);
    assert_eq!(
        cache.stats().resident_bytes,
        200,
        "the next lease obeys, whatever it asks"
    );
}

#[test]
fn the_byte_cap_counts_decoded_misses_and_resets_with_the_tick() {
    let (mut cache, _) = cache(EvictionPolicy::Lru, 6, 0);
    let residency = cache.apply(&directives(1, 6, 0, Some(250)));
    assert_eq!(residency.bytes_left, Some(250));
    assert_eq!(
        cache
            .lease(&request(1, 0, &[0, 1]))
            .unwrap()
            .next
            .bytes_left,
        Some(50)
    );
    assert_eq!(
        cache.lease(&request(1, 1, &[0])).unwrap().next.bytes_left,
        Some(0)
    );
    assert_eq!(
        cache
            .lease(&request(1, 0, &[0, 1]))
            .unwrap()
            .next
            .bytes_left,
        Some(0),
        "hits are free"
    );
    let prefill = LeaseRequest {
        phase: Phase::Prefill,
        ..request(2, 2, &[0])
    };
    assert_eq!(cache.lease(&prefill).unwrap().next.bytes_left, Some(250));
    assert_eq!(cache.apply(&directives(3, 6, 0, None)).bytes_left, None);
}

#[test]
fn a_lease_answers_in_order_with_the_next_layers_residency() {
    let (mut cache, _) = cache(EvictionPolicy::Lru, 6, 0);
    run(&mut cache, 1, 1, &[5, 2]);
    let lease = cache.lease(&request(1, 0, &[4, 0])).unwrap();
    let experts: Vec<_> = lease
        .experts
        .iter()
        .map(|e| (e.expert, e.slot.0, e.hit))
        .collect();
    assert_eq!(experts, [(4, 2, false), (0, 3, false)]);
    assert_eq!(lease.miss_bytes, 200);
    let next: Vec<u16> = (0..EXPERTS)
        .filter(|e| lease.next.resident.contains(*e))
        .collect();
    assert_eq!(next, [2, 5]);
}

#[test]
fn a_demand_takes_over_what_was_prefetched_and_is_still_a_miss() {
    let (mut cache, memory) = cache(EvictionPolicy::Lru, 4, 2);
    cache.prefetch(layer(0), &[3, 3, 1, 5]).unwrap();
    assert_eq!(
        cache.stats().speculative_reads,
        2,
        "no more than the pool holds"
    );
    let slots: Vec<_> = memory.0.lock().unwrap().slots.values().copied().collect();
    assert_eq!(
        slots
            .iter()
            .map(|(key, spec)| (key.expert, *spec))
            .collect::<Vec<_>>(),
        [(3, true), (1, true)]
    );
    let lease = cache.lease(&request(1, 0, &[3, 0])).unwrap();
    assert_eq!(
        lease
            .experts
            .iter()
            .map(|e| (e.slot.0, e.hit))
            .collect::<Vec<_>>(),
        [(0, false), (2, false)]
    );
    let stats = cache.stats();
    assert_eq!(
        (
            stats.misses,
            stats.hits,
            stats.waits_avoided,
            stats.miss_bytes
        ),
        (2, 0, 1, 200)
    );
    assert_eq!(stats.resident_experts, 2);
    // First in, first out; what is in memory is not read again.
    cache.prefetch(layer(1), &[0, 1]).unwrap();
    cache.prefetch(layer(0), &[3, 0]).unwrap();
    assert_eq!(cache.stats().speculative_reads, 4);
    cache.apply(&directives(1, 4, 0, None));
    assert_eq!(
        memory.0.lock().unwrap().slots.len(),
        2,
        "a pool of no capacity holds nothing"
    );
}

#[test]
fn a_module_without_a_directive_holds_nothing() {
    let (mut cache, memory) = cache(EvictionPolicy::Lru, 4, 2);
    run(&mut cache, 1, 0, &[0, 1]);
    cache.prefetch(layer(1), &[0]).unwrap();
    cache.apply(&Directives {
        modules: vec![],
        ..directives(2, 4, 2, None)
    });
    assert!(memory.0.lock().unwrap().slots.is_empty());
    assert!(matches!(
        cache.lease(&request(2, 0, &[0])),
        Err(CacheError::NoRoom { .. })
    ));
}

#[test]
fn impossible_requests_are_named_and_change_nothing() {
    let (mut cache, memory) = cache(EvictionPolicy::Lru, 6, 2);
    let bad = LayerKey {
        module: Module::Thinker,
        layer: 2,
    };
    let key = |expert| ExpertKey {
        layer: layer(0),
        expert,
    };
    let cases = [
        (
            LeaseRequest {
                layer: bad,
                ..request(1, 0, &[0])
            },
            CacheError::UnknownLayer(bad),
        ),
        (
            LeaseRequest {
                next_layer: bad,
                ..request(1, 0, &[0])
            },
            CacheError::UnknownLayer(bad),
        ),
        (request(1, 0, &[0, 6]), CacheError::UnknownExpert(key(6))),
        (
            request(1, 0, &[1, 2, 1]),
            CacheError::DuplicateExpert(key(1)),
        ),
        (
            request(1, 0, &[0, 1, 2, 3]),
            CacheError::TooManyExperts {
                asked: 4,
                window: 3,
            },
        ),
    ];
    for (request, error) in cases {
        assert_eq!(cache.lease(&request), Err(error));
    }
    assert_eq!(
        cache.release(LeaseId(0)),
        Err(CacheError::UnknownLease(LeaseId(0)))
    );
    assert_eq!(
        cache.prefetch(bad, &[0]),
        Err(CacheError::UnknownLayer(bad))
    );
    assert_eq!(
        cache.prefetch(layer(0), &[6]),
        Err(CacheError::UnknownExpert(key(6)))
    );
    let lease = cache.lease(&request(1, 0, &[0])).unwrap();
    cache.release(lease.id).unwrap();
    assert_eq!(
        cache.release(lease.id),
        Err(CacheError::UnknownLease(lease.id))
    );
    assert_eq!(cache.stats().misses, 1);
    assert_eq!(memory.0.lock().unwrap().settles, 1);
}
