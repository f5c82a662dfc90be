//! What a report says; the keys of `report.json` are described in docs/report.md.

use std::collections::BTreeMap;

use sage_actors::protocol::{Cause, State, Tick};
use serde::Serialize;

use crate::events::Ended;
use crate::events::{DreamEvent, ExpertsEvent, LimitPeriod, ObservedMedium, RunMode};
use crate::reads::ReadBytes;

/// Version of the keys of `report.json`.
pub const VERSION: u32 = 1;

/// Which scenario ran.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioSummary {
    pub name: String,
    /// What it shows.
    pub description: String,
    /// Ticks that it asks for.
    pub ticks: Tick,
}

/// A run, in all.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Version of these keys.
    pub version: u32,
    /// What ran.
    pub scenario: ScenarioSummary,
    /// How it ran.
    pub mode: Option<RunMode>,
    /// Ticks that the run took.
    pub ticks: Tick,
    /// How closely the run was kept.
    pub resolution: Resolution,
    /// What was expected, and whether it came true.
    pub expectations: Vec<ExpectationResult>,
    /// Sums over the run.
    pub totals: Totals,
    /// What each state that was entered did.
    pub states: BTreeMap<String, StateTotals>,
    /// What Rest and Dream did in all, apart from all other figures.
    pub dreamt: DreamEvent,
    /// Changes of state.
    pub changes: Vec<StateChange>,
    /// Observations and answers.
    pub timeline: Vec<ObservationEntry>,
    /// Values over time.
    pub series: Series,
    /// Which experts worked on whose tokens.
    pub experts: Option<ExpertsEvent>,
    /// What the clock and the system say; everything else is the same in every run of the same inputs.
    pub measured: RunMeasurements,
}

/// How closely a run was kept: what is bounded, and what was left out for it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Resolution {
    /// Ticks of one value of a series.
    pub bin_ticks: Tick,
    pub events: u64,
    /// Entries of the time line at most.
    pub entries_most: usize,
    /// Readings of sensors among them at most.
    pub readings_most: usize,
    /// Observations and answers beyond, which are not in it.
    pub entries_left_out: u64,
    /// Changes of state beyond as many, which are not listed.
    pub changes_left_out: u64,
    /// Characters that are kept of a text.
    pub text_characters: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExpectationResult {
    pub text: String,
    /// Whether it came true.
    pub met: bool,
}

/// Sums over the run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses and of towers: what the steps asked for.
    pub bytes_read: u64,
    /// Denied router mass.
    pub denied_mass: f64,
    pub denied_experts: u64,
    pub observations: u64,
    /// Tokens of texts that were read, again where reading began again.
    pub read_tokens: u64,
    /// Mean loss of all that was read, nats a token.
    pub mean_loss: Option<f64>,
    pub answers: u64,
    /// Answers that were as expected.
    pub answers_right: u64,
    /// Answers that were to be others.
    pub answers_wrong: u64,
    /// Expectations that came true.
    pub expectations_met: usize,
    /// Expectations that did not.
    pub expectations_failed: usize,
}

/// What a state did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StateTotals {
    /// Experts a token.
    pub k: u16,
    /// Ticks spent in it.
    pub ticks: u64,
    /// Tokens read and generated.
    pub tokens: u64,
    /// Share of leased experts that were resident.
    pub hit_rate: f64,
    /// Logical bytes missed per token.
    pub bytes_per_token: f64,
    /// Mean loss of the text read, nats a token.
    pub mean_loss: Option<f64>,
}

/// A change of state.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StateChange {
    /// Place in the stream of events.
    pub event: u64,
    pub tick: Tick,
    pub from: State,
    pub to: State,
    pub cause: Cause,
}

/// An observation, or an answer.
#[derive(Clone, Debug, Serialize)]
pub struct ObservationEntry {
    /// Place in the stream of events.
    pub event: u64,
    pub tick: Tick,
    /// `text`, `question`, `alarm`, `sound`, `picture`, `goal`, `sensor`, `feedback`, or `answer`.
    pub kind: &'static str,
    /// Number of the observation; of an answer, of what it answers.
    pub id: u64,
    /// Where it came from.
    pub source: String,
    /// What was said, or its beginning.
    pub text: Option<String>,
    /// Characters that follow.
    pub text_left_out: usize,
    /// A reading, or feedback.
    pub value: Option<f64>,
    /// Of a sensor: what is left of its reserve, in [0, 1].
    pub level: Option<f64>,
    pub urgency: f32,
    pub tokens: usize,
    /// Sounds and pictures of it.
    pub perceived: Vec<ObservedMedium>,
    /// Bytes that towers read to perceive them.
    pub tower_bytes_read: u64,
    /// Of a text that was read: its mean loss, nats a token.
    pub mean_loss: Option<f64>,
    /// Of an answer: when its question came.
    pub asked: Option<Tick>,
    /// Of an answer: why it ended.
    pub ended: Option<Ended>,
    /// Of an answer: what was expected.
    pub expected: Option<String>,
    /// Of an answer that was expected: whether it was right.
    pub right: Option<bool>,
}

/// Values over time, one a bin; those that are felt are each bin's most telling one (the greatest; of energy the least;
/// of reward the farthest from 0.5).
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// The state of most of the bin's ticks.
    pub state: Vec<State>,
    pub surprise: Vec<f32>,
    pub novelty: Vec<f32>,
    pub arousal: Vec<f32>,
    pub reward: Vec<f32>,
    pub conflict: Vec<f32>,
    /// What moves states.
    pub drive: Vec<f32>,
    /// Energy, 0 to 100.
    pub atp: Vec<f32>,
    /// Bytes of resident experts, at most.
    pub resident_bytes: Vec<u64>,
    /// Resident experts, at most; as of the last step that worked.
    pub resident_experts: Vec<u64>,
    /// Capacity for experts.
    pub capacity_bytes: Vec<u64>,
    /// Leased experts that were resident.
    pub hits: Vec<u64>,
    /// Leased experts that were not.
    pub misses: Vec<u64>,
    /// Logical bytes of the misses and of towers.
    pub bytes_read: Vec<u64>,
    /// Denied router mass.
    pub denied_mass: Vec<f64>,
    pub denied_experts: Vec<u64>,
    /// Tokens of texts that were read.
    pub read_tokens: Vec<u64>,
}

impl Series {
    /// The next bin of the columns that are felt: the five of salience, drive, energy.
    pub(super) fn feel(&mut self, values: [f32; 7]) {
        let columns = [
            &mut self.surprise,
            &mut self.novelty,
            &mut self.arousal,
            &mut self.reward,
            &mut self.conflict,
            &mut self.drive,
            &mut self.atp,
        ];
        for (column, value) in columns.into_iter().zip(values) {
            column.push(value);
        }
    }
}

/// What differs from run to run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunMeasurements {
    /// Peak of the resident set, as the system counts it.
    pub peak_rss_bytes: u64,
    /// The limits that were in force one after the other, each with the peak under it.
    pub limits: Vec<LimitPeriod>,
    /// What was read from disk, by purpose.
    pub read_bytes: ReadBytes,
    /// What the kernel says that storage delivered for the process.
    pub kernel_read_bytes: Option<u64>,
    /// Misses whose expert had been read ahead.
    pub waits_avoided: u64,
    /// Tokens a second of the time that a state's steps took.
    pub tokens_per_second: BTreeMap<String, f64>,
}
