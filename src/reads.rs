//! What is read from disk, counted where the bytes arrive, by what they are wanted for.
//!
//! Every source of weights has one [`ReadCounter`]; whoever reads says for what. It counts what the files gave, padding to
//! whole pages included: with direct reads, or a cold page cache, the total is what the kernel says that this process had
//! fetched. What a read costs depends on the moment (a prefetch may be cancelled before it begins), so no decision may
//! ask for any of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::input::human_bytes;

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPurpose {
    /// An expert that a step waits for.
    Demand,
    /// An expert that a step may want, also where one did later. It counts once it has begun.
    Prefetch,
    /// An expert of a shadow run, which nobody waits for.
    Shadow,
    /// A piece of the audio or the vision tower.
    Towers,
    /// Everything else: weights that stay, configuration, tokenizer, headers, manifest.
    Other,
}

/// Bytes that were read, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBytes {
    /// Experts that a step waited for.
    pub demand: u64,
    /// Experts that were read ahead.
    pub prefetch: u64,
    /// Experts of shadow runs.
    pub shadow: u64,
    /// Towers.
    pub towers: u64,
    /// Everything else.
    pub other: u64,
    /// Bytes of all kinds together.
    pub total: u64,
}

impl ReadBytes {
    /// What was read after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            demand: self.demand - before.demand,
            prefetch: self.prefetch - before.prefetch,
            shadow: self.shadow - before.shadow,
            towers: self.towers - before.towers,
            other: self.other - before.other,
            total: self.total - before.total,
        }
    }
}

/// `250.00 MiB (demand 130.00 MiB, shadow 120.00 MiB)`: parts that are nothing are left out.
impl fmt::Display for ReadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", human_bytes(self.total))?;
        let parts = [
            ("demand", self.demand),
            ("prefetch", self.prefetch),
            ("shadow", self.shadow),
            ("towers", self.towers),
            ("other", self.other),
        ];
        let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
        let parts: Vec<String> = parts
            .map(|(name, bytes)| format!("{name} {}", human_bytes(*bytes)))
            .collect();
        if parts.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", parts.join(", "))
    }
}

/// Counts for one source of weights, from any thread.
#[derive(Debug, Default)]
pub struct ReadCounter {
    bytes: [AtomicU64; 5],
}

impl ReadCounter {
    /// So many bytes came.
    pub fn add(&self, purpose: ReadPurpose, bytes: u64) {
        // A sum that nothing is ordered by.
        self.bytes[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// What came so far.
    pub fn bytes(&self) -> ReadBytes {
        let of = |purpose: ReadPurpose| self.bytes[purpose as usize].load(Ordering::Relaxed);
        let (demand, prefetch) = (of(ReadPurpose::Demand), of(ReadPurpose::Prefetch));
        let (shadow, towers) = (of(ReadPurpose::Shadow), of(ReadPurpose::Towers));
        let other = of(ReadPurpose::Other);
        ReadBytes {
            demand,
            prefetch,
            shadow,
            towers,
            other,
            total: demand + prefetch + shadow + towers + other,
        }
    }
}

/// Bytes that storage delivered for this process, as the kernel counts them: nothing of what was in the page cache already. None
/// where the system does not say.
pub fn kernel_read_bytes() -> Option<u64> {
    read_bytes_of(&std::fs::read_to_string("/proc/self/io").ok()?)
}

fn read_bytes_of(io: &str) -> Option<u64> {
    let count = io
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_are_named() {
        let counter = ReadCounter::default();
        assert_eq!(counter.bytes().to_string(), "0 B");
        counter.add(ReadPurpose::Demand, 2 << 20);
        counter.add(ReadPurpose::Other, 100);
        let before = counter.bytes();
        let all = [
            ReadPurpose::Demand,
            ReadPurpose::Prefetch,
            ReadPurpose::Shadow,
            ReadPurpose::Towers,
            ReadPurpose::Other,
        ];
        for (at, purpose) in all.into_iter().enumerate() {
            counter.add(purpose, 1 << at);
        }
        let since = counter.bytes().since(before);
        let parts = [
            since.demand,
            since.prefetch,
            since.shadow,
            since.towers,
            since.other,
        ];
        assert_eq!(parts, [1, 2, 4, 8, 16]);
        assert_eq!(since.total, 31);
        assert_eq!(
            before.to_string(),
            "2.00 MiB (demand 2.00 MiB, other 100 B)"
        );
    }

    #[test]
    fn the_kernel_is_read_by_name_and_may_be_silent() {
        let said = "rchar: 7\nwchar: 1\nread_bytes: 4096\nwrite_bytes: 2\n";
        assert_eq!(read_bytes_of(said), Some(4096));
        assert_eq!(read_bytes_of(""), None);
        assert_eq!(read_bytes_of("read_bytes: many\n"), None);
    }
}
