//! What is read from disk, counted where the bytes arrive, by what they are wanted for.
//!
//! Every source of weights has one [`ReadCounter`]; whoever reads says for what. It counts what the files gave, padding to
//! whole pages included: with direct reads, or a cold page cache, the total is what the kernel says that this process had
//! fetched. What a read costs depends on the moment (a prefetch may be cancelled before it begins), so no decision may
//! ask for any of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

impl std::ops::Add for ReadBytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            demand: self.demand + other.demand,
            prefetch: self.prefetch + other.prefetch,
            shadow: self.shadow + other.shadow,
            towers: self.towers + other.towers,
            other: self.other + other.other,
            total: self.total + other.total,
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
    experts: Mutex<UnderWay>,
}

/// Reads of experts that have begun and not ended.
#[derive(Debug, Default)]
struct UnderWay {
    reads: u32,
    /// When the first of them began.
    since: Option<Instant>,
    /// How long there was at least one, up to the last moment without any.
    busy: Duration,
}

/// A read of an expert; it ends where this is dropped.
#[must_use = "the read ends where this is dropped"]
#[derive(Debug)]
pub struct ExpertReadUnderWay<'a>(&'a ReadCounter);

impl Drop for ExpertReadUnderWay<'_> {
    fn drop(&mut self) {
        let mut experts = self.0.experts();
        experts.reads = experts.reads.saturating_sub(1);
        if experts.reads == 0
            && let Some(since) = experts.since.take()
        {
            experts.busy += since.elapsed();
        }
    }
}

impl ReadCounter {
    /// So many bytes came.
    pub fn add(&self, purpose: ReadPurpose, bytes: u64) {
        // A sum that nothing is ordered by.
        self.bytes[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// A read of an expert begins. Any number may be under way at one time, from any thread.
    pub fn begin_expert(&self) -> ExpertReadUnderWay<'_> {
        let mut experts = self.experts();
        experts.reads += 1;
        experts.since.get_or_insert_with(Instant::now);
        ExpertReadUnderWay(self)
    }

    /// How long at least one read of an expert was under way so far: two at one time count once.
    pub fn experts_busy(&self) -> Duration {
        let experts = self.experts();
        let now = experts.since.map(|since| since.elapsed());
        experts.busy + now.unwrap_or_default()
    }

    fn experts(&self) -> MutexGuard<'_, UnderWay> {
        // Every change is complete before the lock is let go.
        self.experts.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn reads_at_one_time_are_busy_once() {
        let pause = Duration::from_millis(5);
        let counter = ReadCounter::default();
        assert_eq!(counter.experts_busy(), Duration::ZERO);
        let began = Instant::now();
        let first = counter.begin_expert();
        let second = counter.begin_expert();
        std::thread::sleep(pause);
        drop(first);
        let half = counter.experts_busy();
        assert!(half >= pause, "{half:?} with one still under way");
        std::thread::sleep(pause);
        drop(second);
        let (busy, all) = (counter.experts_busy(), began.elapsed());
        assert!(busy >= 2 * pause && busy <= all, "{busy:?} of {all:?}");
        std::thread::sleep(pause);
        assert_eq!(counter.experts_busy(), busy, "nothing is under way");
    }

    #[test]
    fn the_kernel_is_read_by_name_and_may_be_silent() {
        let said = "rchar: 7\nwchar: 1\nread_bytes: 4096\nwrite_bytes: 2\n";
        assert_eq!(read_bytes_of(said), Some(4096));
        assert_eq!(read_bytes_of(""), None);
        assert_eq!(read_bytes_of("read_bytes: many\n"), None);
    }
}
