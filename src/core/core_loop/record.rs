//! Recording: the mind's exchanges are heard by the tape itself; the loop adds what comes in and what goes out.

use std::sync::Arc;

use super::conductor::CoreLoop;
use super::observation::Observation;
use crate::core::EngineError;
use crate::events::Event;
use crate::trace::{Tape, TraceRecord};

/// A record's value. What the loop says can always be written.
fn value(of: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// An event as the tape's version of the format has it: before version 3 no event named its request.
fn written(tape: &Tape, event: &Event) -> serde_json::Value {
    let mut written = value(event);
    if tape.schema() < 3
        && let Some(fields) = written.as_object_mut()
    {
        fields.shift_remove("request");
    }
    written
}

/// Records an event, unless the mind's exchanges say it already.
pub(super) fn event(tape: &Tape, event: &Event) {
    if event.kind.is_recorded() {
        tape.put(&TraceRecord::Event {
            event: written(tape, event),
        });
    }
}

impl CoreLoop {
    /// Records everything from now on. Call before the first tick, and before anything is submitted.
    pub fn record(&mut self, tape: Tape) {
        self.engine.mind.watch(Arc::new(tape.clone()));
        self.outside.tape = Some(tape);
    }

    /// Whether the run is recorded: then everything that changes it has to be an observation.
    pub fn is_recorded(&self) -> bool {
        self.outside.tape.is_some()
    }

    /// Records what a host did before anything reached the loop; a replay passes over it.
    pub fn record_host(&self, event: &Event) {
        if let Some(tape) = &self.outside.tape {
            tape.put(&TraceRecord::Host {
                event: value(event),
            });
        }
    }

    /// Ends the recording: the run came to its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_recording(&mut self) -> Result<(), EngineError> {
        let Some(tape) = self.outside.tape.take() else {
            return Ok(());
        };
        tape.put(&TraceRecord::End {
            tick: self.engine.tick(),
        });
        Ok(tape.check()?)
    }

    pub(super) fn record_input(&self, id: u64, observation: &Observation) {
        let Some(tape) = &self.outside.tape else {
            return;
        };
        for medium in observation.media() {
            tape.keep(medium);
        }
        tape.put(&TraceRecord::Input {
            tick: self.engine.tick(),
            id,
            observation: value(observation),
        });
    }
}
