//! A host of experts made of the public ports alone: threads that share nothing with the engine but messages.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test stops at the first thing that is wrong

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sage::checkpoint::{ExpertMatrix, expert_tensor_name};
use sage::core::ports::{
    ExpertHost, ExpertOutput, ExpertTask, HiddenRows, HostError, HostFuture, HostUsage, LostHost,
    PlainRows, ShadowExperts, component_of,
};
use sage::host_memory::Mapped;
use sage::model::experts::{ExpertScratch, ExpertShape, Gated};
use sage::model::{Talker, Thinker};
use sage::store::WeightSource;
use sage_actors::protocol::{ExpertKey, ExpertSource, LayerKey, Module, SlotId};

/// What the mind's cache said: which expert is in which slot.
#[derive(Default)]
struct Slots(Mutex<BTreeMap<u32, ExpertKey>>);

impl ExpertSource for Slots {
    fn admit(&self, key: ExpertKey, slot: SlotId, _: bool) {
        self.0.lock().unwrap().insert(slot.0, key);
    }
    fn promote(&self, _: SlotId) {}
    fn evict(&self, slot: SlotId) {
        self.0.lock().unwrap().remove(&slot.0);
    }
    fn settle(&self) {}
}

/// What goes wrong at one call; everything is well before and after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// The host says that it is gone.
    Lost,
    /// Whoever works ends without a word.
    Silent,
    /// One output is missing.
    Short,
}

/// The arithmetic of one expert, wherever its thread runs.
#[derive(Clone)]
struct Worker {
    source: Arc<dyn WeightSource>,
    shapes: BTreeMap<Module, ExpertShape>,
}

impl Worker {
    fn run(&self, key: ExpertKey, rows: &[usize], x: &[f32]) -> ExpertOutput {
        let shape = self.shapes[&key.layer.module];
        let (component, layer) = (component_of(key.layer.module), usize::from(key.layer.layer));
        let stored = self
            .source
            .expert(component, layer, usize::from(key.expert));
        let format = stored.expect("an expert").formats;
        let bytes = shape.bytes(format).expect("whole rows");
        let mut record = Mapped::new(bytes).expect("memory");
        let part_bytes = bytes / 3;
        for (at, part) in ExpertMatrix::ALL.into_iter().enumerate() {
            let component = component_of(key.layer.module);
            let (layer, expert) = (usize::from(key.layer.layer), usize::from(key.expert));
            let name = expert_tensor_name(component, layer, expert, part).expect("a name");
            let buffer = &mut record.pages_mut()[at * part_bytes..(at + 1) * part_bytes];
            self.source.read_tensor(&name, buffer).expect("an expert");
        }
        let expert = Gated::of_record(record.bytes(), shape, format).expect("a whole record");
        let row = |row: &usize| x[row * shape.hidden..(row + 1) * shape.hidden].to_vec();
        // Row by row: together they give the same.
        let out = rows.iter().map(|at| {
            let mut out = vec![0.0; shape.hidden];
            expert.apply(&row(at), 1, &mut out, &mut ExpertScratch::default());
            out
        });
        let values = out.collect::<Vec<_>>().concat();
        ExpertOutput {
            expert: key.expert,
            values: Box::new(PlainRows::new(values, shape.hidden)),
            read_in: None,
            ran_in: Duration::ZERO,
        }
    }
}

/// Threads that answer late and in the wrong order, and fail now and then; the host asks again.
pub struct Elsewhere {
    worker: Worker,
    slots: Arc<Slots>,
    calls: AtomicUsize,
    pub retries: AtomicUsize,
    trouble: Option<(usize, Trouble)>,
}

type Answer = Result<ExpertOutput, usize>;

impl Elsewhere {
    pub fn new(source: &Arc<dyn WeightSource>, trouble: Option<(usize, Trouble)>) -> Self {
        let mut shapes = BTreeMap::new();
        shapes.insert(Module::Thinker, Thinker::sizes(&**source).expect("sizes").0);
        if let Ok((shape, _)) = Talker::sizes(&**source) {
            shapes.insert(Module::Talker, shape);
        }
        Self {
            worker: Worker {
                source: Arc::clone(source),
                shapes,
            },
            slots: Arc::default(),
            calls: AtomicUsize::new(0),
            retries: AtomicUsize::new(0),
            trouble,
        }
    }

