//! What recorded routing would have cost under another policy, in another capacity. No weights, no pool, no actor: the
//! policies are the same ones, and `belady`, which knows the future, is the bound.
//!
//! Conventions. A chunk of a prompt enters as one batch of distinct experts a layer; a decoded token is a batch of its
//! own. All experts of a batch are looked up first; then the misses make room for themselves, sparing the batch, and
//! enter as long as they fit, in the order recorded. Capacities are in bytes, and so is what each expert takes. The
//! cache starts empty. Counts of `lfu` survive eviction. `trust` has no ledger here and falls back on age alone.

use std::cmp::Ordering;

use super::usage::{Ages, Usage};
use crate::config::{EvictionPolicy, ModuleShape};
use crate::protocol::{Module, Phase};

/// Recorded routing of one module: for every step and layer the experts used, with how many tokens used each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Experts a layer.
    pub experts: u16,
    /// Bytes of an expert of each layer; of the largest where they differ.
    pub expert_bytes: Vec<u64>,
    /// Bytes of every expert, layer by layer; empty where those of a layer are alike.
    each_bytes: Vec<u64>,
    steps: Vec<(Phase, u32)>,
    /// Ends of each (step, layer) in `uses`.
    ends: Vec<u32>,
    /// (expert, tokens that used it).
    uses: Vec<(u16, u32)>,
}

impl Routes {
    /// Nothing recorded yet, of layers whose experts have these sizes.
    pub fn new(experts: u16, expert_bytes: Vec<u64>) -> Self {
        Self {
            experts,
            expert_bytes,
            ..Self::default()
        }
    }

    /// The same of experts that differ within a layer: `bytes` is asked for those of (layer, expert).
    #[must_use]
    pub fn with_sizes(mut self, bytes: impl Fn(usize, u16) -> u64) -> Self {
        let layers = 0..self.layers();
        let each = layers.flat_map(|layer| (0..self.experts).map(move |expert| (layer, expert)));
        self.each_bytes = each.map(|(layer, expert)| bytes(layer, expert)).collect();
        self
    }

    /// Bytes of the expert numbered layer · experts + expert.
    fn bytes_of(&self, index: u32) -> u64 {
        let layer = (index / u32::from(self.experts).max(1)) as usize;
        let own = self.each_bytes.get(index as usize).copied();
        own.unwrap_or_else(|| self.expert_bytes.get(layer).copied().unwrap_or(0))
    }

    /// Adds a step of `tokens` tokens; `layers` has one list of (expert, tokens that used it) for each layer. Lists beyond
    /// the number of layers are left out, missing ones are empty.
    pub fn push(&mut self, phase: Phase, tokens: u32, layers: &[Vec<(u16, u32)>]) {
        self.steps.push((phase, tokens));
        for layer in 0..self.expert_bytes.len() {
            let uses = layers.get(layer).map_or(&[][..], Vec::as_slice);
            let known = uses.iter().filter(|(expert, _)| *expert < self.experts);
            self.uses.extend(known);
            self.ends.push(self.uses.len() as u32);
        }
    }

    /// Number of sparse layers.
    pub fn layers(&self) -> usize {
        self.expert_bytes.len()
    }

    /// Decoded tokens.
    pub fn decoded(&self) -> usize {
        let decode = |step: &&(Phase, u32)| step.0 == Phase::Decode;
        self.steps.iter().filter(decode).count()
    }

    /// Bytes of all experts of all layers.
    pub fn all_bytes(&self) -> u64 {
        (0..self.layers() as u32 * u32::from(self.experts))
            .map(|index| self.bytes_of(index))
            .sum()
    }

    /// Greatest number of experts that one token used in a layer; 1 at least.
    pub fn k(&self) -> u16 {
        let decode = (0..self.steps.len()).filter(|step| self.steps[*step].0 == Phase::Decode);
        let most = decode
            .flat_map(|step| (0..self.layers()).map(move |layer| self.at(step, layer).len()))
            .max();
        u16::try_from(most.unwrap_or(1).max(1)).unwrap_or(u16::MAX)
    }

    fn at(&self, step: usize, layer: usize) -> &[(u16, u32)] {
        let end = step * self.layers() + layer;
        let start = if end == 0 { 0 } else { self.ends[end - 1] };
        &self.uses[start as usize..self.ends[end] as usize]
    }
}

/// Who decides what leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chooser {
    /// A policy of the cache.
    Online(EvictionPolicy),
    /// The farthest next use in the recording itself: no online policy can do better.
    Belady,
}

/// What a replay counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WhatIfCounts {
    /// Routed slots: experts used, token by token (of a prompt: distinct ones of a batch).
    pub routed: u64,
    /// Those that were in memory.
    pub hits: u64,
    /// Bytes of the others.
    pub miss_bytes: u64,
}

