//! An expert in memory.

use std::sync::Arc;

use memmap2::Mmap;

use crate::formats::GatedFormats;
use crate::host_memory::Mapped;
use crate::store::ExpertLocation;

/// An expert in memory: its record, and the formats that its matrices are in.
#[derive(Debug)]
pub struct LoadedExpert {
    memory: ExpertMemory,
    formats: GatedFormats,
}

/// Where the bytes of a record are.
#[derive(Debug)]
pub enum ExpertMemory {
    /// In memory of this process, which they were read into.
    Slot(Mapped),
    /// In the file itself, by way of the page cache.
    File(MappedRecord),
}

/// A record where it lies in its file.
#[derive(Debug)]
pub struct MappedRecord {
    file: Arc<Mmap>,
    at: usize,
    len_bytes: usize,
}

impl MappedRecord {
    /// `len_bytes` from `offset` on; none where the file ends before.
    pub(super) fn new(file: Arc<Mmap>, offset: u64, len_bytes: usize) -> Option<Self> {
        let at = usize::try_from(offset).ok()?;
        file.get(at..at.checked_add(len_bytes)?)?;
        Some(Self {
            file,
            at,
            len_bytes,
        })
    }

    /// Gate, up and down, one after the other.
    fn bytes(&self) -> &[u8] {
        // `new` has seen that the file is so long.
        &self.file[self.at..self.at + self.len_bytes]
    }
}

impl LoadedExpert {
    /// What was read, or mapped, of `record`.
    pub(crate) fn new(memory: ExpertMemory, record: &ExpertLocation) -> Self {
        Self {
            memory,
            formats: record.formats,
        }
    }

    /// Gate, up and down, one after the other, from a page's beginning on.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            ExpertMemory::Slot(memory) => memory.bytes(),
            ExpertMemory::File(record) => record.bytes(),
        }
    }

    /// How all three are stored.
    pub fn formats(&self) -> GatedFormats {
        self.formats
    }

    /// Bytes of this process's own memory that it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.memory().map_or(0, Mapped::mapped_bytes)
    }

    /// The memory of this process that it is in; none of a file.
    pub(crate) fn memory(&self) -> Option<&Mapped> {
        match &self.memory {
            ExpertMemory::Slot(memory) => Some(memory),
            ExpertMemory::File(_) => None,
        }
    }

    /// Moves the record into the memory, of its length, that `find` gives for its own; if it gives some.
    pub(crate) fn move_to(&mut self, find: impl FnOnce(&Mapped) -> Option<Mapped>) {
        if let ExpertMemory::Slot(memory) = &mut self.memory
            && let Some(mut other) = find(memory)
        {
            other.pages_mut().copy_from_slice(memory.pages_mut());
            *memory = other;
        }
    }

    /// The memory, to be read into again; none of a file.
    pub(crate) fn into_memory(self) -> Option<Mapped> {
        match self.memory {
            ExpertMemory::Slot(memory) => Some(memory),
            ExpertMemory::File(_) => None,
        }
    }
}