    fn lost(&self, key: ExpertKey, reason: &str) -> HostError {
        HostError::Lost(LostHost {
            host: self.name().to_owned(),
            key,
            reason: reason.to_owned(),
        })
    }

    /// Has a thread answer for task `at` of `count`: the first the last. Every fifth expert fails when it is first asked.
    fn send(
        &self,
        key: ExpertKey,
        (at, count): (usize, usize),
        (rows, x): (&[usize], &Arc<Vec<f32>>),
        again: bool,
        answers: &tokio::sync::mpsc::UnboundedSender<Answer>,
    ) {
        let (worker, answers) = (self.worker.clone(), answers.clone());
        let (rows, x) = (rows.to_vec(), Arc::clone(x));
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(100 * (count - at) as u64));
            let answer = match key.expert.is_multiple_of(5) && !again {
                true => Err(at),
                false => Ok(worker.run(key, &rows, &x)),
            };
            // Nobody listens any more where the host is lost.
            let _ = answers.send(answer);
        });
    }

    async fn answers(
        &self,
        layer: LayerKey,
        tasks: &[ExpertTask<'_>],
        x: &dyn HiddenRows,
    ) -> Result<Vec<ExpertOutput>, HostError> {
        let key = |task: &ExpertTask<'_>| ExpertKey {
            layer,
            expert: task.leased.expert,
        };
        for task in tasks {
            let held = self.slots.0.lock().unwrap();
            assert_eq!(held.get(&task.leased.slot.0), Some(&key(task)));
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let trouble = self.trouble.filter(|(at, _)| *at == call).map(|(_, t)| t);
        if trouble == Some(Trouble::Lost) {
            return Err(self.lost(key(&tasks[0]), "the line was cut"));
        }
        let x = Arc::new(x.read()?.into_owned());
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        if trouble != Some(Trouble::Silent) {
            for (at, task) in tasks.iter().enumerate() {
                let place = (at, tasks.len());
                self.send(key(task), place, (task.rows, &x), false, &send);
            }
        }
        let mut sender = Some(send).filter(|_| trouble != Some(Trouble::Silent));
        let mut outputs = Vec::new();
        while outputs.len() < tasks.len() {
            let answer = tokio::time::timeout(Duration::from_secs(20), receive.recv());
            let Ok(answer) = answer.await else {
                return Err(self.lost(key(&tasks[0]), "its deadline has passed"));
            };
            match answer {
                Some(Ok(output)) => outputs.push(output),
                Some(Err(at)) => {
                    self.retries.fetch_add(1, Ordering::SeqCst);
                    let send = sender.as_mut().expect("somebody to ask");
                    let task = &tasks[at];
                    self.send(key(task), (at, tasks.len()), (task.rows, &x), true, send);
                }
                None => return Err(self.lost(key(&tasks[0]), "it closed without an answer")),
            }
        }
        if trouble == Some(Trouble::Short) {
            outputs.pop();
        }
        Ok(outputs)
    }
}

impl ExpertHost for Elsewhere {
    fn name(&self) -> &str {
        "threads of a test"
    }

    fn source(&self) -> Arc<dyn ExpertSource> {
        Arc::clone(&self.slots) as Arc<dyn ExpertSource>
    }

    fn work<'a>(
        &'a self,
        layer: LayerKey,
        tasks: &'a [ExpertTask<'a>],
        x: &'a dyn HiddenRows,
    ) -> HostFuture<'a, Vec<ExpertOutput>> {
        Box::pin(self.answers(layer, tasks, x))
    }

    fn shadow(&self, _: usize) -> Result<Box<dyn ShadowExperts>, HostError> {
        Ok(Box::new(Again(self.worker.clone())))
    }

    fn finish_reads(&self) {}

    fn usage(&self) -> HostUsage {
        HostUsage::default()
    }
}

/// The same experts beside the mind's.
struct Again(Worker);

impl ShadowExperts for Again {
    fn work<'a>(
        &'a mut self,
        key: ExpertKey,
        rows: &'a [usize],
        x: &'a dyn HiddenRows,
    ) -> HostFuture<'a, ExpertOutput> {
        Box::pin(async move { Ok(self.0.run(key, rows, &x.read()?)) })
    }

    fn bytes_read(&self) -> u64 {
        0
    }
}
