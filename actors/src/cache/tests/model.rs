//! Random operations against what can be told from outside.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Lease {
        rank: u16,
        experts: BTreeSet<u16>,
        new_tick: bool,
        prefill: bool,
    },
    Release(usize),
    Apply {
        demand: u64,
        speculation: u64,
        miss: Option<u64>,
    },
    Prefetch {
        rank: u16,
        experts: Vec<u16>,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let lease = (
        0..LAYERS,
        prop::collection::btree_set(0..EXPERTS, 0..=3),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(rank, experts, new_tick, prefill)| Op::Lease {
            rank,
            experts,
            new_tick,
            prefill,
        });
    let apply =
        (3u64..12, 0u64..4, prop::option::of(0u64..900)).prop_map(|(demand, speculation, miss)| {
            Op::Apply {
                demand,
                speculation,
                miss,
            }
        });
    let prefetch = (0..LAYERS, prop::collection::vec(0..EXPERTS, 0..5))
        .prop_map(|(rank, experts)| Op::Prefetch { rank, experts });
    let op =
        prop_oneof![6 => lease, 4 => (0usize..4).prop_map(Op::Release), 1 => apply, 3 => prefetch];
    prop::collection::vec(op, 0..120)
}

#[derive(Default)]
struct Played {
    decisions: Vec<String>,
    waits_avoided: u64,
    speculative_reads: u64,
}

/// A cache under test, and what is known of it from outside.
struct Player {
    cache: Cache,
    memory: Arc<Memory>,
    tick: Tick,
    capacity: u64,
    speculation: u64,
    leases: Vec<(LeaseId, BTreeSet<ExpertKey>)>,
    stats: CacheStats,
    played: Played,
}

/// Plays operations against a cache and checks every rule that can be told from outside.
fn play(ops: &[Op], eviction: EvictionPolicy, prefetching: bool) -> Played {
    let (cache, memory) = cache(eviction, 8, 2);
    let stats = cache.stats();
    let (leases, played) = (Vec::new(), Played::default());
    let mut player = Player {
        cache,
        memory,
        tick: 1,
        capacity: 8,
        speculation: 2,
        leases,
        stats,
        played,
    };
    for op in ops {
        let before = player.resident();
        match op {
            Op::Lease {
                rank,
                experts,
                new_tick,
                prefill,
            } => {
                player.tick += u64::from(*new_tick);
                let experts: Vec<u16> = experts.iter().copied().collect();
                let phase = if *prefill {
                    Phase::Prefill
                } else {
                    Phase::Decode
                };
                player.lease(
                    &LeaseRequest {
                        phase,
                        ..request(player.tick, *rank, &experts)
                    },
                    &before,
                );
            }
            Op::Release(i) if *i < player.leases.len() => {
                let (id, _) = player.leases.remove(*i);
                player.cache.release(id).unwrap();
            }
            Op::Release(_) => {}
            Op::Apply {
                demand,
                speculation,
                miss,
            } => player.apply(*demand, *speculation, *miss),
            Op::Prefetch { rank, experts } if prefetching => {
                player.cache.prefetch(layer(*rank), experts).unwrap();
            }
            Op::Prefetch { .. } => {}
        }
        player.check(&before);
    }
    player.played.waits_avoided = player.stats.waits_avoided;
    player.played.speculative_reads = player.stats.speculative_reads;
    player.played
}

impl Player {
    fn resident(&self) -> BTreeSet<ExpertKey> {
        self.cache.resident(Module::Thinker).into_iter().collect()
    }

    fn pinned(&self) -> BTreeSet<ExpertKey> {
        self.leases
            .iter()
            .flat_map(|(_, keys)| keys)
            .copied()
            .collect()
    }

