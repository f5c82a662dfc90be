//! The demand pool and the speculation pool of one module.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::twin::Twin;
use super::usage::Usage;
use crate::config::{EvictionPolicy, ExpertSizes, ModuleShape};
use crate::protocol::{
    ExpertKey, ExpertSet, LayerKey, LayerTrust, Module, Residency, SlotId, Tick,
};

/// Experts of a checked request, as indices, and how many of them are not resident.
#[derive(Debug, Default)]
pub(super) struct LeaseClaim {
    pub indices: Vec<u32>,
    pub misses: usize,
    /// Bytes of those.
    pub miss_bytes: u64,
}

/// Where one expert is.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    slot: Option<u32>,
    speculative_slot: Option<u32>,
    /// Position in `residents`.
    position: u32,
    pins: u32,
}

#[derive(Debug)]
pub(super) struct Pool {
    module: Module,
    layer_numbers: Vec<u16>,
    experts: u32,
    sizes: ExpertSizes,
    cells: Vec<Cell>,
    /// Residents of each layer, by rank.
    layers: Vec<ExpertSet>,
    residents: Vec<u32>,
    resident_bytes: u64,
    /// Of experts with a pin.
    pinned_bytes: u64,
    speculative: VecDeque<u32>,
    /// Of those.
    ahead_bytes: u64,
    free: BTreeSet<u32>,
    slots: u32,
    slot_base: u32,
    capacity_bytes: u64,
    speculation_bytes: u64,
    miss_bytes_per_token: Option<u64>,
    bytes_left: Option<u64>,
    tick: Option<Tick>,
    window: u16,
    usage: Usage,
    /// While habits are known: the pool that there would be without them.
    twin: Option<Twin>,
    /// Bytes that habits saved so far; less than 0 where they cost.
    habits_saved_bytes: i64,
    /// Scratch of `make_room`.
    victims: Vec<(f64, u32)>,
}

impl Pool {
    /// An empty pool with room for one window.
    pub fn new(shape: &ModuleShape, policy: EvictionPolicy, window: u16, slot_base: u32) -> Self {
        Self {
            module: shape.module,
            layer_numbers: shape.layers.clone(),
            experts: u32::from(shape.experts),
            sizes: shape.sizes(),
            cells: vec![Cell::default(); shape.layers.len() * usize::from(shape.experts)],
            layers: vec![ExpertSet::new(usize::from(shape.experts)); shape.layers.len()],
            residents: Vec::new(),
            resident_bytes: 0,
            pinned_bytes: 0,
            speculative: VecDeque::new(),
            ahead_bytes: 0,
            free: BTreeSet::new(),
            slots: 0,
            slot_base,
            capacity_bytes: u64::from(window) * shape.expert_bytes,
            speculation_bytes: 0,
            miss_bytes_per_token: None,
            bytes_left: None,
            tick: None,
            window,
            usage: Usage::new(policy, shape),
            twin: None,
            habits_saved_bytes: 0,
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

    /// Bytes of these experts together.
    pub fn bytes_of(&self, indices: &[u32]) -> u64 {
        self.sizes.sum(indices)
    }

    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    pub fn resident_experts(&self) -> u64 {
        self.residents.len() as u64
    }

    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes
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
        indices.into_iter().map(|index| self.key(index)).collect()
    }

    pub fn key(&self, index: u32) -> ExpertKey {
        ExpertKey {
            layer: LayerKey {
                module: self.module,
                layer: self.layer_numbers[(index / self.experts) as usize],
            },
            expert: (index % self.experts) as u16,
        }
    }

    /// Bytes pinned by leases, those of `except` left out.
    pub fn pinned_bytes(&self, except: &[u32]) -> u64 {
        let again = except
            .iter()
            .filter(|index| self.cells[**index as usize].pins > 0);
        self.pinned_bytes - self.sizes.sum(again)
    }

    pub fn residency(&self, rank: usize) -> Residency {
        Residency {
            resident: self.layers[rank].clone(),
            bytes_left: self.bytes_left,
        }
    }

    /// Takes over what the ledger believes of the layer of this rank.
    pub fn set_trust(&mut self, rank: usize, trust: &Arc<LayerTrust>) {
        self.usage.set_trust(rank, trust);
    }

    /// Experts of all layers.
    pub fn all_experts(&self) -> usize {
        self.cells.len()
    }

    /// Takes over the habits of the domain that follows; none: nothing is known of it.
    pub fn expect(&mut self, habits: Option<Arc<[f32]>>) {
        match (&habits, &self.twin) {
            (Some(_), None) => {
                let experts = self.cells.len();
                self.twin = Some(Twin::of(&self.residents, experts, &self.sizes));
            }
            (None, _) => self.twin = None,
            (Some(_), Some(_)) => {}
        }
        self.usage.expect(habits);
    }

    /// A lease that misses `miss_bytes` is compared with what would be missed without habits.
    pub fn compare(&mut self, indices: &[u32], miss_bytes: u64) {
        if let Some(twin) = &mut self.twin {
            let without = twin.lease(indices, self.capacity_bytes, &self.sizes, &self.usage);
            self.habits_saved_bytes += without as i64 - miss_bytes as i64;
        }
    }

    /// Bytes that habits saved so far; less than 0 where they cost.
    pub fn habits_saved_bytes(&self) -> i64 {
        self.habits_saved_bytes
    }

    pub fn layer_keys(&self) -> impl Iterator<Item = LayerKey> + '_ {
        self.layer_numbers.iter().map(|layer| LayerKey {
            module: self.module,
            layer: *layer,
        })
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

    /// A lease of a layer's experts: `uses` are their indices, with how many of the tokens use each.
    pub fn turn(&mut self, turn: u64, tick: Tick, rank: usize, tokens: u32, uses: &[(u32, u32)]) {
        self.enter(tick);
        self.usage.turn(turn, tick, rank, tokens, uses);
    }

    /// Evicts until `needed` more bytes fit, sparing pinned experts; as far as that goes.
    /// Returns how many were evicted.
    pub fn make_room(&mut self, needed: u64, evicted: &mut Vec<SlotId>) -> u64 {
        let over = (self.resident_bytes + needed).saturating_sub(self.capacity_bytes);
        if over == 0 {
            return 0;
        }
        // More than so many are never asked to go, even if the smallest go first.
        let most = over.div_ceil(self.sizes.smallest());
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut victims = std::mem::take(&mut self.victims);
        let unpinned = |index: u32| self.cells[index as usize].pins == 0;
        self.usage
            .choose(&self.residents, unpinned, most, &mut victims);
        let mut count = 0;
        for (_, index) in &victims {
            if self.resident_bytes + needed <= self.capacity_bytes {
                break;
            }
            self.evict(*index, evicted);
            count += 1;
        }
        self.victims = victims;
        count
    }

    fn evict(&mut self, index: u32, evicted: &mut Vec<SlotId>) {
        let cell = &mut self.cells[index as usize];
        let position = cell.position as usize;
        if let Some(slot) = cell.slot.take() {
            self.free.insert(slot);
            evicted.push(SlotId(self.slot_base + slot));
            self.resident_bytes -= self.sizes.of(index);
            self.residents.swap_remove(position);
            if let Some(moved) = self.residents.get(position) {
                self.cells[*moved as usize].position = position as u32;
            }
            self.layers[(index / self.experts) as usize].remove((index % self.experts) as u16);
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
                self.ahead_bytes -= self.sizes.of(index);
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
        self.resident_bytes += self.sizes.of(index);
        let cell = &mut self.cells[index as usize];
        cell.slot = Some(slot);
        cell.position = position;
        self.layers[(index / self.experts) as usize].insert(key.expert);
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
        if *pins == 0 {
            self.pinned_bytes += self.sizes.of(index);
        }
        *pins += 1;
    }

    pub fn unpin(&mut self, index: u32) {
        let pins = &mut self.cells[index as usize].pins;
        if *pins == 1 {
            self.pinned_bytes -= self.sizes.of(index);
        }
        *pins = pins.saturating_sub(1);
    }

    pub fn charge(&mut self, bytes: u64) {
        self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes));
    }

