//! The memory of records: what evicted slots leave is kept for the reads that wait, and goes back to the system otherwise.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::loaded::LoadedExpert;
use crate::host_memory::{Mapped, Shelf};

/// Mappings that stay although no read waits for them: what was read ahead and is taken over leaves its place empty, and the next
/// read ahead need not fault every page in again.
pub const SPARE: usize = 2;

/// Memory by the length of the records that it is for.
#[derive(Default)]
pub(super) struct RecordMemory {
    /// Of slots that were evicted.
    free: BTreeMap<usize, Vec<Mapped>>,
    /// None where the system has no addresses for one.
    shelves: BTreeMap<usize, Option<Arc<Shelf>>>,
    /// Bytes of gaps that could not be closed when it was last tried, and decisions since then.
    unclosable_bytes: usize,
    decisions_since: u32,
}

/// Decisions after which closing gaps is tried again although there is no new one: what was in use may not be any more.
const RETRY_DECISIONS: u32 = 64;

/// Where the memory of a read comes from.
pub(super) struct ReadMemory {
    len: usize,
    kept: Option<Mapped>,
    shelf: Option<Arc<Shelf>>,
}

impl ReadMemory {
    /// # Errors
    /// When the system has none.
    pub(super) fn take(self) -> std::io::Result<Mapped> {
        if let Some(kept) = self.kept {
            return Ok(kept);
        }
        // A shelf that is full is no reason to read nothing.
        match self.shelf.map(|shelf| shelf.take()) {
            Some(Ok(memory)) => Ok(memory),
            _ => Mapped::in_huge_pages(self.len),
        }
    }
}

impl RecordMemory {
    /// Keeps what an evicted slot leaves.
    pub(super) fn keep(&mut self, memory: Mapped) {
        self.free.entry(memory.len()).or_default().push(memory);
    }

    /// Memory for a record of `len` bytes; and what is to be dropped first: what is mapped anew takes the place of what is free,
    /// and does not stand beside it.
    pub(super) fn for_read(&mut self, len: usize) -> (ReadMemory, Vec<Mapped>) {
        let kept = self.free.get_mut(&len).and_then(Vec::pop);
        let others = match kept {
            Some(_) => Vec::new(),
            None => std::mem::take(&mut self.free)
                .into_values()
                .flatten()
                .collect(),
        };
        let shelf = self.shelves.entry(len).or_insert_with(|| Shelf::new(len));
        let shelf = shelf.clone();
        (ReadMemory { len, kept, shelf }, others)
    }

    /// What is free beyond the reads that wait, `wanted` of each length, and the spare.
    pub(super) fn surplus(&mut self, wanted: &BTreeMap<usize, usize>) -> Vec<Mapped> {
        let (mut surplus, mut spare) = (Vec::new(), SPARE);
        for (len, free) in &mut self.free {
            let wanted = wanted.get(len).copied().unwrap_or(0);
            let keep = (wanted + spare).min(free.len());
            spare -= keep.saturating_sub(wanted);
            surplus.extend(free.drain(keep..));
        }
        surplus
    }

    /// Bytes that are kept, or cannot go back yet.
    pub(super) fn held_bytes(&self) -> usize {
        let free = self.free.values().flatten().map(Mapped::mapped_bytes);
        free.sum::<usize>() + self.gap_bytes()
    }

    fn gap_bytes(&self) -> usize {
        let shelves = self.shelves.values().flatten();
        shelves.map(|shelf| shelf.gap_bytes()).sum()
    }

    /// Whether records are to move together, so that memory goes back; asked once a decision.
    pub(super) fn closing_is_due(&mut self) -> bool {
        let gaps = self.gap_bytes();
        self.decisions_since = self.decisions_since.saturating_add(1);
        let due =
            gaps > self.unclosable_bytes || (gaps > 0 && self.decisions_since > RETRY_DECISIONS);
        self.unclosable_bytes = self.unclosable_bytes.min(gaps);
        due
    }

    /// Moves records from the end of their shelf into its gaps, and then what is free. `experts` are those that nobody uses.
    pub(super) fn close_gaps<'a>(&mut self, experts: impl Iterator<Item = &'a mut LoadedExpert>) {
        let shelf_of = |expert: &LoadedExpert| {
            let shelf = self.shelves.get(&expert.memory()?.len())?.as_ref()?;
            (shelf.gap_bytes() > 0 && shelf.holds(expert.memory()?)).then_some(shelf)
        };
        let mut movable: Vec<_> = experts
            .filter_map(|expert| shelf_of(expert).map(|shelf| (shelf, expert)))
            .collect();
        movable.sort_unstable_by_key(|(_, expert)| Reverse(expert.bytes().as_ptr()));
        for (shelf, expert) in movable {
            expert.move_to(|memory| shelf.take_below(memory));
        }
        for (len, free) in &mut self.free {
            let Some(Some(shelf)) = self.shelves.get(len) else {
                continue;
            };
            free.sort_unstable_by_key(|memory| Reverse(memory.bytes().as_ptr()));
            for memory in free {
                if let Some(lower) = shelf.take_below(memory) {
                    *memory = lower;
                }
            }
        }
        (self.unclosable_bytes, self.decisions_since) = (self.gap_bytes(), 0);
    }
}
