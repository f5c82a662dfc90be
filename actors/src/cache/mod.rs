//! Which experts are in memory.
//!
//! Two pools a module. The *demand pool* changes by leases and directives only, in message order; residency,
//! hits, evictions and bytes speak of nothing else. The *speculation pool* holds prefetched experts in order of
//! arrival and no decision sees it: a demand that finds its expert there is a miss like any other, except that
//! there is no read to wait for. An expert is resident from the moment its read is admitted.

pub mod actor;
mod ahead;
mod cliff;
mod eviction;
pub mod habits;
mod mixture;
mod pool;
#[cfg(test)]
mod tests;
mod twin;
mod usage;
pub mod whatif;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{EvictionPolicy, MindConfig};
use crate::protocol::{
    CacheStats, Directives, ExpertKey, ExpertSet, ExpertSource, Habit, Holding, LayerKey,
    LayerTrust, Lease, LeaseId, LeaseRequest, LeasedExpert, Module, ModuleDirective, Phase,
    Residency, SlotId, State, Tick, TrustView,
};
pub use ahead::Predictions;
pub use cliff::{CycleCliff, StateCliff, cycle_cliff, state_cliffs};
use habits::Habits;
pub use mixture::Mixture;
use pool::{LeaseClaim, Pool};

/// Why the cache refuses a request. Nothing has changed when it does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The model has no such sparse layer.
    #[error("no sparse layer {0:?}")]
    UnknownLayer(LayerKey),
    /// The layer has no such expert.
    #[error("no expert {0:?}")]
    UnknownExpert(ExpertKey),
    /// An expert is asked for twice in one lease.
    #[error("expert {0:?} appears twice in a lease")]
    DuplicateExpert(ExpertKey),
    /// More experts than a lease may hold.
    #[error("{asked} experts asked for, a lease holds at most {window}")]
    TooManyExperts {
        /// Experts in the request.
        asked: usize,
        /// Experts of one lease at most.
        window: usize,
    },
    /// Leases that are still out pin too much.
    #[error(
        "{needed_bytes} bytes needed beside {pinned_bytes} pinned, the demand pool holds {capacity_bytes}"
    )]
    NoRoom {
        /// Of the request's experts.
        needed_bytes: u64,
        /// By leases that are not released.
        pinned_bytes: u64,
        /// Of the module's demand pool.
        capacity_bytes: u64,
    },
    /// No such lease, or already released.
    #[error("no lease {0:?}")]
    UnknownLease(LeaseId),
    /// The eviction policy `trust` is given a view that lacks a layer, or experts of it.
    #[error("trust of {entries} experts for {layer:?}, which has {experts}")]
    Trust {
        /// Whose view.
        layer: LayerKey,
        /// Experts in it; 0 if the layer is missing.
        entries: usize,
        /// Experts of the layer.
        experts: usize,
    },
}

/// What a decision asks of the source, in the order that it is told.
#[derive(Debug, Default)]
struct Orders {
    evict: Vec<SlotId>,
    admit: Vec<(ExpertKey, SlotId, bool)>,
    promote: Vec<SlotId>,
}

/// The expert cache of all modules.
pub struct Cache {
    source: Arc<dyn ExpertSource>,
    pools: Vec<Pool>,
    /// Of every pool, in the same order.
    habits: Vec<Habits>,
    /// Of every pool, in the same order.
    predictions: Vec<Predictions>,
    leases: BTreeMap<LeaseId, (usize, Vec<u32>)>,
    /// Whether the policy asks what the ledger believes.
    trusting: bool,
    next_lease: u64,
    window_experts: u16,
    stats: CacheStats,
}