    /// Admits what is nowhere yet, as much as the speculation pool holds; the oldest make room.
    pub fn speculate(
        &mut self,
        wanted: &[u32],
        evicted: &mut Vec<SlotId>,
        admitted: &mut Vec<(ExpertKey, SlotId, bool)>,
    ) {
        let mut fresh: Vec<u32> = Vec::new();
        let mut fresh_bytes = 0;
        for index in wanted {
            let cell = &self.cells[*index as usize];
            let known = cell.slot.is_some() || cell.speculative_slot.is_some();
            let with = fresh_bytes + self.sizes.of(*index);
            let fits = with <= self.speculation_bytes;
            if !known && fits && !fresh.contains(index) {
                fresh.push(*index);
                fresh_bytes = with;
            }
        }
        self.trim_speculation(self.speculation_bytes - fresh_bytes, evicted);
        for index in fresh {
            let (slot, key) = (self.take_slot(), self.key(index));
            self.cells[index as usize].speculative_slot = Some(slot);
            self.speculative.push_back(index);
            self.ahead_bytes += self.sizes.of(index);
            admitted.push((key, SlotId(self.slot_base + slot), true));
        }
    }

    /// Has what the next window asks for read behind what this one does, as far as the speculation pool has room: nobody waits
    /// for it yet, but it is certain.
    pub fn read_behind(
        &mut self,
        next: &[u32],
        evicted: &mut Vec<SlotId>,
        admitted: &mut Vec<(ExpertKey, SlotId, bool)>,
    ) {
        let before = admitted.len();
        self.speculate(next, evicted, admitted);
        for (_, _, speculative) in &mut admitted[before..] {
            *speculative = false;
        }
    }

    pub fn shrink_speculation(&mut self, evicted: &mut Vec<SlotId>) {
        self.trim_speculation(self.speculation_bytes, evicted);
    }

    fn trim_speculation(&mut self, room_bytes: u64, evicted: &mut Vec<SlotId>) {
        while self.ahead_bytes > room_bytes {
            let Some(index) = self.speculative.pop_front() else {
                break;
            };
            self.ahead_bytes -= self.sizes.of(index);
            if let Some(slot) = self.cells[index as usize].speculative_slot.take() {
                self.free.insert(slot);
                evicted.push(SlotId(self.slot_base + slot));
            }
        }
    }
}
