//! The inputs that a recording has from the fork on, and what came of them when it was recorded.

use std::path::Path;

use sage_actors::protocol::Tick;
use serde::Serialize;
use serde_json::Value;

use super::change::ForkChange;
use super::outcome::ForkOutcome;
use crate::core::core_loop::{Heed, Observation};
use crate::replay::ReplayError;
use crate::replay::files::fill;
use crate::session::Session;
use crate::trace::{TraceReader, TraceRecord};

/// Beyond the recording's own end a fork may take this many ticks to answer what is open.
const OVERTIME_TICKS: Tick = 100_000;

/// An observation that does not happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DroppedInput {
    /// Its number.
    pub id: u64,
    /// When it came.
    pub tick: Tick,
    /// What it is.
    pub kind: &'static str,
    /// Where it came from.
    pub source: String,
}

/// One that comes.
struct Input {
    tick: Tick,
    id: u64,
    observation: Observation,
    dropped: bool,
}

/// Everything behind the fork.
pub(super) struct ForkInputs {
    inputs: Vec<Input>,
    /// The recording's last tick.
    end: Tick,
    /// What the recording says came of it.
    pub recorded: ForkOutcome,
}

/// A recorded observation, its files found beside the recording.
pub(super) fn input(trace: &Path, recorded: Value) -> Result<Observation, ReplayError> {
    let mut observation: Observation = serde_json::from_value(recorded)
        .map_err(|error| ReplayError::Lacks(format!("a recorded observation: {error}")))?;
    for medium in observation.media_mut() {
        fill(trace, medium)?;
    }
    Ok(observation)
}

impl ForkInputs {
    /// Reads a recording from the fork on.
    ///
    /// # Errors
    /// When it cannot be read, or lacks what is to be dropped.
    pub fn read(trace: &Path, change: &ForkChange) -> Result<Self, ReplayError> {
        let (mut reader, _) = TraceReader::open(trace)?;
        let (mut inputs, mut recorded) = (Vec::new(), ForkOutcome::default());
        let mut now: Tick = 0;
        let mut early = Vec::new();
        while let Some(line) = reader.next_line()? {
            let record = line.record().map_err(|error| {
                reader.problem(format!("{error}; expected an event of a recording"))
            })?;
            match record {
                TraceRecord::Salience { ref asked, .. } => now = asked.tick,
                TraceRecord::End { tick } | TraceRecord::Input { tick, .. } => now = now.max(tick),
                _ => {}
            }
            if let TraceRecord::Input {
                tick,
                id,
                observation,
            } = record
            {
                match tick < change.tick {
                    true => early.push((id, tick)),
                    false => inputs.push(Input {
                        tick,
                        id,
                        observation: input(trace, observation)?,
                        dropped: change.drop.contains(&id),
                    }),
                }
            } else if now >= change.tick {
                recorded.add(&record);
            }
        }
        for id in &change.drop {
            if let Some((_, tick)) = early.iter().find(|(early, _)| early == id) {
                return Err(ReplayError::Lacks(format!(
                    "--drop {id}: this observation comes at tick {tick}, before the fork: fork at {tick} or earlier"
                )));
            }
            if !inputs.iter().any(|input| input.id == *id) {
                let some: Vec<String> = inputs
                    .iter()
                    .take(8)
                    .map(|input| {
                        format!(
                            "{} ({}, tick {})",
                            input.id,
                            input.observation.kind(),
                            input.tick
                        )
                    })
                    .collect();
                return Err(ReplayError::Lacks(format!(
                    "--drop {id}: the recording has no such observation; from the fork on it has {}",
                    match some.is_empty() {
                        true => "none".to_owned(),
                        false => some.join(", "),
                    }
                )));
            }
        }
        Ok(Self {
            inputs,
            end: now,
            recorded,
        })
    }

    /// What does not happen.
    pub fn dropped(&self) -> Vec<DroppedInput> {
        let dropped = self.inputs.iter().filter(|input| input.dropped);
        dropped
            .map(|input| DroppedInput {
                id: input.id,
                tick: input.tick,
                kind: input.observation.kind(),
                source: input.observation.source().to_owned(),
            })
            .collect()
    }

    /// Who knows when something urgent comes.
    pub fn heed(&self) -> Box<dyn Heed> {
        let inputs = self.inputs.iter().filter(|input| !input.dropped);
        let urgent = inputs.filter(|input| input.observation.is_urgent());
        Box::new(Urgent(urgent.map(|input| input.tick).collect()))
    }

    /// Runs the inputs to their end; whether they came to it.
    ///
    /// # Errors
    /// Whatever stops the engine.
    pub async fn go_on(
        &self,
        session: &mut Session,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, ReplayError> {
        let mut inputs = self.inputs.iter().filter(|input| !input.dropped).peekable();
        loop {
            let tick = session.engine().tick();
            progress(tick);
            while let Some(input) = inputs.next_if(|input| input.tick <= tick) {
                session.submit_as(input.id, input.observation.clone());
            }
            if inputs.peek().is_none() && tick >= self.end && session.is_idle() {
                return Ok(true);
            }
            if tick > self.end + OVERTIME_TICKS {
                return Ok(false);
            }
            session.tick(&mut |event| event.emit()).await?;
        }
    }
}

/// When something urgent comes.
struct Urgent(Vec<Tick>);

impl Heed for Urgent {
    fn due(&self, tick: Tick) -> Option<Tick> {
        self.0.iter().copied().filter(|at| *at > tick).min()
    }

    fn waits(&self) -> bool {
        false
    }
}
