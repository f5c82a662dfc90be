//! Reading shards past the page cache: an extraction reads every byte once, and caching 65 GiB costs more than reading
//! it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::StoreError;
use super::atomic::{BLOCK_BYTES, Blocks};
use crate::checkpoint::Checkpoint;

/// Whether a file is read past the page cache: not every file system can do that (tmpfs cannot).
///
/// # Errors
/// When it cannot be opened.
pub fn is_direct(path: &Path) -> std::io::Result<bool> {
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::DIRECT;
    match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads pieces of a checkpoint's shards; where a file system cannot read directly, through the page cache.
pub(super) struct UncachedReader<'a> {
    checkpoint: &'a Checkpoint,
    files: BTreeMap<usize, File>,
    /// Memory that is not in use; one for each thread that reads at the same time.
    spare: Mutex<Vec<Blocks>>,
}

impl<'a> UncachedReader<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Self {
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let open = |shard| {
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(direct)
                .open(checkpoint.shard_path(shard));
            Some((shard, file.ok()?))
        };
        let files = (0..checkpoint.shard_count()).filter_map(open).collect();
        Self {
            checkpoint,
            files,
            spare: Mutex::new(Vec::new()),
        }
    }

    /// Fills `piece` with what begins at `offset` of shard `shard`.
    pub(super) fn read(
        &self,
        shard: usize,
        offset: u64,
        piece: &mut [u8],
    ) -> Result<(), StoreError> {
        let lead = (offset % BLOCK_BYTES as u64) as usize;
        let span = lead + piece.len();
        if let Some(file) = self.files.get(&shard) {
            let spare = self
                .spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let blocks = span.div_ceil(BLOCK_BYTES);
            let mut blocks = spare
                .filter(|spare| spare.holds(blocks))
                .unwrap_or_else(|| Blocks::new(blocks));
            let read = read_span(file, offset - lead as u64, span, blocks.bytes());
            if read {
                piece.copy_from_slice(&blocks.bytes()[lead..span]);
            }
            self.spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(blocks);
            if read {
                return Ok(());
            }
        }
        // Also the way to a proper error message.
        Ok(self.checkpoint.read_at(shard, offset, piece)?)
    }
}

/// Reads at least `span` bytes from the aligned `offset`; whether it could.
fn read_span(file: &File, offset: u64, span: usize, buffer: &mut [u8]) -> bool {
    let wanted = span.next_multiple_of(BLOCK_BYTES);
    let mut done = 0;
    while done < span {
        match file.read_at(&mut buffer[done..wanted], offset + done as u64) {
            Ok(read) if read > 0 => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
    true
}