impl Cache {
    /// A cache of the configured modules. Each demand pool holds one lease window until the first directive.
    pub fn new(config: &MindConfig, source: Arc<dyn ExpertSource>) -> Self {
        let pools: Vec<Pool> = config
            .modules
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let slot_base = (i as u32) << 24;
                Pool::new(shape, config.eviction, config.window_experts, slot_base)
            })
            .collect();
        Self {
            source,
            habits: vec![Habits::default(); pools.len()],
            predictions: pools.iter().map(|_| Predictions::default()).collect(),
            pools,
            leases: BTreeMap::new(),
            trusting: config.eviction == EvictionPolicy::Trust,
            next_lease: 0,
            window_experts: config.window_experts,
            stats: CacheStats::default(),
        }
    }

    /// Obeys new capacities: evicts what is not pinned at once, the rest with the next lease. A module without a
    /// directive sleeps and holds nothing. Answers the residency of the first sparse layer.
    ///
    /// Only the eviction policy `trust` looks at what the ledger believes, and keeps it until the next directive.
    ///
    /// # Errors
    /// Under that policy: [`CacheError::Trust`] if the view lacks an expert of a module awake.
    pub fn apply(
        &mut self,
        directives: &Directives,
        trust: &TrustView,
    ) -> Result<Residency, CacheError> {
        if self.trusting {
            self.believe(directives, trust)?;
        }
        let mut orders = Orders::default();
        for pool in &mut self.pools {
            let directive = directives
                .modules
                .iter()
                .find(|directive| directive.module == pool.module());
            obey(
                pool,
                directive,
                self.window_experts,
                directives.tick,
                &mut orders,
            );
            self.stats.evictions += pool.make_room(0, &mut orders.evict);
        }
        self.settle(&orders);
        let first = self.pools.first();
        Ok(first.map(|pool| pool.residency(0)).unwrap_or_default())
    }

    /// Hands every awake module's pool its layers of the view, or changes nothing.
    fn believe(&mut self, directives: &Directives, trust: &TrustView) -> Result<(), CacheError> {
        let awake = |pool: &Pool| {
            let mut modules = directives.modules.iter();
            modules.any(|directive| directive.module == pool.module())
        };
        let mut views = Vec::new();
        for (at, pool) in self.pools.iter().enumerate() {
            if !awake(pool) {
                continue;
            }
            for (rank, layer) in pool.layer_keys().enumerate() {
                let view = trust.layers.get(&layer);
                let entries = view.map_or(0, |view: &Arc<LayerTrust>| {
                    view.convergence.len().min(view.stability.len())
                });
                let experts = pool.experts();
                match view {
                    Some(view) if entries >= experts => views.push((at, rank, view)),
                    _ => {
                        return Err(CacheError::Trust {
                            layer,
                            entries,
                            experts,
                        });
                    }
                }
            }
        }
        for (at, rank, view) in views {
            self.pools[at].set_trust(rank, view);
        }
        Ok(())
    }

    /// Pins a window of experts, admitting those that are not resident.
    ///
    /// # Errors
    /// Unknown layer or expert, an expert twice, more experts than a window, or no room beside other leases.
    pub fn lease(&mut self, request: &LeaseRequest) -> Result<Lease, CacheError> {
        let (at, layer) = self.find(request.layer)?;
        let (next_at, next_layer) = self.find(request.next_layer)?;
        let claim = self.claim(at, layer, request)?;
        let mut orders = Orders::default();
        let pool = &mut self.pools[at];
        let uses = claim.indices.iter().zip(&request.uses);
        let uses: Vec<(u32, u32)> = uses.map(|(index, used)| (*index, used.tokens)).collect();
        let turn = self.next_lease + 1;
        pool.turn(turn, request.tick, layer, request.tokens, &uses);
        pool.compare(&claim.indices, claim.miss_bytes);
        for index in &claim.indices {
            pool.pin(*index);
        }
        let needed = claim.miss_bytes;
        let upcoming = request.upcoming.iter();
        let upcoming = upcoming.filter_map(|expert| pool.index(layer, *expert));
        let upcoming: Vec<u32> = upcoming.collect();
        let spared = upcoming.iter().copied();
        let spared: Vec<u32> = spared.filter(|index| pool.is_resident(*index)).collect();
        spared.iter().for_each(|index| pool.pin(*index));
        self.stats.evictions += pool.make_room(needed, &mut orders.evict);
        spared.iter().for_each(|index| pool.unpin(*index));
        // Where nothing else is left to go.
        self.stats.evictions += pool.make_room(needed, &mut orders.evict);
        let mut experts = Vec::with_capacity(claim.indices.len());
        for (index, used) in claim.indices.iter().zip(&request.uses) {
            let key = ExpertKey {
                layer: request.layer,
                expert: used.expert,
            };
            let (slot, hit) = pool.admit(*index, key, &mut orders.admit, &mut orders.promote);
            if request.phase == Phase::Decode {
                self.predictions[at].asked(layer, *index, hit);
            }
            experts.push(LeasedExpert {
                expert: used.expert,
                slot,
                hit,
            });
        }
        match request.phase {
            Phase::Decode => pool.charge(needed),
            Phase::Prefill => {
                self.predictions[at].forget_open();
                let window = pool.window().min(upcoming.len());
                pool.read_behind(&upcoming[..window], &mut orders.evict, &mut orders.admit);
            }
        }
        self.stats.hits += (experts.len() - claim.misses) as u64;
        self.stats.misses += claim.misses as u64;
        self.stats.miss_bytes += needed;
        self.stats.waits_avoided += orders.promote.len() as u64;
        self.settle(&orders);
        let id = LeaseId(self.next_lease);
        self.next_lease += 1;
        self.leases.insert(id, (at, claim.indices));
        let next = self.pools[next_at].residency(next_layer);
        Ok(Lease {
            id,
            experts,
            miss_bytes: needed,
            next,
        })
    }

    /// Gives a lease back; its experts stay resident but may be evicted.
    ///
    /// # Errors
    /// [`CacheError::UnknownLease`].
    pub fn release(&mut self, id: LeaseId) -> Result<(), CacheError> {
        let (at, indices) = self
            .leases
            .remove(&id)
            .ok_or(CacheError::UnknownLease(id))?;
        for index in indices {
            self.pools[at].unpin(index);
        }
        Ok(())
    }

    /// Starts reading those of the predicted experts, best first, that are worth it into the speculation pool, first come
    /// first gone. Those already in memory, those named twice and those beyond the pool's capacity are left out.
    ///
    /// # Errors
    /// Unknown layer or expert.
    pub fn prefetch(&mut self, layer: LayerKey, experts: &[u16]) -> Result<(), CacheError> {
        let (at, rank) = self.find(layer)?;
        let pool = &mut self.pools[at];
        let mut predicted = Vec::with_capacity(experts.len());
        for expert in experts {
            let expert = *expert;
            let index = pool.index(rank, expert);
            let index = index.ok_or(CacheError::UnknownExpert(ExpertKey { layer, expert }))?;
            predicted.push((index, pool.is_resident(index)));
        }
        let worth = self.predictions[at].predict(rank, &predicted);
        let mut orders = Orders::default();
        pool.speculate(&worth, &mut orders.evict, &mut orders.admit);
        self.stats.speculative_reads += orders.admit.len() as u64;
        self.settle(&orders);
        Ok(())
    }

    /// Takes over the recorded routing of an episode: what its domain usually needs. Nothing that is resident changes.
    ///
    /// # Errors
    /// Unknown layer or expert.
    pub fn consolidate(&mut self, habit: &Habit) -> Result<(), CacheError> {
        let mut uses = Vec::with_capacity(habit.uses.len());
        let mut at = None;
        for used in &habit.uses {
            let layer = LayerKey {
                module: habit.module,
                layer: used.layer,
            };
            let (pool, rank) = self.find(layer)?;
            let expert = used.expert;
            let index = self.pools[pool].index(rank, expert);
            let index = index.ok_or(CacheError::UnknownExpert(ExpertKey { layer, expert }))?;
            uses.push((index, used.tokens));
            at = Some(pool);
        }
        if let Some(at) = at {
            let experts = self.pools[at].all_experts();
            self.habits[at].add(&habit.domain, habit.state, experts, habit.tokens, &uses);
        }
        Ok(())
    }

    /// What follows is of this domain: where its habits are known, the eviction policy `horizon` counts them in. Nothing
    /// is read, and nothing leaves before its time. Answers whether they are known.
    pub fn enter(&mut self, domain: &str, state: State) -> bool {
        let mut known = false;
        for (pool, habits) in self.pools.iter_mut().zip(&mut self.habits) {
            let shares = habits.enter(domain, state);
            known |= shares.is_some();
            pool.expect(shares);
        }
        known
    }

    /// The lists of habits of all modules.
    pub fn habits(&self) -> &[Habits] {
        &self.habits
    }

    /// Totals over all modules.
    pub fn stats(&self) -> CacheStats {
        let mut stats = self.stats;
        for pool in &self.pools {
            stats.resident_experts += pool.resident_experts();
            stats.resident_bytes += pool.resident_bytes();
            stats.capacity_bytes += pool.capacity_bytes();
            stats.habits_saved_bytes += pool.habits_saved_bytes();
        }
        stats
    }

    /// What of a layer is resident now, and what may still be missed.
    ///
    /// # Errors
    /// Unknown layer.
    pub fn residency(&self, layer: LayerKey) -> Result<Residency, CacheError> {
        let (at, rank) = self.find(layer)?;
        Ok(self.pools[at].residency(rank))
    }

    /// Capacity of a module's demand pool and what it holds now, bytes; none where there is no such module.
    pub fn holding(&self, module: Module) -> Option<Holding> {
        let pool = self.pools.iter().find(|pool| pool.module() == module)?;
        Some(Holding {
            capacity_bytes: pool.capacity_bytes(),
            resident_bytes: pool.resident_bytes(),
        })
    }

    /// Experts in a module's demand pool now, ascending.
    pub fn resident(&self, module: Module) -> Vec<ExpertKey> {
        self.pools
            .iter()
            .filter(|pool| pool.module() == module)
            .flat_map(Pool::resident_keys)
            .collect()
    }

    fn find(&self, key: LayerKey) -> Result<(usize, usize), CacheError> {
        self.pools
            .iter()
            .enumerate()
            .find_map(|(at, pool)| pool.rank(key).map(|rank| (at, rank)))
            .ok_or(CacheError::UnknownLayer(key))
    }

    /// Checks a request without changing anything.
    fn claim(
        &self,
        at: usize,
        layer: usize,
        request: &LeaseRequest,
    ) -> Result<LeaseClaim, CacheError> {
        let pool = &self.pools[at];
        if request.uses.len() > pool.window() {
            return Err(CacheError::TooManyExperts {
                asked: request.uses.len(),
                window: pool.window(),
            });
        }
        let mut seen = ExpertSet::new(pool.experts());
        let mut claim = LeaseClaim::default();
        for used in &request.uses {
            let key = ExpertKey {
                layer: request.layer,
                expert: used.expert,
            };
            let index = pool
                .index(layer, used.expert)
                .ok_or(CacheError::UnknownExpert(key))?;
            if seen.contains(used.expert) {
                return Err(CacheError::DuplicateExpert(key));
            }
            seen.insert(used.expert);
            if !pool.is_resident(index) {
                claim.misses += 1;
                claim.miss_bytes += pool.bytes_of(&[index]);
            }
            claim.indices.push(index);
        }
        let needed = pool.bytes_of(&claim.indices);
        let pinned = pool.pinned_bytes(&claim.indices);
        if needed + pinned > pool.capacity_bytes() {
            return Err(CacheError::NoRoom {
                needed_bytes: needed,
                pinned_bytes: pinned,
                capacity_bytes: pool.capacity_bytes(),
            });
        }
        Ok(claim)
    }

    fn settle(&self, orders: &Orders) {
        if orders.evict.is_empty() && orders.admit.is_empty() && orders.promote.is_empty() {
            return;
        }
        for slot in &orders.evict {
            self.source.evict(*slot);
        }
        for slot in &orders.promote {
            self.source.promote(*slot);
        }
        for (key, slot, speculative) in &orders.admit {
            self.source.admit(*key, *slot, *speculative);
        }
        self.source.settle();
    }
}

/// A directive's capacities, window and byte cap; a module without one sleeps.
fn obey(
    pool: &mut Pool,
    directive: Option<&ModuleDirective>,
    window: u16,
    tick: Tick,
    orders: &mut Orders,
) {
    match directive {
        Some(d) => {
            pool.set_budget(
                d.expert_bytes,
                d.speculation_bytes,
                d.miss_bytes_per_token,
                window.max(d.k),
                tick,
            );
        }
        None => pool.set_budget(0, 0, None, window, tick),
    }
    pool.shrink_speculation(&mut orders.evict);
}
