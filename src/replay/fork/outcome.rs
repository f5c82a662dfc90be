//! What came of a run from a tick on, as its records say it.

use std::collections::BTreeMap;

use sage_actors::protocol::{Cause, State, Tick};
use serde::Serialize;

use crate::trace::TraceRecord;

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForkAnswer {
    /// When it was complete.
    pub tick: Tick,
    /// What was asked.
    pub question: String,
    /// What was answered.
    pub text: String,
}

/// A state that was entered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ForkState {
    /// When.
    pub tick: Tick,
    /// Which.
    pub state: State,
    /// Why.
    pub cause: Cause,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ForkOutcome {
    /// By the number of what was asked.
    pub answers: BTreeMap<u64, ForkAnswer>,
    /// In their order.
    pub states: Vec<ForkState>,
    /// Experts that were not in memory when they were asked for.
    pub misses: u64,
    /// Their bytes.
    pub miss_bytes: u64,
    /// Router mass that was denied, summed over layers and tokens.
    pub denied_mass: f64,
    /// The tick of the last step.
    pub last_tick: Tick,
}

impl ForkOutcome {
    /// Adds what a record says.
    pub(super) fn add(&mut self, record: &TraceRecord) {
        match record {
            TraceRecord::Salience { asked, .. } => self.last_tick = asked.tick,
            TraceRecord::State { asked, answer } => {
                if let Some(change) = answer.transition {
                    self.states.push(ForkState {
                        tick: asked.tick,
                        state: change.to,
                        cause: change.cause,
                    });
                }
            }
            TraceRecord::Route { answer, .. } => {
                self.denied_mass += f64::from(answer.denied_mass);
            }
            TraceRecord::Lease {
                missed, miss_bytes, ..
            } => {
                self.misses += missed.len() as u64;
                self.miss_bytes += miss_bytes;
            }
            TraceRecord::Event { event } if event["type"] == "answer" => {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                let number = |key: &str| event[key].as_u64().unwrap_or_default();
                let answer = ForkAnswer {
                    tick: number("tick"),
                    question: text("question"),
                    text: text("text"),
                };
                self.answers.insert(number("id"), answer);
            }
            _ => {}
        }
    }
}