/// Counts of every decoded token, layer by layer.
pub fn replay_by_layer(
    routes: &Routes,
    chooser: Chooser,
    capacity_bytes: u64,
) -> Vec<Vec<WhatIfCounts>> {
    let mut layers = Vec::new();
    run_through(routes, chooser, capacity_bytes, |phase, counts| {
        if phase == Phase::Decode {
            layers.push(counts.to_vec());
        }
    });
    layers
}

/// Counts of every step, so that intervals can be drawn over blocks of tokens; steps of a prompt count nothing unless
/// `with_prompt`.
pub fn replay(
    routes: &Routes,
    chooser: Chooser,
    capacity_bytes: u64,
    with_prompt: bool,
) -> Vec<WhatIfCounts> {
    let mut all = Vec::with_capacity(routes.steps.len());
    run_through(routes, chooser, capacity_bytes, |phase, layers| {
        if phase == Phase::Decode || with_prompt {
            all.push(
                layers
                    .iter()
                    .fold(WhatIfCounts::default(), |sum, of| WhatIfCounts {
                        routed: sum.routed + of.routed,
                        hits: sum.hits + of.hits,
                        miss_bytes: sum.miss_bytes + of.miss_bytes,
                    }),
            );
        }
    });
    all
}

/// Every step of a recording in turn; `done` hears of its phase and of what every layer counted.
fn run_through(
    routes: &Routes,
    chooser: Chooser,
    capacity_bytes: u64,
    mut done: impl FnMut(Phase, &[WhatIfCounts]),
) {
    let mut run = Run::new(routes, chooser, capacity_bytes);
    let mut layers = vec![WhatIfCounts::default(); routes.layers()];
    for (step, (phase, tokens)) in routes.steps.iter().enumerate() {
        layers.fill(WhatIfCounts::default());
        for (layer, counts) in layers.iter_mut().enumerate() {
            run.layer(step, layer, *tokens, counts);
        }
        done(*phase, &layers);
    }
}

/// A cache on its way through a recording.
struct Run<'a> {
    routes: &'a Routes,
    capacity_bytes: u64,
    usage: Option<Usage>,
    /// Of Belady: for every recorded use the number of the turn in which its expert is used next.
    next_uses: Vec<u32>,
    /// Of Belady: the same by expert, as of now.
    next_use: Vec<u32>,
    resident: Vec<bool>,
    /// Layer by layer, whom the policy parts with first. The order within a layer changes at the layer's own turns only,
    /// so that nobody has to look at every resident at every miss.
    residents: Vec<Vec<u32>>,
    resident_bytes: u64,
    /// Number of the batch that an expert was last part of.
    batch: Vec<u64>,
    turn: u64,
    indices: Vec<(u32, u32)>,
    heads: Vec<Option<(f64, u32)>>,
}

impl<'a> Run<'a> {
    fn new(routes: &'a Routes, chooser: Chooser, capacity_bytes: u64) -> Self {
        let all = routes.layers() * usize::from(routes.experts);
        let shape = ModuleShape {
            module: Module::Thinker,
            layers: (0..routes.layers() as u16).collect(),
            experts: routes.experts,
            k_trained: routes.k(),
            norm_topk_prob: true,
            expert_bytes: 0,
            smaller: Vec::new(),
        };
        let (usage, next_uses) = match chooser {
            Chooser::Online(policy) => (Some(Usage::new(policy, &shape)), Vec::new()),
            Chooser::Belady => (None, next_uses(routes)),
        };
        Self {
            routes,
            capacity_bytes,
            usage,
            next_uses,
            next_use: vec![u32::MAX; all],
            resident: vec![false; all],
            residents: vec![Vec::new(); routes.layers()],
            resident_bytes: 0,
            batch: vec![0; all],
            turn: 0,
            indices: Vec::new(),
            heads: Vec::new(),
        }
    }

