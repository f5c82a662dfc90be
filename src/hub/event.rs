//! What a pull tells on its way.

use std::time::Duration;

/// What a pull tells on its way.
#[derive(Clone, Copy, Debug)]
pub enum PullEvent<'a> {
    /// The header of a shard is there.
    Header {
        /// Headers so far.
        number: usize,
        /// Shards.
        of: usize,
    },
    /// A shard begins.
    Shard {
        /// Its name.
        name: &'a str,
        /// In the order of fetching, from 1.
        number: usize,
        /// Shards of which anything is fetched.
        of: usize,
    },
    /// So many bytes more are there.
    Fetched(u64),
    /// An attempt failed, and the next one waited.
    Waited {
        /// Why it failed.
        reason: &'a str,
        /// For how long.
        wait: Duration,
    },
    /// Records are written from what is there.
    Extracting {
        /// How many.
        records: usize,
    },
}

/// Hears of a pull, from several threads.
pub type PullListener<'a> = &'a (dyn Fn(PullEvent<'_>) + Sync);
