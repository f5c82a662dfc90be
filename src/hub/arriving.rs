//! A shard on its way to the disk: written, hashed, and noted how far it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::HubError;
use super::download::Receiver;
use super::event::{PullEvent, PullListener};
use super::plan::PlannedShard;
use super::progress::ShardProgress;
use super::staging::Staging;

/// How far a shard is, is written down whenever so much has come.
const NOTED_BYTES: u64 = 64 << 20;

/// A shard on its way to the disk.
pub(super) struct Arriving<'a> {
    pub file: &'a File,
    pub shard: &'a PlannedShard,
    pub staging: &'a Staging,
    pub listener: PullListener<'a>,
    /// Where the next byte belongs.
    pub at: u64,
    /// Bytes that came since it was last written down how far it is.
    pub noted: u64,
    pub progress: ShardProgress,
    pub sum: Option<Sha256>,
}

impl Arriving<'_> {
    /// Hashes what an earlier run left.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn take_up(&mut self) -> Result<(), HubError> {
        let Some(sum) = &mut self.sum else {
            return Ok(());
        };
        // Whole shards are one range.
        let there_bytes = match self.progress.ranges {
            0 => self.progress.bytes,
            _ => self.shard.file_bytes,
        };
        let (mut piece, mut at) = (vec![0; 4 << 20], 0);
        while at < there_bytes {
            let bytes = (there_bytes - at).min(piece.len() as u64) as usize;
            let read = self.file.read_exact_at(&mut piece[..bytes], at);
            read.map_err(HubError::io(
                "read",
                &self.staging.shards().join(&self.shard.name),
            ))?;
            sum.update(&piece[..bytes]);
            at += bytes as u64;
        }
        Ok(())
    }

    /// A range is there.
    ///
    /// # Errors
    /// If that cannot be noted.
    pub fn range_done(&mut self) -> Result<(), HubError> {
        self.progress.ranges += 1;
        self.progress.bytes = 0;
        self.note()
    }

    /// Notes how far it is, once that is on disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self) -> Result<(), HubError> {
        let path = self.staging.shards().join(&self.shard.name);
        self.file.sync_data().map_err(HubError::io("sync", &path))?;
        self.noted = 0;
        self.staging.note(&self.shard.name, self.progress)
    }
}

impl Receiver for Arriving<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        let path = || self.staging.shards().join(&self.shard.name);
        self.file
            .write_all_at(bytes, self.at)
            .map_err(|error| HubError::io("write", &path())(error))?;
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        let came = bytes.len() as u64;
        self.at += came;
        self.noted += came;
        self.progress.bytes += came;
        (self.listener)(PullEvent::Fetched(came));
        match self.noted >= NOTED_BYTES {
            true => self.note(),
            false => Ok(()),
        }
    }

    fn waited(&mut self, reason: &str, wait: Duration) {
        (self.listener)(PullEvent::Waited { reason, wait });
    }
}

/// As sums are written.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
