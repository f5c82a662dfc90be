//! What is fetched in which order, what can be extracted after each shard, and how much disk that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Listing;
use crate::checkpoint::Checkpoint;
use crate::store::{Extraction, fingerprint_reads};

/// Two ranges with less than this between them are fetched in one request.
const GAP_BYTES: u64 = 1 << 20;

/// A shard of which so much is needed is fetched whole, because only then its sum can be compared.
const WHOLE_SHARE: f64 = 0.95;

/// A shard, and what is fetched of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedShard {
    /// File name.
    pub name: String,
    /// Length.
    pub file_bytes: u64,
    /// What is fetched, ascending; the whole file, or parts of it.
    pub ranges: Vec<Range<u64>>,
    /// What stays when the rest is given back, once what can be was written: its header, what the model's fingerprint
    /// samples, and what records need that wait for other shards.
    pub(super) kept: Vec<Range<u64>>,
    /// The sum that the hub lists; none where parts are fetched, which cannot be compared with anything.
    pub sha256: Option<String>,
}

impl PlannedShard {
    /// Bytes that are fetched.
    pub fn fetched_bytes(&self) -> u64 {
        length(&self.ranges)
    }
}

/// Everything that a pull does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullPlan {
    /// Shards of which anything is needed, in the order of fetching.
    pub shards: Vec<PlannedShard>,
    /// Files of the store that can be written once that many shards are there: as long as `shards`.
    pub(super) steps: Vec<BTreeSet<String>>,
    /// Bytes of all records.
    pub store_bytes: u64,
    /// Bytes of store and shards at one time, at most.
    pub most_disk_bytes: u64,
}

impl PullPlan {
    /// Bytes that are fetched.
    pub fn fetched_bytes(&self) -> u64 {
        self.shards.iter().map(PlannedShard::fetched_bytes).sum()
    }

    /// Whether the sum of everything that is fetched can be compared with what the hub lists.
    pub fn is_verifiable(&self) -> bool {
        self.shards.iter().all(|shard| shard.sha256.is_some())
    }

    /// A plan for an extraction from a checkpoint of which only the headers are there. `headers`: the end of each by shard.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        extraction: &Extraction<'_>,
        headers: &BTreeMap<String, u64>,
        listing: &Listing,
    ) -> Self {
        let files: Vec<(&str, u64)> = checkpoint.shards().collect();
        let (mut needed, mut kept) = (vec![Vec::new(); files.len()], vec![Vec::new(); files.len()]);
        let records = extraction.reads();
        for part in fingerprint_reads(checkpoint) {
            needed[part.shard].push(part.bytes.clone());
            kept[part.shard].push(part.bytes);
        }
        for record in records.values() {
            // A record is written when the last of its shards is there.
            let last = record.parts.iter().map(|part| part.shard).max();
            for part in &record.parts {
                needed[part.shard].push(part.bytes.clone());
                if Some(part.shard) != last {
                    kept[part.shard].push(part.bytes.clone());
                }
            }
        }
        let (mut order, mut shards) = (BTreeMap::new(), Vec::new());
        for (at, (name, file_bytes)) in files.into_iter().enumerate() {
            let needed = merged(std::mem::take(&mut needed[at]), GAP_BYTES);
            if needed.is_empty() {
                continue;
            }
            let bytes: u64 = length(&needed);
            let header = 0..headers.get(name).copied().unwrap_or(0);
            let is_whole = (bytes + header.end) as f64 >= WHOLE_SHARE * file_bytes as f64;
            kept[at].push(header);
            order.insert(at, shards.len());
            shards.push(PlannedShard {
                name: name.to_owned(),
                file_bytes,
                ranges: match is_whole {
                    true => single(0..file_bytes),
                    false => needed,
                },
                kept: merged(std::mem::take(&mut kept[at]), 0),
                sha256: listing
                    .file(name)
                    .filter(|_| is_whole)
                    .and_then(|file| file.sha256.clone()),
            });
        }
        let mut steps = vec![BTreeSet::new(); shards.len()];
        let mut written = vec![0; shards.len()];
        for (file, record) in records {
            let last = record.parts.iter().map(|part| order[&part.shard]).max();
            let last = last.unwrap_or(0);
            if let Some(step) = steps.get_mut(last) {
                written[last] += record.file_bytes;
                step.insert(file);
            }
        }
        let most_disk_bytes = most_disk_bytes(&shards, &written);
        Self {
            shards,
            steps,
            store_bytes: written.iter().sum(),
            most_disk_bytes,
        }
    }
}

fn single(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

fn length(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// Ascending, without overlap, and with what lies closer than `gap_bytes` in one piece.
fn merged(mut ranges: Vec<Range<u64>>, gap_bytes: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap_bytes) => {
                last.end = last.end.max(range.end);
            }
            _ => all.push(range),
        }
    }
    all
}

/// `written`: bytes of the store that each step adds.
fn most_disk_bytes(shards: &[PlannedShard], written: &[u64]) -> u64 {
    let (mut disk, mut most) = (0, 0);
    for (shard, written) in shards.iter().zip(written) {
        let (fetched, kept) = (shard.fetched_bytes(), length(&shard.kept));
        // What stays is copied before the rest goes.
        most = most.max(disk + fetched + written + kept);
        disk += written + kept;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_where_they_nearly_touch() {
        assert_eq!(
            merged(vec![10..20, 0..5, 18..30, 7..7, 40..41], 5),
            [0..30, 40..41]
        );
        assert_eq!(merged(vec![10..20, 0..5], 4), [0..5, 10..20]);
    }

    #[test]
    fn a_shard_leaves_only_what_is_still_needed() {
        let shard = |bytes, kept| PlannedShard {
            name: String::new(),
            file_bytes: bytes,
            ranges: single(0..bytes),
            kept: single(0..kept),
            sha256: None,
        };
        // 100 fetched, 30 written, 10 copied; then 10 and 30 stay, and 200, 60 and 5 come.
        let shards = [shard(100, 10), shard(200, 5)];
        assert_eq!(most_disk_bytes(&shards, &[30, 60]), 305);
        assert_eq!(most_disk_bytes(&shards[..1], &[30]), 140);
    }
}
