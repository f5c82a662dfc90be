mod policies;
mod saving;
mod whatif;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::ModuleShape;
use crate::protocol::{Energy, ExpertUse, State, Use};

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
        held.slots.get_mut(&slot).unwrap().1 = false;
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
            smaller: Vec::new(),
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
        towers: Vec::new(),
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
            reading_k: None,
            router_mass: 1.0,
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
        upcoming: Vec::new(),
        next_layer: layer((rank + 1) % LAYERS),
    }
}

fn cache(eviction: EvictionPolicy, demand: u64, speculation: u64) -> (Cache, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let mut cache = Cache::new(
        &config(eviction),
        Arc::clone(&memory) as Arc<dyn ExpertSource>,
    );
    apply(&mut cache, &directives(0, demand, speculation, None));
    (cache, memory)
}

/// A directive and the prior's trust.
fn apply(cache: &mut Cache, directives: &Directives) -> Residency {
    cache.apply(directives, &view(LayerTrust::prior)).unwrap()
}

/// One belief for every layer.
fn view(belief: impl Fn(u16) -> LayerTrust) -> TrustView {
    let layers = (0..LAYERS).map(|rank| (layer(rank), Arc::new(belief(EXPERTS))));
    TrustView {
        layers: layers.collect(),
    }
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
fn leases_pin_and_a_smaller_budget_waits_for_the_next_lease() {
    let (mut cache, _) = cache(EvictionPolicy::Lru, 6, 0);
    run(&mut cache, 1, 2, &[0, 1, 2]);
    let held = cache.lease(&request(1, 0, &[0, 1, 2])).unwrap();
    apply(&mut cache, &directives(2, 2, 0, None));
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
    let residency = apply(&mut cache, &directives(1, 6, 0, Some(250)));
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
    assert_eq!(
        apply(&mut cache, &directives(3, 6, 0, None)).bytes_left,
        None
    );
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
    apply(&mut cache, &directives(1, 4, 0, None));
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
    let asleep = Directives {
        modules: vec![],
        ..directives(2, 4, 2, None)
    };
    apply(&mut cache, &asleep);
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
                upcoming: Vec::new(),
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

#[test]
fn what_the_next_window_asks_for_is_read_behind_this_one_and_is_still_a_miss() {
    let (mut cache, memory) = cache(EvictionPolicy::Lru, 6, 2);
    let prefill = |uses: &[u16], upcoming: &[u16]| LeaseRequest {
        phase: Phase::Prefill,
        upcoming: upcoming.to_vec(),
        ..request(1, 0, uses)
    };
    let read = || {
        let held = memory.0.lock().unwrap();
        let slots = held.slots.values();
        Vec::from_iter(slots.map(|(key, speculative)| (key.expert, *speculative)))
    };
    let first = cache.lease(&prefill(&[0, 1], &[2, 3, 4])).unwrap();
    // As many as the speculation pool holds, and none of them as a guess.
    assert_eq!(read(), [(0, false), (1, false), (2, false), (3, false)]);
    assert_eq!(cache.stats().speculative_reads, 0);
    cache.release(first.id).unwrap();
    let second = cache.lease(&prefill(&[2, 3, 4], &[])).unwrap();
    assert!(second.experts.iter().all(|expert| !expert.hit));
    assert_eq!(second.miss_bytes, 3 * BYTES);
    assert_eq!(read().len(), 5, "nothing is read twice");
}