    fn layer(&mut self, step: usize, layer: usize, tokens: u32, counts: &mut WhatIfCounts) {
        self.turn += 1;
        let uses = self.routes.at(step, layer);
        if uses.is_empty() {
            return;
        }
        let first = layer as u32 * u32::from(self.routes.experts);
        self.indices.clear();
        let indices = uses.iter().map(|(e, n)| (first + u32::from(*e), *n));
        self.indices.extend(indices);
        self.foresee(step, layer);
        if let Some(usage) = &mut self.usage {
            usage.turn(self.turn, step as u64 + 1, layer, tokens, &self.indices);
        }
        self.put_in_order(layer);
        let (mut hits, mut kept, mut missed) = (0, 0, 0);
        for (index, _) in &self.indices {
            self.batch[*index as usize] = self.turn;
            let bytes = self.routes.bytes_of(*index);
            if self.resident[*index as usize] {
                (hits, kept) = (hits + 1, kept + bytes);
            } else {
                missed += bytes;
            }
        }
        counts.routed += self.indices.len() as u64;
        counts.hits += hits;
        counts.miss_bytes += missed;
        // A batch larger than the cache makes room for no more than can enter.
        let mut can_enter = self.capacity_bytes.saturating_sub(kept);
        let room = can_enter;
        for (index, _) in &self.indices {
            let bytes = self.routes.bytes_of(*index);
            if !self.resident[*index as usize] && bytes <= can_enter {
                can_enter -= bytes;
            }
        }
        self.make_room(room - can_enter);
        let before = self.residents[layer].len();
        for (index, _) in &self.indices {
            let bytes = self.routes.bytes_of(*index);
            let fits = self.resident_bytes + bytes <= self.capacity_bytes;
            if !self.resident[*index as usize] && fits {
                self.resident[*index as usize] = true;
                self.residents[layer].push(*index);
                self.resident_bytes += bytes;
            }
        }
        if self.residents[layer].len() > before {
            self.put_in_order(layer);
        }
    }

    fn put_in_order(&mut self, layer: usize) {
        // Of all residents: before these are taken out to be ordered.
        let ages = self.ages();
        let mut residents = std::mem::take(&mut self.residents[layer]);
        residents.sort_by_cached_key(|index| Gladly(self.score(*index, ages), *index));
        self.residents[layer] = residents;
    }

    /// How gladly an expert is parted with.
    fn score(&self, index: u32, ages: Ages) -> f64 {
        match &self.usage {
            Some(usage) => usage.score(index, ages),
            None => f64::from(self.next_use[index as usize]),
        }
    }

    fn ages(&self) -> Ages {
        let Some(usage) = self.usage.as_ref().filter(|usage| usage.counts_ages()) else {
            return Ages::default();
        };
        usage.ages(self.residents.iter().flatten().copied())
    }

    /// Belady: when each expert of this batch is used next.
    fn foresee(&mut self, step: usize, layer: usize) {
        if self.next_uses.is_empty() {
            return;
        }
        let at = step * self.routes.layers() + layer;
        let start = if at == 0 { 0 } else { self.routes.ends[at - 1] };
        for ((index, _), next) in self.indices.iter().zip(&self.next_uses[start as usize..]) {
            self.next_use[*index as usize] = *next;
        }
    }

    /// Parts with the gladliest parted with of all layers, one after the other; of equals with the lowest.
    fn make_room(&mut self, needed: u64) {
        if self.resident_bytes + needed <= self.capacity_bytes {
            return;
        }
        let ages = self.ages();
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        heads.extend((0..self.residents.len()).map(|layer| self.head(layer, ages)));
        while self.resident_bytes + needed > self.capacity_bytes {
            let first = heads.iter().flatten().copied();
            let Some((_, index)) = first.reduce(|a, b| {
                if Gladly(b.0, b.1) < Gladly(a.0, a.1) {
                    b
                } else {
                    a
                }
            }) else {
                break;
            };
            let layer = (index / u32::from(self.routes.experts)) as usize;
            self.resident[index as usize] = false;
            self.resident_bytes -= self.routes.bytes_of(index);
            self.residents[layer].retain(|other| *other != index);
            heads[layer] = self.head(layer, ages);
        }
        self.heads = heads;
    }

    /// The first of a layer that is not part of the present batch.
    fn head(&self, layer: usize, ages: Ages) -> Option<(f64, u32)> {
        let mut residents = self.residents[layer].iter().copied();
        let index = residents.find(|index| self.batch[*index as usize] != self.turn)?;
        Some((self.score(index, ages), index))
    }
}

/// Orders by who is parted with first: the greatest score; of equals the lowest index.
#[derive(PartialEq)]
struct Gladly(f64, u32);

impl Eq for Gladly {}

impl Ord for Gladly {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Gladly {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For every recorded use, the number of the turn (step · layers + layer) of the same expert's next one.
fn next_uses(routes: &Routes) -> Vec<u32> {
    let mut next = vec![u32::MAX; routes.uses.len()];
    let mut seen = vec![u32::MAX; routes.layers() * usize::from(routes.experts)];
    let mut at = routes.uses.len();
    for turn in (0..routes.ends.len()).rev() {
        let layer = turn % routes.layers();
        let start = if turn == 0 {
            0
        } else {
            routes.ends[turn - 1] as usize
        };
        for use_at in (start..at).rev() {
            let index = layer * usize::from(routes.experts) + usize::from(routes.uses[use_at].0);
            next[use_at] = std::mem::replace(&mut seen[index], turn as u32);
        }
        at = start;
    }
    next
}
