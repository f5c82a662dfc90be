//! The cache as its documentation describes it, with no thought for speed: sets of keys, and everything worked out
//! anew at every decision.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use sage_actors::cache::{CacheError, Mixture, Predictions};
use sage_actors::protocol::*;
use sage_actors::{EvictionPolicy, ModuleShape};

use crate::world::{WINDOW, shapes};

/// A message to the cache.
#[derive(Clone, Debug)]
pub enum Message {
    Apply(Directives, TrustSnapshot),
    Lease(LeaseRequest),
    Release(LeaseId),
    Prefetch(LayerKey, Vec<u16>),
}

/// What it answers; a lease without its slots, which are the body's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Residency(Residency),
    Lease {
        id: LeaseId,
        hits: Vec<(u16, bool)>,
        miss_bytes: u64,
        next: Residency,
    },
}

/// One module's pools and what is remembered of its experts.
pub struct Pool {
    shape: ModuleShape,
    pub capacity: u64,
    pub speculation: u64,
    window: usize,
    miss_bytes: Option<u64>,
    bytes_left: Option<u64>,
    tick: Option<Tick>,
    pub resident: BTreeSet<ExpertKey>,
    /// Read ahead, the oldest first.
    pub ahead: Vec<ExpertKey>,
    /// Whose turn it is: the layer of the last lease, by position.
    turn: usize,
    last_lease: BTreeMap<ExpertKey, u64>,
    uses: BTreeMap<ExpertKey, u64>,
    /// Share of tokens that used it, as of so many tokens of its layer.
    often: BTreeMap<ExpertKey, (f64, u64)>,
    tokens: BTreeMap<LayerKey, u64>,
    last_tick: BTreeMap<LayerKey, Tick>,
    trust: TrustView,
    /// Of `learned`; its arithmetic has tests of its own.
    mixture: Mixture,
    /// Which predictions are read ahead; they have tests of their own.
    predictions: Predictions,
}

pub struct Model {
    policy: EvictionPolicy,
    pub pools: BTreeMap<Module, Pool>,
    pub leases: BTreeMap<LeaseId, Vec<ExpertKey>>,
    next_lease: u64,
    stats: CacheStats,
}

impl Model {
    pub fn new(policy: EvictionPolicy) -> Self {
        let pool = |shape: ModuleShape| Pool {
            capacity: u64::from(WINDOW) * shape.expert_bytes,
            speculation: 0,
            window: usize::from(WINDOW),
            miss_bytes: None,
            bytes_left: None,
            tick: None,
            resident: BTreeSet::new(),
            ahead: Vec::new(),
            turn: 0,
            last_lease: BTreeMap::new(),
            uses: BTreeMap::new(),
            often: BTreeMap::new(),
            tokens: BTreeMap::new(),
            last_tick: BTreeMap::new(),
            trust: crate::world::view(0),
            mixture: Mixture::new(shape.layers.len(), shape.experts, shape.k_trained),
            predictions: Predictions::default(),
            shape,
        };
        Self {
            policy,
            pools: shapes().into_iter().map(|s| (s.module, pool(s))).collect(),
            leases: BTreeMap::new(),
            next_lease: 0,
            stats: CacheStats::default(),
        }
    }

    /// Every expert that a lease holds.
    pub fn pinned(&self) -> BTreeSet<ExpertKey> {
        self.leases.values().flatten().copied().collect()
    }

    pub fn stats(&self) -> CacheStats {
        let mut stats = self.stats;
        for pool in self.pools.values() {
            stats.resident_experts += pool.resident.len() as u64;
            stats.resident_bytes += pool.bytes(&pool.resident);
            stats.capacity_bytes += pool.capacity;
        }
        stats
    }

    pub fn answer(&mut self, message: &Message) -> Result<Answer, CacheError> {
        match message {
            Message::Apply(directives, trust) => self.apply(directives, trust),
            Message::Lease(request) => self.lease(request),
            Message::Prefetch(layer, experts) => self.prefetch(*layer, experts),
            Message::Release(id) => {
                let lease = self.leases.remove(id);
                let lease = lease.ok_or(CacheError::UnknownLease(*id));
                lease.map(|_| Answer::Done)
            }
        }
    }

