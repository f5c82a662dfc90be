//! Routed experts in slots of this machine's memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use sage_actors::protocol::{ExpertKey, ExpertSource, LayerKey, Module};

use super::arena::{RecordReader, SlotArena};
use super::direct::DirectReader;
use super::experts::{run_expert, shape_of};
use super::loaded::LoadedExpert;
use super::mapped::MappedReader;
use super::scratch::ScratchPool;
use super::shadow::LocalShadow;
use crate::core::ports::{
    ExpertHost, ExpertOutput, ExpertTask, HiddenRows, HostError, HostFuture, HostUsage,
    ShadowExperts,
};
use crate::model::experts::{ExpertScratch, ExpertShape};
use crate::spans;
use crate::store::WeightSource;

/// How experts come from disk. The bits of a result do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpertIo {
    /// Into slots of this process, past the page cache.
    #[default]
    Direct,
    /// They stay in the page cache, and are read through a mapping of their files: an instrument, to compare with. It takes a store,
    /// for a checkpoint's experts lie in pieces; they are read into slots.
    Mapped,
}

/// Slots of this process, filled from the store or checkpoint by reading threads.
pub struct LocalHost {
    source: Arc<dyn WeightSource>,
    arena: Arc<SlotArena>,
    shapes: BTreeMap<Module, ExpertShape>,
    scratch: ScratchPool,
}

impl LocalHost {
    /// Empty slots, and the threads that read into them; `shapes` says how each module's experts are stored.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn new(
        source: Arc<dyn WeightSource>,
        shapes: BTreeMap<Module, ExpertShape>,
        io: ExpertIo,
    ) -> Result<Self, HostError> {
        let reader: Arc<dyn RecordReader> = match io {
            ExpertIo::Direct => Arc::new(DirectReader::new(Arc::clone(&source))),
            ExpertIo::Mapped => Arc::new(MappedReader::new(Arc::clone(&source))),
        };
        let arena = SlotArena::new(reader).map_err(|source| HostError::System {
            what: "cannot start the reading threads",
            source,
        })?;
        Ok(Self {
            source,
            arena,
            shapes,
            scratch: ScratchPool::default(),
        })
    }

    /// Computes what is in memory while the rest is read.
    fn run(
        &self,
        layer: LayerKey,
        tasks: &[ExpertTask<'_>],
        x: &dyn HiddenRows,
    ) -> Result<Vec<ExpertOutput>, HostError> {
        let x = &*x.read()?;
        let key = |task: &ExpertTask<'_>| ExpertKey {
            layer,
            expert: task.leased.expert,
        };
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for task in tasks {
            if self.arena.is_ready(task.leased.slot) {
                ready.push((task, self.arena.wait(key(task), task.leased.slot)?));
            } else {
                waiting.push(task);
            }
        }
        let mut outputs = Vec::with_capacity(tasks.len());
        if !ready.is_empty() {
            let _span = spans::work(layer, ready.len()).entered();
            let run = ready
                .par_iter()
                .map_init(ExpertScratch::default, |scratch, (task, memory)| {
                    self.run_one(key(task), task, memory, x, scratch)
                });
            outputs.extend(run.collect::<Result<Vec<_>, _>>()?);
        }
        for task in waiting {
            let memory = self.arena.wait(key(task), task.leased.slot)?;
            let _span = spans::work(layer, 1).entered();
            let run =
                |scratch: &mut ExpertScratch| self.run_one(key(task), task, &memory, x, scratch);
            outputs.push(self.scratch.with(run)?);
        }
        Ok(outputs)
    }

    fn run_one(
        &self,
        key: ExpertKey,
        task: &ExpertTask<'_>,
        memory: &LoadedExpert,
        x: &[f32],
        scratch: &mut ExpertScratch,
    ) -> Result<ExpertOutput, HostError> {
        let shape = shape_of(&self.shapes, key)?;
        let mut output = run_expert(shape, key, memory, task.rows, x, scratch)?;
        output.read_in = self.arena.read_in(task.leased.slot);
        Ok(output)
    }
}

impl ExpertHost for LocalHost {
    fn name(&self) -> &str {
        "this machine"
    }

    fn source(&self) -> Arc<dyn ExpertSource> {
        Arc::clone(&self.arena) as Arc<dyn ExpertSource>
    }

    fn work<'a>(
        &'a self,
        layer: LayerKey,
        tasks: &'a [ExpertTask<'a>],
        x: &'a dyn HiddenRows,
    ) -> HostFuture<'a, Vec<ExpertOutput>> {
        Box::pin(async move { self.run(layer, tasks, x) })
    }

    fn shadow(&self, slots: usize) -> Result<Box<dyn ShadowExperts>, HostError> {
        let source = Arc::clone(&self.source);
        Ok(Box::new(LocalShadow::new(
            source,
            self.shapes.clone(),
            slots,
        )))
    }

    fn finish_reads(&self) {
        self.arena.finish_reads();
    }

    fn usage(&self) -> HostUsage {
        HostUsage {
            held_bytes: self.arena.mapped_bytes(),
            stall_time: self.arena.telemetry().stall_time,
        }
    }
}