    fn lease(&mut self, request: &LeaseRequest, before: &BTreeSet<ExpertKey>) {
        let key = |used: &Use| ExpertKey {
            layer: request.layer,
            expert: used.expert,
        };
        let asked: BTreeSet<ExpertKey> = request.uses.iter().map(key).collect();
        let answer = self.cache.lease(request);
        let fits = self.pinned().union(&asked).count() as u64 <= self.capacity;
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
        let Ok(lease) = answer else {
            self.played.decisions.push(format!("{answer:?}"));
            return;
        };
        check_lease(&lease, &asked, before, &self.memory);
        let stats = self.cache.stats();
        assert!(stats.resident_experts <= self.capacity);
        let misses = asked.difference(before).count() as u64;
        assert_eq!(stats.misses, self.stats.misses + misses);
        assert_eq!(stats.hits, self.stats.hits + asked.len() as u64 - misses);
        let hits: Vec<_> = lease.experts.iter().map(|e| (e.expert, e.hit)).collect();
        let said = format!(
            "{:?} {hits:?} {:?} {}",
            lease.id, lease.next, lease.miss_bytes
        );
        self.played.decisions.push(said);
        self.leases.push((lease.id, asked));
    }

    fn apply(&mut self, demand: u64, speculation: u64, miss: Option<u64>) {
        (self.capacity, self.speculation) = (demand, speculation);
        let residency = apply(
            &mut self.cache,
            &directives(self.tick, demand, speculation, miss),
        );
        self.played.decisions.push(format!("{residency:?}"));
        let most = self.capacity.max(self.pinned().len() as u64);
        assert!(self.cache.stats().resident_experts <= most);
    }

    /// What holds after every operation.
    fn check(&mut self, before: &BTreeSet<ExpertKey>) {
        let after = self.resident();
        assert!(
            self.pinned().is_subset(&after),
            "a pinned expert was evicted"
        );
        let stats = self.cache.stats();
        let evicted = before.difference(&after).count() as u64;
        assert_eq!(stats.evictions, self.stats.evictions + evicted);
        assert_eq!(stats.resident_experts, after.len() as u64);
        assert_eq!(stats.resident_bytes, after.len() as u64 * BYTES);
        assert_eq!(stats.capacity_bytes, self.capacity * BYTES);
        assert_eq!(stats.miss_bytes, stats.misses * BYTES);
        let held = self.memory.0.lock().unwrap();
        let (spec, demand): (Vec<_>, Vec<_>) = held
            .slots
            .values()
            .partition(|(_, speculative)| *speculative);
        assert_eq!(
            demand.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>(),
            after
        );
        assert_eq!(demand.len(), after.len());
        assert!(spec.len() as u64 <= self.speculation);
        assert!(
            held.slots
                .keys()
                .all(|slot| usize::try_from(slot.0).unwrap() < held.most)
        );
        let residents: Vec<_> = after
            .iter()
            .map(|key| (key.layer.layer, key.expert))
            .collect();
        let said = format!(
            "{residents:?} {} {} {}",
            stats.hits, stats.misses, stats.evictions
        );
        self.played.decisions.push(said);
        self.stats = stats;
    }
}

fn check_lease(
    lease: &Lease,
    asked: &BTreeSet<ExpertKey>,
    before: &BTreeSet<ExpertKey>,
    memory: &Memory,
) {
    let held = memory.0.lock().unwrap();
    for (leased, key) in lease.experts.iter().zip(asked) {
        assert_eq!(leased.expert, key.expert);
        assert_eq!(leased.hit, before.contains(key));
        assert_eq!(held.slots[&leased.slot], (*key, false));
    }
    assert_eq!(lease.experts.len(), asked.len());
}

proptest! {
    #[test]
    fn the_rules_hold_and_speculation_changes_no_decision(
        ops in ops(),
        eviction in prop::sample::select(vec![EvictionPolicy::Lru, EvictionPolicy::Lfu, EvictionPolicy::Trust, HORIZON]),
    ) {
        let (with, without) = (play(&ops, eviction, true), play(&ops, eviction, false));
        prop_assert_eq!(with.decisions, without.decisions);
        prop_assert_eq!((without.waits_avoided, without.speculative_reads), (0, 0));
        prop_assert!(with.waits_avoided <= with.speculative_reads);
    }
}