    fn apply(&mut self, directives: &Directives, trust: &TrustView) -> Result<Answer, CacheError> {
        if self.policy == EvictionPolicy::Trust {
            for directive in &directives.modules {
                self.pools[&directive.module].check(trust)?;
            }
        }
        let pinned = self.pinned();
        for pool in self.pools.values_mut() {
            let mut directive = directives.modules.iter();
            match directive.find(|d| d.module == pool.shape.module) {
                Some(d) => {
                    pool.capacity = d.expert_bytes;
                    pool.speculation = d.speculation_bytes;
                    pool.window = usize::from(WINDOW.max(d.k));
                    if pool.miss_bytes != d.miss_bytes_per_token {
                        pool.miss_bytes = d.miss_bytes_per_token;
                        pool.bytes_left = d.miss_bytes_per_token;
                    }
                    pool.trust = trust.clone();
                }
                None => {
                    (pool.capacity, pool.speculation) = (0, 0);
                    pool.window = usize::from(WINDOW);
                    (pool.miss_bytes, pool.bytes_left) = (None, None);
                }
            }
            pool.begin(directives.tick);
            while pool.bytes(&pool.ahead) > pool.speculation {
                pool.ahead.remove(0);
            }
            self.stats.evictions += pool.make_room(self.policy, 0, &pinned);
        }
        let thinker = &self.pools[&Module::Thinker];
        Ok(Answer::Residency(
            thinker.residency(thinker.shape.layers[0]),
        ))
    }

    fn lease(&mut self, request: &LeaseRequest) -> Result<Answer, CacheError> {
        let asked = self.check(request)?;
        let mut pinned = self.pinned();
        pinned.extend(&asked);
        let pool = self.pools.get_mut(&request.layer.module).unwrap();
        pool.begin(request.tick);
        pool.work(request, self.next_lease + 1);
        let hit: Vec<bool> = asked.iter().map(|k| pool.resident.contains(k)).collect();
        let missed = asked.iter().filter(|k| !pool.resident.contains(k));
        let misses = missed.clone().count();
        let miss_bytes = pool.bytes(missed);
        self.stats.evictions += pool.make_room(self.policy, miss_bytes, &pinned);
        for key in &asked {
            if pool.resident.insert(*key) && pool.ahead.contains(key) {
                pool.ahead.retain(|other| other != key);
                self.stats.waits_avoided += 1;
            }
        }
        if request.phase == Phase::Decode {
            pool.bytes_left = pool.bytes_left.map(|left| left.saturating_sub(miss_bytes));
            let rank = pool.rank(request.layer);
            for (key, hit) in asked.iter().zip(&hit) {
                pool.predictions.asked(rank, u32::from(key.expert), *hit);
            }
        } else {
            pool.predictions.forget_open();
        }
        self.stats.hits += (asked.len() - misses) as u64;
        self.stats.misses += misses as u64;
        self.stats.miss_bytes += miss_bytes;
        let id = LeaseId(self.next_lease);
        self.next_lease += 1;
        let hits = asked.iter().map(|key| key.expert).zip(hit).collect();
        self.leases.insert(id, asked);
        let next = request.next_layer;
        Ok(Answer::Lease {
            id,
            hits,
            miss_bytes,
            next: self.pools[&next.module].residency(next.layer),
        })
    }

    /// The experts of a request that can be granted.
    fn check(&self, request: &LeaseRequest) -> Result<Vec<ExpertKey>, CacheError> {
        for layer in [request.layer, request.next_layer] {
            self.pools[&layer.module].known(layer)?;
        }
        let pool = &self.pools[&request.layer.module];
        if request.uses.len() > pool.window {
            let (asked, window) = (request.uses.len(), pool.window);
            return Err(CacheError::TooManyExperts { asked, window });
        }
        let mut asked = Vec::new();
        for used in &request.uses {
            let (layer, expert) = (request.layer, used.expert);
            let key = pool.expert(layer, expert)?;
            if asked.contains(&key) {
                return Err(CacheError::DuplicateExpert(key));
            }
            asked.push(key);
        }
        let others = self.pinned().into_iter();
        let others = others.filter(|key| key.layer.module == request.layer.module);
        let others: Vec<_> = others.filter(|key| !asked.contains(key)).collect();
        if pool.bytes(&asked) + pool.bytes(&others) > pool.capacity {
            return Err(CacheError::NoRoom {
                needed_bytes: pool.bytes(&asked),
                pinned_bytes: pool.bytes(&others),
                capacity_bytes: pool.capacity,
            });
        }
        Ok(asked)
    }

