//! Experts that stay in their files: the kernels read the page cache through a mapping, and nothing is copied.
//!
//! An instrument: with it `sage bench` measures what the system's page cache does in place of slots. The mind decides as it does
//! with slots and does not know of it; an expert that counts as resident may have left the page cache, and is fetched again by
//! whoever touches it. Nothing is checked but the record's header, as is usual where weights are mapped. A file that is cut short
//! while it is mapped ends the process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::Mmap;
use sage_actors::protocol::ExpertKey;

use super::arena::RecordReader;
use super::direct::{DirectReader, failed};
use super::loaded::MappedRecord;
use crate::core::ports::ExpertReadError;
use crate::host_memory::Mapped;
use crate::reads::ReadPurpose;
use crate::store::{ExpertLocation, FileSegment, WeightSource};

/// Maps records of a store, each file once, for as long as the reader lives.
pub(super) struct MappedReader {
    source: Arc<dyn WeightSource>,
    direct: DirectReader,
    files: Mutex<BTreeMap<Arc<Path>, Arc<Mmap>>>,
}

impl MappedReader {
    pub fn new(source: Arc<dyn WeightSource>) -> Self {
        Self {
            direct: DirectReader::new(Arc::clone(&source)),
            source,
            files: Mutex::default(),
        }
    }

    fn file(&self, path: &Arc<Path>) -> std::io::Result<Arc<Mmap>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = std::fs::File::open(path)?;
        // SAFETY: nobody writes to a store that is open; the bytes are only read, and any bytes are numbers.
        let map = Arc::new(unsafe { Mmap::map(&file)? });
        files.insert(Arc::clone(path), Arc::clone(&map));
        Ok(map)
    }

    /// Maps the one segment of a record. No page is fetched and none is asked for ahead: whoever touches a page fetches it and its
    /// neighbours, with as many reads at one time as there are threads. No advice was faster (docs/measurements.md).
    fn record(&self, segment: &FileSegment, len_bytes: usize) -> std::io::Result<MappedRecord> {
        let file = self.file(&segment.path)?;
        MappedRecord::new(file, segment.offset, len_bytes).ok_or_else(|| {
            std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file ends inside the record",
            )
        })
    }
}

impl RecordReader for MappedReader {
    fn find(&self, key: ExpertKey) -> Result<ExpertLocation, ExpertReadError> {
        self.direct.find(key)
    }

    fn read(
        &self,
        purpose: ReadPurpose,
        key: ExpertKey,
        record: &ExpertLocation,
        memory: &mut Mapped,
    ) -> Result<(), ExpertReadError> {
        self.direct.read(purpose, key, record, memory)
    }

    fn map(
        &self,
        key: ExpertKey,
        record: &ExpertLocation,
    ) -> Option<Result<MappedRecord, ExpertReadError>> {
        // The three pieces of a checkpoint's expert lie apart: they are read into one.
        let [segment] = &record.segments[..] else {
            return None;
        };
        let checked = self.source.check_expert(record);
        let mapped = checked.map_err(|error| error.to_string()).and_then(|()| {
            self.record(segment, record.len_bytes)
                .map_err(|error| format!("{}: {error}", segment.path.display()))
        });
        Some(mapped.map_err(|reason| failed(key, reason)))
    }
}
