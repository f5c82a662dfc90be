//! Reading one expert's record from disk into a slot, past the page cache.
//!
//! Page cache is charged to the same limit as the process, and a mapped or buffered read of an expert costs more
//! than a direct one; so records are read with O_DIRECT into page-aligned memory. A store's record begins at a page
//! and is read in one piece; a checkpoint's three matrices lie anywhere and pass through one bounce buffer.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use sage_actors::protocol::ExpertKey;

use super::arena::RecordReader;
use crate::checkpoint::Component;
use crate::core::ports::{ExpertReadError, component_name, component_of};
use crate::host_memory::Mapped;
use crate::host_memory::{PAGE_BYTES, round_up_to_page};
use crate::reads::ReadPurpose;
use crate::store::{ExpertLocation, FileSegment, WeightSource};

/// Reads records of a store or a checkpoint.
pub struct DirectReader {
    source: Arc<dyn WeightSource>,
    /// Of unaligned segments; grown to the largest and kept.
    bounce: Mutex<Option<Mapped>>,
    /// Shards of a checkpoint stay open; a store has a file an expert and opens it each time.
    shards: Mutex<BTreeMap<Arc<Path>, Arc<OwnedFd>>>,
}

impl DirectReader {
    /// A reader of `source`.
    pub fn new(source: Arc<dyn WeightSource>) -> Self {
        Self {
            source,
            bounce: Mutex::new(None),
            shards: Mutex::new(BTreeMap::new()),
        }
    }

    fn file(&self, segment: &FileSegment, keep: bool) -> std::io::Result<Arc<OwnedFd>> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = shards.get(&segment.path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open_direct(&segment.path)?);
        if keep {
            shards.insert(Arc::clone(&segment.path), Arc::clone(&file));
        }
        Ok(file)
    }

    fn read_segment(
        &self,
        purpose: ReadPurpose,
        segment: &FileSegment,
        keep: bool,
        memory: &mut Mapped,
    ) -> std::io::Result<()> {
        let file = self.file(segment, keep)?;
        let (offset, len, at) = (segment.offset, segment.len_bytes, segment.at);
        let end = at + round_up_to_page(len);
        if offset.is_multiple_of(PAGE_BYTES as u64)
            && at.is_multiple_of(PAGE_BYTES)
            && end <= memory.mapped_bytes()
        {
            let pages = &mut memory.pages_mut()[at..end];
            return self.read_pages(purpose, &file, pages, offset, len);
        }
        let start = offset / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let skip = (offset - start) as usize;
        let wanted = round_up_to_page(skip + len);
        let mut bounce = self.bounce.lock().unwrap_or_else(PoisonError::into_inner);
        if bounce
            .as_ref()
            .is_none_or(|bounce| bounce.mapped_bytes() < wanted)
        {
            *bounce = Some(Mapped::new(wanted)?);
        }
        let Some(bounce) = bounce.as_mut() else {
            return Err(std::io::Error::other("no bounce buffer"));
        };
        let pages = &mut bounce.pages_mut()[..wanted];
        self.read_pages(purpose, &file, pages, start, skip + len)?;
        memory.pages_mut()[at..at + len].copy_from_slice(&pages[skip..skip + len]);
        Ok(())
    }

    /// Reads at least `wanted` bytes into whole pages, and counts what came, whether or not it was enough.
    fn read_pages(
        &self,
        purpose: ReadPurpose,
        file: &OwnedFd,
        pages: &mut [u8],
        offset: u64,
        wanted: usize,
    ) -> std::io::Result<()> {
        let mut read = 0;
        let under_way = self.source.reads().begin_expert();
        let outcome = read_exactly(file, pages, offset, wanted, &mut read);
        drop(under_way);
        self.source.reads().add(purpose, read as u64);
        outcome
    }
}

impl RecordReader for DirectReader {
    fn find(&self, key: ExpertKey) -> Result<ExpertLocation, ExpertReadError> {
        let (component, layer, expert) = place(key);
        self.source
            .expert(component, layer, expert)
            .map_err(|error| failed(key, error.to_string()))
    }

    fn read(
        &self,
        purpose: ReadPurpose,
        key: ExpertKey,
        record: &ExpertLocation,
        memory: &mut Mapped,
    ) -> Result<(), ExpertReadError> {
        self.source
            .check_expert(record)
            .map_err(|error| failed(key, error.to_string()))?;
        let len = record.len_bytes;
        if memory.len() < len || record.segments.iter().any(|s| s.at + s.len_bytes > len) {
            return Err(failed(
                key,
                format!(
                    "its record of {len} bytes does not fit its slot of {}",
                    memory.len()
                ),
            ));
        }
        let keep = record.segments.len() > 1;
        for segment in &record.segments {
            self.read_segment(purpose, segment, keep, memory)
                .map_err(|error| failed(key, format!("{}: {error}", segment.path.display())))?;
        }
        match record.crc32 {
            Some(expected) => {
                let found = crc32fast::hash(&memory.bytes()[..len]);
                if found == expected {
                    return Ok(());
                }
                Err(failed(
                    key,
                    format!(
                        "CRC-32 is {found:08x}, expected {expected:08x}: the file is damaged; find the others with `sage extract --verify`, delete them and extract again"
                    ),
                ))
            }
            None => Ok(()),
        }
    }
}

/// The expert's component, layer and number in the checkpoint.
fn place(key: ExpertKey) -> (Component, usize, usize) {
    (
        component_of(key.layer.module),
        usize::from(key.layer.layer),
        usize::from(key.expert),
    )
}

pub(super) fn failed(key: ExpertKey, reason: String) -> ExpertReadError {
    ExpertReadError {
        key,
        component: component_name(key),
        reason,
    }
}

/// Opens for direct reads; where the file system has none (tmpfs), for ordinary ones.
pub(super) fn open_direct(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
        Ok(file) => Ok(file),
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::open(path, flags, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// Reads at least `wanted` bytes into whole pages; a file may end inside the last one. `done` says how many came.
pub(super) fn read_exactly(
    file: &OwnedFd,
    pages: &mut [u8],
    offset: u64,
    wanted: usize,
    done: &mut usize,
) -> std::io::Result<()> {
    while *done < wanted {
        let read = match rustix::io::pread(file, &mut pages[*done..], offset + *done as u64) {
            Ok(0) => {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("the file ends {} bytes early", wanted - *done),
                ));
            }
            Ok(read) => read,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        *done += read;
    }
    Ok(())
}
