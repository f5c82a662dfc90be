//! The demand pool and the speculation pool of one module.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use crate::config::ModuleShape;
use crate::protocol::{ExpertKey, ExpertSet, LayerKey, Module, Residency, SlotId, Tick};

/// Up to so many victims are found in one pass that keeps the farthest so far.
const FEW: usize = 16;

/// Experts of a checked request, as indices, and how many of them are not resident.
#[derive(Debug, Default)]
pub(super) struct Claim {
    pub indices: Vec<u32>,
    pub misses: usize,
}

/// What is known of one expert, resident or not.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Share of tokens that used it: a moving average, as of `clock`.
    frequency: f64,
    /// Tokens that its layer had run when `frequency` was brought up to date.
    clock: u64,
    /// Number of the lease that used it last.
    last_lease: u64,
    slot: Option<u32>,
    speculative_slot: Option<u32>,
    /// Position in `residents`.
    position: u32,
    pins: u32,
    /// Position of its layer among the sparse layers: spares a division where every resident is looked at.
    rank: u32,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    resident: ExpertSet,
    /// Tokens that the layer has run.
    clock: u64,
    last_tick: Option<Tick>,
}

#[derive(Debug)]
pub(super) struct Pool {
    module: Module,
    layer_numbers: Vec<u16>,
    experts: u32,
    expert_bytes: u64,
    cells: Vec<Cell>,
    layers: Vec<Layer>,
    residents: Vec<u32>,
    /// Experts with a pin.
    pinned: usize,
    speculative: VecDeque<u32>,
    free: BTreeSet<u32>,
    slots: u32,
    slot_base: u32,
    capacity_bytes: u64,
    speculation_bytes: u64,
    miss_bytes_per_token: Option<u64>,
    bytes_left: Option<u64>,
    tick: Option<Tick>,
    window: u16,
    now: usize,
    lease: u64,
    half_life: Option<f64>,
    /// 2^(−n / half-life) for n tokens.
    decay: Vec<f64>,
    /// Scratch of `make_room`.
    victims: Vec<(f64, u32)>,
}

impl Pool {
    /// An empty pool with room for one window. Horizon eviction if there is a half-life, else LRU.
    pub fn new(shape: &ModuleShape, half_life: Option<f64>, window: u16, slot_base: u32) -> Self {
        let decay = half_life.map_or_else(Vec::new, |half_life| {
            let long = (half_life * 48.0).min(4096.0) as u32 + 2;
            (0..long)
                .map(|n| libm::exp2(-f64::from(n) / half_life))
                .collect()
        });
        let layer = Layer {
            resident: ExpertSet::new(usize::from(shape.experts)),
            ..Layer::default()
        };
        Self {
            module: shape.module,
            layer_numbers: shape.layers.clone(),
            experts: u32::from(shape.experts),
            expert_bytes: shape.expert_bytes,
            cells: (0..shape.layers.len() as u32)
                .flat_map(|rank| {
                    let cell = Cell {
                        rank,
                        ..Cell::default()
                    };
                    std::iter::repeat_n(cell, usize::from(shape.experts))
                })
                .collect(),
            layers: vec![layer; shape.layers.len()],
            residents: Vec::new(),
            pinned: 0,
            speculative: VecDeque::new(),
            free: BTreeSet::new(),
            slots: 0,
            slot_base,
            capacity_bytes: u64::from(window) * shape.expert_bytes,
            speculation_bytes: 0,
            miss_bytes_per_token: None,
            bytes_left: None,
            tick: None,
            window,
            now: 0,
            lease: 0,
            half_life,
            decay,
            victims: Vec::new(),
        }
    }

    pub fn module(&self) -> Module {
        self.module
    }

    pub fn window(&self) -> usize {
        usize::from(self.window)
    }

    pub fn experts(&self) -> usize {
        self.experts as usize
    }

    pub fn expert_bytes(&self) -> u64 {
        self.expert_bytes
    }

    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    pub fn resident_experts(&self) -> u64 {
        self.residents.len() as u64
    }

    pub fn resident_bytes(&self) -> u64 {
        self.resident_experts() * self.expert_bytes
    }

    /// Position of a layer among the sparse layers of this module.
    pub fn rank(&self, key: LayerKey) -> Option<usize> {
        if key.module != self.module {
            return None;
        }
        self.layer_numbers.binary_search(&key.layer).ok()
    }

    pub fn index(&self, rank: usize, expert: u16) -> Option<u32> {
        (u32::from(expert) < self.experts).then(|| rank as u32 * self.experts + u32::from(expert))
    }

    pub fn is_resident(&self, index: u32) -> bool {
        self.cells[index as usize].slot.is_some()
    }

