//! How fast a disk delivers experts at most, whatever the mind and the arithmetic do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::direct::{open_direct, read_exactly};
use crate::checkpoint::Component;
use crate::host_memory::{Mapped, PAGE_BYTES, round_up_to_page};
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
