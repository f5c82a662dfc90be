//! Slots: the memory that holds experts, and the thread that fills them.
//!
//! The cache decides which expert lives in which slot; the arena obeys. A slot's memory is taken from the
//! system when an expert is read and goes back when the decision that evicted it is complete and no admitted
//! expert took it over.

mod memory;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sage_actors::protocol::{ExpertKey, ExpertSource, SlotId};

use tracing::span::EnteredSpan;

use super::loaded::{ExpertMemory, LoadedExpert, MappedRecord};
use crate::core::ports::{ExpertReadError, component_name};
use crate::host_memory::Mapped;
use crate::reads::ReadPurpose;
use crate::spans;
use crate::store::ExpertLocation;
pub use memory::SPARE;
use memory::{ReadMemory, RecordMemory};

/// Fills the memory of a slot with an expert's record. Implemented by the store's direct reader.
pub trait RecordReader: Send + Sync + 'static {
    /// Where the expert's record lies, how long it is and in which format: asked once, when the expert is admitted.
    ///
    /// # Errors
    /// When there is no such expert.
    fn find(&self, key: ExpertKey) -> Result<ExpertLocation, ExpertReadError>;

    /// Reads `record`, the one of `key`, into `memory` of at least its length (gate, up, down without gaps) and checks it;
    /// what is read counts for `purpose`.
    ///
    /// # Errors
    /// When it cannot be read, or its checksum is wrong.
    fn read(
        &self,
        purpose: ReadPurpose,
        key: ExpertKey,
        record: &ExpertLocation,
        memory: &mut Mapped,
    ) -> Result<(), ExpertReadError>;

    /// The record where it lies in its file, from a reader that hands out mappings; none from one that reads into memory.
    ///
    /// # Errors
    /// When it cannot be mapped.
    fn map(
        &self,
        _key: ExpertKey,
        _record: &ExpertLocation,
    ) -> Option<Result<MappedRecord, ExpertReadError>> {
        None
    }
}

enum Contents {
    Empty,
    /// Queued or being read.
    Pending(Arc<ExpertLocation>),
    Ready(Arc<LoadedExpert>),
    Failed(ExpertReadError),
}

struct Slot {
    contents: Contents,
    key: Option<ExpertKey>,
    /// Counts admissions, so that a read which ends after its slot moved on is thrown away.
    generation: u64,
    /// What the read took that filled it.
    read_in: Option<Duration>,
}

#[derive(Default)]
struct State {
    /// By number: those of a second module begin far behind the first's.
    slots: BTreeMap<u32, Slot>,
    demand: VecDeque<(SlotId, u64)>,
    speculative: VecDeque<(SlotId, u64)>,
    /// What was to be read ahead for a layer that has had its turn since: read only if somebody asks for it after all.
    overtaken: VecDeque<(SlotId, u64)>,
    memory: RecordMemory,
    /// Threads that are reading now.
    reading: usize,
    closing: bool,
    telemetry: ArenaTelemetry,
}

/// What reading cost, by the wall clock. Telemetry: no decision reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArenaTelemetry {
    /// Time that `wait` blocked the caller.
    pub stall_time: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// Work for the reading threads.
    work: Condvar,
    /// A slot became ready or failed.
    ready: Condvar,
    reader: Arc<dyn RecordReader>,
}

