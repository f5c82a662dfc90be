//! What one event or setting changed: a recorded run again, up to a tick, and from there another way.
//!
//! Up to the tick every line must come again, byte for byte. From there the inputs that the recording has left come at their
//! recorded ticks, without those that are dropped and under the settings that are changed, and run to their end. The
//! recording itself says what came of it without the change, so one run is enough. A conversation's later turns are those
//! that were recorded: nobody reacts to an answer that was another one.

mod change;
mod inputs;
mod outcome;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sage_actors::protocol::Tick;
use serde::Serialize;

use super::ReplayError;
use super::comparison::ReplayComparison;
use super::full::{Way, open};
use crate::session::Session;
use crate::store::WeightSource;
use crate::trace::{Sink, Tape, TraceError, TraceReader, TraceRecord};

pub use change::ForkChange;
pub use inputs::DroppedInput;
use inputs::{ForkInputs, input};
pub use outcome::{ForkAnswer, ForkOutcome, ForkState};

/// Both ways from the fork on.
#[derive(Clone, Debug, Serialize)]
pub struct ForkReport {
    /// From this tick on.
    pub fork_tick: Tick,
    /// What did not happen in the other way.
    pub dropped: Vec<DroppedInput>,
    /// What was set, as it was given.
    pub set: Vec<String>,
    /// As it was recorded.
    pub recorded: ForkOutcome,
    /// The other way.
    pub forked: ForkOutcome,
    /// Whether the other way came to its end; else it was broken off after many ticks.
    pub whole: bool,
}

/// Runs the recording `trace` to `change.tick` and from there another way. Inside a tokio runtime.
///
/// # Errors
/// When the recording cannot be read, is of another model or does not come again up to the fork; an input that is not there,
/// or a setting that is none; and whatever stops the engine.
pub async fn fork(
    trace: &Path,
    source: Arc<dyn WeightSource>,
    change: &ForkChange,
    way: Way<'_>,
) -> Result<ForkReport, ReplayError> {
    let (reader, header) = TraceReader::open(trace)?;
    let mind = change.mind(&header.mind)?;
    let from_the_beginning = change.tick == 0;
    if !from_the_beginning && !header.mind.changes_only_numbers(&mind) {
        return Err(ReplayError::Lacks(format!(
            "{}: this is fixed when a model is opened; fork at tick 0 to change it, or change budgets, transitions, energy, \
             salience or memory",
            change.set.join(", ")
        )));
    }
    let inputs = ForkInputs::read(trace, change)?;
    let mut opened = header.clone();
    if from_the_beginning {
        opened.mind = mind.clone();
    }
    let Way {
        read_ahead,
        loading,
        progress,
    } = way;
    let mut session = open(trace, source, &opened, read_ahead, loading).await?;
    let shared = Shared::new(reader)?;
    let tape = Tape::of_schema(Box::new(shared.clone()), header.logits, header.schema);
    session.record(tape);
    let run = run(&mut session, &shared, trace, change, &inputs, progress).await;
    let run = match run {
        Ok(()) if !from_the_beginning && mind != header.mind => {
            let reconfigured = session.engine_mut().reconfigure(&mind).await;
            reconfigured.map_err(ReplayError::from)
        }
        run => run,
    };
    let whole = match run {
        Ok(()) => inputs.go_on(&mut session, progress).await,
        Err(error) => Err(error),
    };
    session.abort().await;
    Ok(ForkReport {
        fork_tick: change.tick,
        dropped: inputs.dropped(),
        set: change.set.clone(),
        recorded: inputs.recorded.clone(),
        forked: shared.outcome(),
        whole: whole?,
    })
}

/// The recorded run up to the fork.
async fn run(
    session: &mut Session,
    shared: &Shared,
    trace: &Path,
    change: &ForkChange,
    inputs: &ForkInputs,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ReplayError> {
    let comparison = &shared.comparison;
    session.heed(Box::new(comparison.clone()));
    while session.engine().tick() < change.tick {
        let Some(record) = comparison.next()? else {
            break;
        };
        match record {
            TraceRecord::End { .. } => break,
            TraceRecord::Host { .. } => comparison.pass(),
            TraceRecord::Input {
                id,
                observation,
                tick,
            } => {
                if tick >= change.tick {
                    break;
                }
                session.submit_as(id, input(trace, observation)?);
            }
            _ => {
                session.tick(&mut |event| event.emit()).await?;
                progress(session.engine().tick());
            }
        }
    }
    let (line, _, difference) = comparison.so_far();
    if let Some(difference) = difference {
        return Err(ReplayError::Lacks(format!(
            "the run does not come again: line {} differs, before the fork; see --verify",
            difference.line
        )));
    }
    let tick = session.engine().tick();
    if tick < change.tick {
        return Err(ReplayError::Lacks(format!(
            "the recording ends at tick {tick}, after {line} lines: fork at an earlier tick than {}",
            change.tick
        )));
    }
    session.heed(inputs.heed());
    shared.fork();
    Ok(())
}

/// What the tape writes to: the comparison up to the fork, then the outcome.
#[derive(Clone)]
struct Shared {
    comparison: ReplayComparison,
    forked: Arc<AtomicBool>,
    outcome: Arc<Mutex<ForkOutcome>>,
}

impl Shared {
    fn new(reader: TraceReader) -> Result<Self, TraceError> {
        Ok(Self {
            comparison: ReplayComparison::new(reader)?,
            forked: Arc::default(),
            outcome: Arc::default(),
        })
    }

    fn fork(&self) {
        self.forked.store(true, Ordering::Relaxed);
    }

    fn outcome(&self) -> ForkOutcome {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.clone()
    }
}

impl Sink for Shared {
    fn put(&mut self, record: &TraceRecord) {
        if self.forked.load(Ordering::Relaxed) {
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.add(record);
        } else {
            self.comparison.put(record);
        }
    }

    fn check(&mut self) -> Result<(), TraceError> {
        self.comparison.check()
    }
}
