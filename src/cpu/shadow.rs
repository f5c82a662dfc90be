//! Experts of shadow runs: read straight into slots of their own, of which no residency hears.

use std::collections::BTreeMap;
use std::sync::Arc;

use sage_actors::protocol::{ExpertKey, Module};

use super::arena::RecordReader;
use super::direct::DirectReader;
use super::experts::{run_expert, shape_of};
use super::loaded::{ExpertMemory, LoadedExpert};
use crate::core::ports::{ExpertOutput, HiddenRows, HostError, HostFuture, ShadowExperts};
use crate::host_memory::Mapped;
use crate::model::experts::{ExpertScratch, ExpertShape};
use crate::reads::ReadPurpose;
use crate::spans;
use crate::store::WeightSource;

/// Slots beside the mind's.
pub(super) struct LocalShadow {
    reader: DirectReader,
    shapes: BTreeMap<Module, ExpertShape>,
    slots: BTreeMap<ExpertKey, LoadedExpert>,
    most_slots: usize,
    scratch: ExpertScratch,
    bytes_read: u64,
}

impl LocalShadow {
    pub fn new(
        source: Arc<dyn WeightSource>,
        shapes: BTreeMap<Module, ExpertShape>,
        slots: usize,
    ) -> Self {
        Self {
            reader: DirectReader::new(source),
            shapes,
            slots: BTreeMap::new(),
            most_slots: slots.max(1),
            scratch: ExpertScratch::default(),
            bytes_read: 0,
        }
    }

    fn run(
        &mut self,
        key: ExpertKey,
        rows: &[usize],
        x: &dyn HiddenRows,
    ) -> Result<ExpertOutput, HostError> {
        let memory = match self.slots.remove(&key) {
            Some(memory) => memory,
            None => self.read(key)?,
        };
        let shape = shape_of(&self.shapes, key)?;
        let output = run_expert(shape, key, &memory, rows, &x.read()?, &mut self.scratch);
        self.slots.insert(key, memory);
        output
    }

    /// Reads an expert into a slot that is free, or is made so.
    fn read(&mut self, key: ExpertKey) -> Result<LoadedExpert, HostError> {
        let record = self.reader.find(key)?;
        let bytes = record.len_bytes;
        let _span = spans::read(key, ReadPurpose::Shadow, Some(bytes)).entered();
        // Layers run in a cycle: whatever leaves is not the one that is needed next, and any other order is no better.
        let freed = match self.slots.len() < self.most_slots {
            true => None,
            false => self.slots.pop_first(),
        };
        let freed = freed.filter(|(_, expert)| expert.bytes().len() == bytes);
        let mut memory = match freed.and_then(|(_, expert)| expert.into_memory()) {
            Some(memory) => memory,
            None => Mapped::in_huge_pages(bytes).map_err(no_memory)?,
        };
        self.reader
            .read(ReadPurpose::Shadow, key, &record, &mut memory)?;
        self.bytes_read += bytes as u64;
        Ok(LoadedExpert::new(ExpertMemory::Slot(memory), &record))
    }
}

fn no_memory(source: std::io::Error) -> HostError {
    HostError::System {
        what: "no memory for shadow runs",
        source,
    }
}

impl ShadowExperts for LocalShadow {
    fn work<'a>(
        &'a mut self,
        key: ExpertKey,
        rows: &'a [usize],
        x: &'a dyn HiddenRows,
    ) -> HostFuture<'a, ExpertOutput> {
        Box::pin(async move { self.run(key, rows, x) })
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}