    fn prefetch(&mut self, layer: LayerKey, experts: &[u16]) -> Result<Answer, CacheError> {
        let pool = self.pools.get_mut(&layer.module).unwrap();
        pool.known(layer)?;
        let mut predicted = Vec::new();
        for expert in experts {
            let key = pool.expert(layer, *expert)?;
            predicted.push((u32::from(*expert), pool.resident.contains(&key)));
        }
        let worth = pool.predictions.predict(pool.rank(layer), &predicted);
        let mut fresh = Vec::new();
        for expert in worth {
            let key = pool.expert(layer, expert as u16)?;
            let in_memory = pool.resident.contains(&key) || pool.ahead.contains(&key);
            let fits = pool.bytes(fresh.iter().chain([&key])) <= pool.speculation;
            if !in_memory && fits && !fresh.contains(&key) {
                fresh.push(key);
            }
        }
        while pool.bytes(pool.ahead.iter().chain(&fresh)) > pool.speculation {
            pool.ahead.remove(0);
        }
        self.stats.speculative_reads += fresh.len() as u64;
        pool.ahead.extend(fresh);
        Ok(Answer::Done)
    }
}

impl Pool {
    pub fn bytes<'a>(&self, experts: impl IntoIterator<Item = &'a ExpertKey>) -> u64 {
        let experts = experts.into_iter();
        experts
            .map(|key| self.shape.bytes_of(key.layer.layer, key.expert))
            .sum()
    }

    fn known(&self, layer: LayerKey) -> Result<(), CacheError> {
        let known = self.shape.layers.contains(&layer.layer);
        known.then_some(()).ok_or(CacheError::UnknownLayer(layer))
    }

    fn expert(&self, layer: LayerKey, expert: u16) -> Result<ExpertKey, CacheError> {
        let key = ExpertKey { layer, expert };
        let known = expert < self.shape.experts;
        known.then_some(key).ok_or(CacheError::UnknownExpert(key))
    }

    fn check(&self, trust: &TrustView) -> Result<(), CacheError> {
        let experts = usize::from(self.shape.experts);
        for layer in self.shape.keys() {
            let entries = trust.layers.get(&layer).map_or(0, |t| t.convergence.len());
            if entries < experts {
                return Err(CacheError::Trust {
                    layer,
                    entries,
                    experts,
                });
            }
        }
        Ok(())
    }

    /// A tick brings the whole byte cap.
    fn begin(&mut self, tick: Tick) {
        if self.tick != Some(tick) {
            self.tick = Some(tick);
            self.bytes_left = self.miss_bytes;
        }
    }

    /// Remembers who worked. The windows of one tick count its tokens once.
    fn work(&mut self, request: &LeaseRequest, lease: u64) {
        let layer = request.layer;
        self.turn = self.rank(layer);
        let first = self.last_tick.insert(layer, request.tick) != Some(request.tick);
        if first {
            *self.tokens.entry(layer).or_default() += u64::from(request.tokens);
        }
        let uses = request.uses.iter();
        let uses: Vec<_> = uses.map(|u| (usize::from(u.expert), u.tokens)).collect();
        let passed = if first { request.tokens } else { 0 };
        self.mixture.turn(self.turn, passed, request.tokens, &uses);
        for used in &request.uses {
            let expert = used.expert;
            let key = ExpertKey { layer, expert };
            let tokens = used.tokens.min(request.tokens);
            let fresh = 1.0 - self.keep(u64::from(request.tokens));
            let new = fresh * f64::from(tokens) / f64::from(request.tokens);
            let often = (self.often_now(key) + new).min(1.0);
            self.often.insert(key, (often, self.tokens[&layer]));
            *self.uses.entry(key).or_default() += u64::from(tokens);
            self.last_lease.insert(key, lease);
        }
    }

    /// Half every 3 tokens: the half-life of the test's `horizon`.
    fn keep(&self, tokens: u64) -> f64 {
        libm::exp2(-(tokens as f64) / 3.0)
    }

    fn often_now(&self, key: ExpertKey) -> f64 {
        let (often, then) = self.often.get(&key).copied().unwrap_or((0.0, 0));
        let now = self.tokens.get(&key.layer).copied().unwrap_or(0);
        often * self.keep(now - then)
    }

    fn rank(&self, layer: LayerKey) -> usize {
        let mut layers = self.shape.layers.iter();
        layers.position(|number| *number == layer.layer).unwrap()
    }

    /// Layer steps until the expert's layer has its next turn: one at least, the whole cycle for the present one.
    fn steps(&self, key: ExpertKey) -> usize {
        let (layers, rank) = (self.shape.layers.len(), self.rank(key.layer));
        let mut steps = 1..=layers;
        steps.find(|s| (self.turn + s) % layers == rank).unwrap()
    }

    /// The residents in the order in which the policy parts with them, as if none were pinned.
    fn order(&self, policy: EvictionPolicy) -> Vec<ExpertKey> {
        let mut order: Vec<ExpertKey> = self.resident.iter().copied().collect();
        match policy {
            EvictionPolicy::Lru => order.sort_by_key(|key| (self.last_lease[key], *key)),
            EvictionPolicy::Lfu => {
                order.sort_by_key(|key| (self.uses[key], Reverse(self.steps(*key)), *key));
            }
            EvictionPolicy::Trust => self.largest_first(&mut order, |key| self.distrust(key)),
            EvictionPolicy::Horizon { .. } => self.largest_first(&mut order, |key| {
                let p = self.often_now(key).max(1e-12);
                self.steps(key) as f64 + self.shape.layers.len() as f64 * (1.0 / p - 1.0)
            }),
            EvictionPolicy::Learned => self.largest_first(&mut order, |key| {
                let p = self
                    .mixture
                    .chance(self.rank(key.layer), usize::from(key.expert));
                self.steps(key) as f64 + self.shape.layers.len() as f64 * (1.0 / p - 1.0)
            }),
        }
        order
    }

    fn largest_first(&self, order: &mut [ExpertKey], of: impl Fn(ExpertKey) -> f64) {
        order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    }

    fn distrust(&self, key: ExpertKey) -> f64 {
        let leases = self.resident.iter().map(|key| self.last_lease[key]);
        let (oldest, newest) = (leases.clone().min().unwrap(), leases.max().unwrap());
        let age = if newest == oldest {
            0.0
        } else {
            (newest - self.last_lease[&key]) as f64 / (newest - oldest) as f64
        };
        let trust = &self.trust.layers[&key.layer];
        let (convergence, stability) = (
            f64::from(trust.convergence[usize::from(key.expert)]),
            f64::from(trust.stability[usize::from(key.expert)]),
        );
        0.4 * age + 0.3 * (1.0 - convergence) + 0.2 * (1.0 - stability)
    }

    /// Evicts until so many more bytes fit, or nothing is left that may go.
    fn make_room(
        &mut self,
        policy: EvictionPolicy,
        needed: u64,
        pinned: &BTreeSet<ExpertKey>,
    ) -> u64 {
        let mut evicted = 0;
        for key in self.order(policy) {
            if self.bytes(&self.resident) + needed <= self.capacity {
                break;
            }
            if !pinned.contains(&key) {
                self.resident.remove(&key);
                evicted += 1;
            }
        }
        evicted
    }

    fn residency(&self, layer: u16) -> Residency {
        let mut resident = ExpertSet::new(usize::from(self.shape.experts));
        let here = self.resident.iter().filter(|key| key.layer.layer == layer);
        here.for_each(|key| resident.insert(key.expert));
        Residency {
            resident,
            bytes_left: self.bytes_left,
        }
    }
}