/// The slots of one process.
pub struct SlotArena {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Threads that read: while one compares a checksum and looks for the next file, the other keeps the disk busy.
pub const READERS: usize = 2;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    // A panic elsewhere cannot leave the state half-changed: every change is complete before the lock is let go.
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SlotArena {
    /// An empty arena and its reading threads.
    ///
    /// # Errors
    /// When the system cannot start one.
    pub fn new(reader: Arc<dyn RecordReader>) -> std::io::Result<Arc<Self>> {
        Self::with_readers(reader, READERS)
    }

    fn with_readers(reader: Arc<dyn RecordReader>, readers: usize) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            ready: Condvar::new(),
            reader,
        });
        // What was started ends with the arena, also where a later one cannot be.
        let arena = Self {
            shared,
            threads: Mutex::new(Vec::new()),
        };
        for _ in 0..readers {
            let shared = Arc::clone(&arena.shared);
            let thread = std::thread::Builder::new().name("expert-reader".into());
            let thread = thread.spawn(move || read_until_closed(&shared))?;
            let mut threads = arena.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.push(thread);
        }
        Ok(Arc::new(arena))
    }

    /// Whether the slot's expert is in memory now.
    pub fn is_ready(&self, slot: SlotId) -> bool {
        let state = lock(&self.shared);
        matches!(
            state.slots.get(&slot.0).map(|slot| &slot.contents),
            Some(Contents::Ready(_))
        )
    }

    /// The expert's record, once it is in memory; blocks until then.
    ///
    /// # Errors
    /// When the read failed twice, or nothing was admitted to the slot.
    pub fn wait(&self, key: ExpertKey, slot: SlotId) -> Result<Arc<LoadedExpert>, ExpertReadError> {
        let mut blocked: Option<(Instant, EnteredSpan)> = None;
        let mut state = lock(&self.shared);
        loop {
            let reason = match state.slots.get(&slot.0) {
                Some(found) if found.key == Some(key) => match &found.contents {
                    Contents::Ready(expert) => {
                        let expert = Arc::clone(expert);
                        if let Some((since, _)) = &blocked {
                            state.telemetry.stall_time += since.elapsed();
                        }
                        return Ok(expert);
                    }
                    Contents::Failed(error) => return Err(error.clone()),
                    Contents::Pending(_) => None,
                    Contents::Empty => Some("its slot is empty"),
                },
                Some(_) => Some("its slot holds another expert"),
                None => Some("its slot does not exist"),
            };
            if let Some(reason) = reason {
                return Err(ExpertReadError {
                    key,
                    component: component_name(key),
                    reason: format!(
                        "{reason} (slot {}): this is a fault of the program, please report it",
                        slot.0
                    ),
                });
            }
            let (_, _span) =
                blocked.get_or_insert_with(|| (Instant::now(), spans::wait(key).entered()));
            state = self
                .shared
                .ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until everything that is queued has been read: what is counted then is all that was asked for.
    pub fn finish_reads(&self) {
        let mut state = lock(&self.shared);
        while state.reading > 0 || !state.demand.is_empty() || !state.speculative.is_empty() {
            state = self
                .shared
                .ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Bytes mapped for experts now, those waiting for `settle` included.
    pub fn mapped_bytes(&self) -> usize {
        let state = lock(&self.shared);
        let held: usize = state
            .slots
            .values()
            .map(|slot| match &slot.contents {
                Contents::Ready(expert) => expert.held_bytes(),
                _ => 0,
            })
            .sum();
        held + state.memory.held_bytes()
    }

    /// What it took to read the slot's expert from disk and check it; none while it is not there. Telemetry: no decision reads it.
    pub fn read_in(&self, slot: SlotId) -> Option<Duration> {
        lock(&self.shared).slots.get(&slot.0)?.read_in
    }

    /// Totals since the start.
    pub fn telemetry(&self) -> ArenaTelemetry {
        lock(&self.shared).telemetry
    }
}

impl Drop for SlotArena {
    fn drop(&mut self) {
        lock(&self.shared).closing = true;
        self.shared.work.notify_all();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread only ends early by a panic, which it has already reported.
            let _ = thread.join();
        }
    }
}

impl ExpertSource for SlotArena {
    fn admit(&self, key: ExpertKey, slot: SlotId, speculative: bool) {
        let found = self.shared.reader.find(key);
        let mut state = lock(&self.shared);
        let entry = state.slots.entry(slot.0).or_insert(Slot {
            contents: Contents::Empty,
            key: None,
            generation: 0,
            read_in: None,
        });
        entry.key = Some(key);
        entry.read_in = None;
        entry.generation += 1;
        match found {
            Ok(record) => entry.contents = Contents::Pending(Arc::new(record)),
            Err(error) => {
                entry.contents = Contents::Failed(error);
                drop(state);
                self.shared.ready.notify_all();
                return;
            }
        }
        let queued = (slot, entry.generation);
        if speculative {
            overtake(&mut state, key);
            state.speculative.push_back(queued);
        } else {
            state.demand.push_back(queued);
        }
        drop(state);
        self.shared.work.notify_one();
    }

    fn promote(&self, slot: SlotId) {
        let mut state = lock(&self.shared);
        let State {
            speculative,
            overtaken,
            demand,
            ..
        } = &mut *state;
        for waiting in [speculative, overtaken] {
            let at = waiting.iter().position(|(queued, _)| *queued == slot);
            if let Some(queued) = at.and_then(|at| waiting.remove(at)) {
                demand.push_back(queued);
                break;
            }
        }
        drop(state);
        self.shared.work.notify_one();
    }

    fn evict(&self, slot: SlotId) {
        let mut state = lock(&self.shared);
        let Some(entry) = state.slots.get_mut(&slot.0) else {
            return;
        };
        entry.key = None;
        entry.generation += 1;
        if let Contents::Ready(expert) = std::mem::replace(&mut entry.contents, Contents::Empty)
            && let Ok(expert) = Arc::try_unwrap(expert)
            && let Some(memory) = expert.into_memory()
        {
            state.memory.keep(memory);
        }
    }

    fn settle(&self) {
        // Reads that are queued will want memory: of every length keep as many free mappings as there are such reads. One
        // of another length would stand beside the memory that is mapped for the read.
        let mut state = lock(&self.shared);
        let mut wanted = BTreeMap::<usize, usize>::new();
        for (slot, generation) in state.demand.iter().chain(&state.speculative) {
            if let Some((_, record)) = current(&state, *slot, *generation) {
                *wanted.entry(record.len_bytes).or_default() += 1;
            }
        }
        let surplus = state.memory.surplus(&wanted);
        drop(state);
        // Giving back takes time; the reading threads need not wait for it.
        drop(surplus);
        let mut state = lock(&self.shared);
        let State { slots, memory, .. } = &mut *state;
        if memory.closing_is_due() {
            let unused = slots
                .values_mut()
                .filter_map(|slot| match &mut slot.contents {
                    Contents::Ready(expert) => Arc::get_mut(expert),
                    _ => None,
                });
            memory.close_gaps(unused);
        }
    }
}

/// What waits to be read ahead for another layer than `key`'s has been overtaken: its layer has had its turn. What moved on
/// meanwhile is forgotten.
fn overtake(state: &mut State, key: ExpertKey) {
    let waits = |slots: &BTreeMap<u32, Slot>, (slot, generation): (SlotId, u64)| {
        let slot = slots.get(&slot.0)?;
        let is_current = slot.generation == generation;
        slot.key.filter(|_| is_current).map(|key| key.layer)
    };
    let State {
        slots,
        speculative,
        overtaken,
        ..
    } = state;
    overtaken.retain(|queued| waits(slots, *queued).is_some());
    for queued in std::mem::take(speculative) {
        match waits(slots, queued) {
            Some(layer) if layer == key.layer => speculative.push_back(queued),
            Some(_) => overtaken.push_back(queued),
            None => {}
        }
    }
}

fn read_until_closed(shared: &Shared) {
    let mut state = lock(shared);
    loop {
        if state.closing {
            return;
        }
        let demanded = state.demand.pop_front();
        // What was begun before anybody demanded it stays a prefetch: it is not read again.
        let purpose = match demanded {
            Some(_) => ReadPurpose::Demand,
            None => ReadPurpose::Prefetch,
        };
        let Some((slot, generation)) = demanded.or_else(|| state.speculative.pop_front()) else {
            shared.ready.notify_all();
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let Some((key, record)) = current(&state, slot, generation) else {
            continue;
        };
        let record = Arc::clone(record);
        let (memory, others) = state.memory.for_read(record.len_bytes);
        state.reading += 1;
        drop(state);
        drop(others);
        let span = spans::read(key, purpose, Some(record.len_bytes)).entered();
        let started = Instant::now();
        let read = AssertUnwindSafe(|| read_with_retry(shared, purpose, key, &record, memory));
        let outcome = catch_unwind(read).unwrap_or_else(|_| {
            // Whoever waits must hear of it.
            Err(ExpertReadError {
                key,
                component: component_name(key),
                reason: "the reader panicked: this is a fault of the program, please report it"
                    .into(),
            })
        });
        let read_in = started.elapsed();
        drop(span);
        state = lock(shared);
        state.reading -= 1;
        if current(&state, slot, generation).is_some()
            && let Some(entry) = state.slots.get_mut(&slot.0)
        {
            entry.read_in = Some(read_in);
            entry.contents = match outcome {
                Ok(memory) => Contents::Ready(Arc::new(LoadedExpert::new(memory, &record))),
                Err(error) => Contents::Failed(error),
            };
            shared.ready.notify_all();
        }
    }
}

/// The expert that the slot is to hold and its record, unless the slot has moved on since it was queued.
fn current(
    state: &State,
    slot: SlotId,
    generation: u64,
) -> Option<(ExpertKey, &Arc<ExpertLocation>)> {
    let slot = state.slots.get(&slot.0)?;
    match (&slot.contents, slot.key) {
        (Contents::Pending(record), Some(key)) if slot.generation == generation => {
            Some((key, record))
        }
        _ => None,
    }
}

/// One retry: a second failure ends the run.
fn read_with_retry(
    shared: &Shared,
    purpose: ReadPurpose,
    key: ExpertKey,
    record: &ExpertLocation,
    memory: ReadMemory,
) -> Result<ExpertMemory, ExpertReadError> {
    let reader = &shared.reader;
    if let Some(mapped) = reader.map(key, record) {
        return mapped.map(ExpertMemory::File);
    }
    let system = |error: std::io::Error| ExpertReadError {
        key,
        component: component_name(key),
        reason: format!("no memory for it: {error}"),
    };
    let mut memory = memory.take().map_err(system)?;
    if reader.read(purpose, key, record, &mut memory).is_err() {
        reader.read(purpose, key, record, &mut memory)?;
    }
    Ok(ExpertMemory::Slot(memory))
}

#[cfg(test)]
mod tests;
