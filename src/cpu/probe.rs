//! How fast a disk delivers experts and how fast the arithmetic goes through them, whatever the mind does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sage_actors::protocol::{ExpertKey, LayerKey, Module};

use super::arena::RecordReader;
use super::direct::{DirectReader, open_direct, read_exactly};
use super::loaded::{ExpertMemory, LoadedExpert};
use crate::checkpoint::Component;
use crate::host_memory::{Mapped, PAGE_BYTES, round_up_to_page};
use crate::kernels::reading_rate;
use crate::model::Thinker;
use crate::model::experts::{ExpertScratch, ExpertShape, Gated};
use crate::reads::ReadPurpose;
use crate::store::{ExpertLocation, FileSegment, WeightSource};

/// Reads that are under way at the same time: more do not make the disks faster that this was tried on.
const THREADS: usize = 4;

/// Bytes a second at which experts of the thinker come from disk, read whole, past the page cache, in no order, by four
/// threads, for about `duration`; none where there is no expert to read, or none can be read.
pub fn disk_rate(source: &dyn WeightSource, duration: Duration) -> Option<f64> {
    let records = records(source);
    if records.is_empty() {
        return None;
    }
    let (start, bytes) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (records, bytes) = (&records, &bytes);
            scope.spawn(move || {
                let mut at = thread;
                while start.elapsed() < duration {
                    // Neighbours in the list are neighbours on the disk: a stride that shares no factor with a power of
                    // two visits all of them in another order.
                    at = (at + THREADS * 6_700_417) % records.len();
                    let Some(read) = read_record(&records[at]) else {
                        return;
                    };
                    bytes.fetch_add(read, Ordering::Relaxed);
                }
            });
        }
    });
    let bytes = bytes.into_inner() as f64;
    (bytes > 0.0).then(|| bytes / start.elapsed().as_secs_f64())
}

/// Rates of the work that a token makes, bytes of weights a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkRates {
    /// Experts read one after another, as a run reads them.
    pub read: f64,
    /// Experts at work on one row, none of them in a cache.
    pub experts: f64,
    /// The head at work on one row: what stays in memory is of its format or of one like it.
    pub resident: f64,
    /// Memory that all threads read, whatever they do with it.
    pub memory: f64,
}

/// Memory that is read for its rate: more than caches hold.
const MEMORY_BYTES: usize = 256 << 20;

/// Bytes a second at which all threads read memory.
///
/// # Errors
/// When the system has none to try it on.
pub fn memory_rate() -> std::io::Result<f64> {
    let mut memory = Mapped::new(MEMORY_BYTES)?;
    // Pages that nobody wrote to are all the same one.
    memory.pages_mut().fill(1);
    Ok(reading_rate(memory.bytes()))
}

/// Experts that are read and worked with for [`work_rates`]: more than caches hold.
const TRIED_BYTES: usize = 192 << 20;

/// Reads some experts of the thinker as a run does, and has each of them work on one row a few times. None where there is no
/// expert to read, or one cannot be read.
pub fn work_rates(source: &Arc<dyn WeightSource>) -> Option<WorkRates> {
    let (shape, _) = Thinker::sizes(&**source).ok()?;
    let reader = DirectReader::new(Arc::clone(source));
    let (mut experts, mut bytes, mut reading) = (Vec::new(), 0, Duration::ZERO);
    for key in scattered(&**source) {
        let record = reader.find(key).ok()?;
        let mut memory = Mapped::new(record.len_bytes).ok()?;
        // What touching the pages takes is no part of reading: a run reads into memory that it has.
        memory.pages_mut().fill(1);
        // What stands before a record is compared once in a run.
        source.check_expert(&record).ok()?;
        let start = Instant::now();
        let read = reader.read(ReadPurpose::Other, key, &record, &mut memory);
        reading += start.elapsed();
        read.ok()?;
        bytes += record.len_bytes;
        experts.push(LoadedExpert::new(ExpertMemory::Slot(memory), &record));
        if bytes >= TRIED_BYTES {
            break;
        }
    }
    if experts.is_empty() {
        return None;
    }
    let pass = median(|| pass_seconds(&experts, shape))?;
    drop(experts);
    let head = Thinker::head(&**source).ok()?;
    let mut scratch = Vec::new();
    let head_seconds = median(|| {
        let start = Instant::now();
        let logits = head.product(&vec![0.5; head.cols()], &mut scratch);
        (!logits.is_empty()).then(|| start.elapsed().as_secs_f64())
    })?;
    let head_bytes = head
        .view()
        .format()
        .matrix_bytes(head.rows(), head.cols())?;
    drop(head);
    Some(WorkRates {
        read: bytes as f64 / reading.as_secs_f64(),
        experts: bytes as f64 / pass,
        resident: head_bytes as f64 / head_seconds,
        memory: memory_rate().ok()?,
    })
}

/// Of several measurements: other processes disturb one or the other.
fn median(mut measure: impl FnMut() -> Option<f64>) -> Option<f64> {
    const TIMES: usize = 9;
    let all = (0..TIMES).map(|_| measure());
    let mut all: Vec<f64> = all.collect::<Option<_>>()?;
    all.sort_by(f64::total_cmp);
    all.get(TIMES / 2).copied()
}

/// Seconds in which each expert works on one row, one after another.
fn pass_seconds(experts: &[LoadedExpert], shape: ExpertShape) -> Option<f64> {
    let (x, mut out) = (vec![0.5; shape.hidden], vec![0.0; shape.hidden]);
    let mut scratch = ExpertScratch::default();
    let start = Instant::now();
    for expert in experts {
        let gated = Gated::of_record(expert.bytes(), shape, expert.formats())?;
        gated.apply(&x, 1, &mut out, &mut scratch);
    }
    Some(start.elapsed().as_secs_f64())
}

/// Experts of the thinker, from all over the model.
fn scattered(source: &dyn WeightSource) -> impl Iterator<Item = ExpertKey> {
    let text = &source.config().thinker.text;
    let layers: Vec<u16> = text.sparse_layers().map(|layer| layer as u16).collect();
    let experts = text.num_experts;
    let key = move |number: usize| {
        // A stride that shares no factor with a power of two visits all of them, far from one another.
        let at = number * 6_700_417 % (layers.len() * experts).max(1);
        ExpertKey {
            layer: LayerKey {
                module: Module::Thinker,
                layer: layers[at / experts],
            },
            expert: (at % experts) as u16,
        }
    };
    (0..text.sparse_layers().count() * experts).map(key)
}

/// Every expert of the thinker that there is.
fn records(source: &dyn WeightSource) -> Vec<ExpertLocation> {
    let text = &source.config().thinker.text;
    let layers = text.sparse_layers();
    let keys = layers.flat_map(|layer| (0..text.num_experts).map(move |expert| (layer, expert)));
    keys.filter_map(|(layer, expert)| source.expert(Component::Thinker, layer, expert).ok())
        .collect()
}

/// Bytes that were read; none on an error.
fn read_record(record: &ExpertLocation) -> Option<u64> {
    let read = record.segments.iter().map(read_segment);
    read.sum::<std::io::Result<u64>>().ok()
}

fn read_segment(segment: &FileSegment) -> std::io::Result<u64> {
    let file = open_direct(&segment.path)?;
    let start = segment.offset / PAGE_BYTES as u64 * PAGE_BYTES as u64;
    let wanted = (segment.offset - start) as usize + segment.len_bytes;
    let mut memory = Mapped::new(round_up_to_page(wanted))?;
    let mut read = 0;
    read_exactly(&file, memory.pages_mut(), start, wanted, &mut read)?;
    Ok(read as u64)
}