    pub fn resident_keys(&self) -> Vec<ExpertKey> {
        let mut indices = self.residents.clone();
        indices.sort_unstable();
        indices
            .into_iter()
            .map(|index| ExpertKey {
                layer: LayerKey {
                    module: self.module,
                    layer: self.layer_numbers[(index / self.experts) as usize],
                },
                expert: (index % self.experts) as u16,
            })
            .collect()
    }

    /// Bytes pinned by leases, those of `except` left out.
    pub fn pinned_bytes(&self, except: &[u32]) -> u64 {
        let again = except
            .iter()
            .filter(|index| self.cells[**index as usize].pins > 0)
            .count();
        (self.pinned - again) as u64 * self.expert_bytes
    }

    pub fn residency(&self, rank: usize) -> Residency {
        Residency {
            resident: self.layers[rank].resident.clone(),
            bytes_left: self.bytes_left,
        }
    }

    pub fn set_budget(
        &mut self,
        demand: u64,
        speculation: u64,
        miss: Option<u64>,
        window: u16,
        tick: Tick,
    ) {
        self.capacity_bytes = demand;
        self.speculation_bytes = speculation;
        self.window = window;
        if self.miss_bytes_per_token != miss {
            self.miss_bytes_per_token = miss;
            self.bytes_left = miss;
        }
        self.enter(tick);
    }

    fn enter(&mut self, tick: Tick) {
        if self.tick != Some(tick) {
            self.tick = Some(tick);
            self.bytes_left = self.miss_bytes_per_token;
        }
    }

    /// Starts a lease on a layer. The windows of one chunk share a tick and count its tokens once.
    pub fn begin(&mut self, tick: Tick, rank: usize, tokens: u32, lease: u64) {
        self.enter(tick);
        self.now = rank;
        self.lease = lease + 1;
        let layer = &mut self.layers[rank];
        if layer.last_tick != Some(tick) {
            layer.last_tick = Some(tick);
            layer.clock += u64::from(tokens.max(1));
        }
    }

    /// Records that `uses` of `tokens` tokens used an expert of the current layer.
    pub fn used(&mut self, index: u32, uses: u32, tokens: u32) {
        let tokens = tokens.max(1);
        let clock = self.layers[self.now].clock;
        let before = self.frequency(&self.cells[index as usize]);
        let fresh = 1.0 - self.decay_of(u64::from(tokens));
        let cell = &mut self.cells[index as usize];
        cell.last_lease = self.lease;
        cell.frequency =
            (before + fresh * f64::from(uses.min(tokens)) / f64::from(tokens)).min(1.0);
        cell.clock = clock;
    }

    /// Frequency of use as of now: the average decays with every token that the layer runs.
    #[inline]
    fn frequency(&self, cell: &Cell) -> f64 {
        let clock = self.layers[cell.rank as usize].clock;
        cell.frequency * self.decay_of(clock - cell.clock)
    }

    #[inline]
    fn decay_of(&self, tokens: u64) -> f64 {
        usize::try_from(tokens)
            .ok()
            .and_then(|n| self.decay.get(n))
            .copied()
            .unwrap_or_else(|| {
                self.half_life
                    .map_or(0.0, |half_life| libm::exp2(-(tokens as f64) / half_life))
            })
    }

    /// How far away the next use is expected, in layer steps: to the layer's next turn, and a whole token more for
    /// every time that it is expected to be passed over.
    #[inline]
    fn distance(&self, cell: &Cell) -> f64 {
        let n = self.layers.len();
        let rank = cell.rank as usize;
        let to_layer = if rank > self.now {
            rank - self.now
        } else {
            rank + n - self.now
        };
        let p = self.frequency(cell).max(1e-12);
        to_layer as f64 + n as f64 * (1.0 / p - 1.0)
    }

    /// Evicts until `needed` more bytes fit, sparing pinned experts; as far as that goes.
    /// Returns how many were evicted.
    pub fn make_room(&mut self, needed: u64, evicted: &mut Vec<SlotId>) -> u64 {
        let over = (self.resident_bytes() + needed).saturating_sub(self.capacity_bytes);
        let count = usize::try_from(over.div_ceil(self.expert_bytes)).unwrap_or(usize::MAX);
        if count == 0 {
            return 0;
        }
        let mut victims = std::mem::take(&mut self.victims);
        victims.clear();
        for index in &self.residents {
            let cell = &self.cells[*index as usize];
            if cell.pins > 0 {
                continue;
            }
            let far = match self.half_life {
                Some(_) => self.distance(cell),
                None => -(cell.last_lease as f64),
            };
            if count > FEW {
                victims.push((far, *index));
            } else {
                keep_farthest((far, *index), count, &mut victims);
            }
        }
        if count < victims.len() {
            victims.select_nth_unstable_by(count - 1, farther);
            victims.truncate(count);
        }
        victims.sort_unstable_by(farther);
        for (_, index) in &victims {
            self.evict(*index, evicted);
        }
        let count = victims.len() as u64;
        self.victims = victims;
        count
    }

    fn evict(&mut self, index: u32, evicted: &mut Vec<SlotId>) {
        let cell = &mut self.cells[index as usize];
        let position = cell.position as usize;
        if let Some(slot) = cell.slot.take() {
            self.free.insert(slot);
            evicted.push(SlotId(self.slot_base + slot));
            self.residents.swap_remove(position);
            if let Some(moved) = self.residents.get(position) {
                self.cells[*moved as usize].position = position as u32;
            }
            self.layers[(index / self.experts) as usize]
                .resident
                .remove((index % self.experts) as u16);
        }
    }

    /// Makes an expert resident; returns its slot and whether it was resident before.
    pub fn admit(
        &mut self,
        index: u32,
        key: ExpertKey,
        admitted: &mut Vec<(ExpertKey, SlotId, bool)>,
        promoted: &mut Vec<SlotId>,
    ) -> (SlotId, bool) {
        if let Some(slot) = self.cells[index as usize].slot {
            return (SlotId(self.slot_base + slot), true);
        }
        let slot = match self.cells[index as usize].speculative_slot.take() {
            Some(slot) => {
                self.speculative.retain(|other| *other != index);
                promoted.push(SlotId(self.slot_base + slot));
                slot
            }
            None => {
                let slot = self.take_slot();
                admitted.push((key, SlotId(self.slot_base + slot), false));
                slot
            }
        };
        let position = self.residents.len() as u32;
        self.residents.push(index);
        let cell = &mut self.cells[index as usize];
        cell.slot = Some(slot);
        cell.position = position;
        self.layers[(index / self.experts) as usize]
            .resident
            .insert(key.expert);
        (SlotId(self.slot_base + slot), false)
    }

    /// The lowest free slot number.
    fn take_slot(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    /// Keeps an expert where it is, or will be once it is admitted.
    pub fn pin(&mut self, index: u32) {
        let pins = &mut self.cells[index as usize].pins;
        self.pinned += usize::from(*pins == 0);
        *pins += 1;
    }

    pub fn unpin(&mut self, index: u32) {
        let pins = &mut self.cells[index as usize].pins;
        self.pinned -= usize::from(*pins == 1);
        *pins = pins.saturating_sub(1);
    }

    pub fn charge(&mut self, bytes: u64) {
        self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes));
    }

    /// Admits what is nowhere yet, as much as the speculation pool holds; the oldest make room.
    pub fn speculate(
        &mut self,
        wanted: &[(u32, ExpertKey)],
        evicted: &mut Vec<SlotId>,
        admitted: &mut Vec<(ExpertKey, SlotId, bool)>,
    ) {
        let room =
            usize::try_from(self.speculation_bytes / self.expert_bytes).unwrap_or(usize::MAX);
        let mut fresh: Vec<(u32, ExpertKey)> = Vec::new();
        for (index, key) in wanted {
            let cell = &self.cells[*index as usize];
            let known = cell.slot.is_some() || cell.speculative_slot.is_some();
            if !known && fresh.len() < room && !fresh.iter().any(|(other, _)| other == index) {
                fresh.push((*index, *key));
            }
        }
        self.trim_speculation(room - fresh.len(), evicted);
        for (index, key) in fresh {
            let slot = self.take_slot();
            self.cells[index as usize].speculative_slot = Some(slot);
            self.speculative.push_back(index);
            admitted.push((key, SlotId(self.slot_base + slot), true));
        }
    }

    pub fn shrink_speculation(&mut self, evicted: &mut Vec<SlotId>) {
        let room =
            usize::try_from(self.speculation_bytes / self.expert_bytes).unwrap_or(usize::MAX);
        self.trim_speculation(room, evicted);
    }

    fn trim_speculation(&mut self, room: usize, evicted: &mut Vec<SlotId>) {
        while self.speculative.len() > room {
            let Some(index) = self.speculative.pop_front() else {
                break;
            };
            if let Some(slot) = self.cells[index as usize].speculative_slot.take() {
                self.free.insert(slot);
                evicted.push(SlotId(self.slot_base + slot));
            }
        }
    }
}

/// The farthest first; of equals the lowest index first.
fn farther(a: &(f64, u32), b: &(f64, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Adds a candidate to the `count` farthest so far, which are in order, if it belongs there.
#[inline]
fn keep_farthest(candidate: (f64, u32), count: usize, kept: &mut Vec<(f64, u32)>) {
    if kept.len() == count {
        let nearer = |last: &(f64, u32)| candidate.0 < last.0 || farther(&candidate, last).is_gt();
        if kept.last().is_some_and(nearer) {
            return;
        }
        kept.pop();
    }
    let at = kept.partition_point(|other| farther(other, &candidate).is_lt());
    kept.insert(at, candidate);
}
