//! Listens to a run's events and keeps what a report needs of them.
//!
//! What it keeps is bounded: [`MOST_BINS`] bins of time, [`MOST_ENTRIES`] observations and answers with
//! [`MOST_CHARACTERS`] characters of each, [`MOST_CHANGES`] changes of state: well below a megabyte of plain text.
//! What is beyond is counted, and the report says so.
//!
//! [`MOST_BINS`]: super::bins::MOST_BINS

use std::collections::BTreeMap;

use sage_actors::protocol::{State, Tick};

use super::bins::Bins;
use super::data::{
    About, Change, Entry, Measured, Report, Resolution, StateTotals, Totals, VERSION, Verdict,
};
use crate::events::{Event, EventKind, ExpectedAnswer, ExpertsEvent, Mode, Observed, Summary};

/// Observations and answers that are kept one by one.
pub const MOST_ENTRIES: usize = 600;

/// Characters that are kept of a text.
pub const MOST_CHARACTERS: usize = 800;

/// Changes of state that are kept one by one; the bins know all of them.
pub const MOST_CHANGES: usize = 600;

/// Hears of every event of a run.
#[derive(Debug)]
pub struct Collector {
    about: About,
    mode: Option<Mode>,
    events: u64,
    bins: Bins,
    state: State,
    state_since: Tick,
    changes: Vec<Change>,
    changes_left_out: u64,
    entries: Vec<Entry>,
    entries_left_out: u64,
    /// Observations among the entries, by their number.
    observed: BTreeMap<u64, usize>,
    /// Answers among them, by the number of what they answer.
    answered: BTreeMap<u64, usize>,
    verdicts: Vec<Verdict>,
    totals: Totals,
    experts: Option<ExpertsEvent>,
    summary: Summary,
}

impl Collector {
    /// Before the first event.
    pub fn new(about: About) -> Self {
        Self {
            about,
            mode: None,
            events: 0,
            bins: Bins::default(),
            state: State::Wake,
            state_since: 0,
            changes: Vec::new(),
            changes_left_out: 0,
            entries: Vec::new(),
            entries_left_out: 0,
            observed: BTreeMap::new(),
            answered: BTreeMap::new(),
            verdicts: Vec::new(),
            totals: Totals::default(),
            experts: None,
            summary: Summary::default(),
        }
    }

    /// The next event.
    pub fn hear(&mut self, event: &Event) {
        let tick = event.tick;
        match &event.kind {
            EventKind::Mode(mode) => self.mode = Some(mode.clone()),
            EventKind::Observation(observed) => self.observe(tick, observed),
            EventKind::State { from, to, cause } => self.change(Change {
                event: self.events,
                tick,
                from: *from,
                to: *to,
                cause: *cause,
            }),
            EventKind::Salience(salience) => self.bins.feel(tick, salience),
            EventKind::Directive { expert_bytes, .. } => self.bins.capacity(tick, *expert_bytes),
            EventKind::Cache(cache) => {
                self.totals.hits += cache.hits;
                self.totals.misses += cache.misses;
                self.totals.bytes_read += cache.bytes_read;
                self.bins.cache(tick, cache);
            }
            EventKind::Denied { mass, experts } => {
                self.totals.denied_mass += f64::from(*mass);
                self.totals.denied_experts += *experts as u64;
                self.bins.denied(tick, *mass, *experts);
            }
            EventKind::Read {
                id,
                tokens,
                mean_loss,
                ..
            } => {
                self.totals.read_tokens += *tokens as u64;
                self.bins.read(tick, *tokens);
                if let Some(at) = self.observed.get(id) {
                    self.entries[*at].mean_loss = *mean_loss;
                }
            }
            EventKind::Answer { .. } => self.answer(tick, &event.kind),
            EventKind::Expectation { text, met, answer } => {
                self.verdicts.push(Verdict {
                    text: text.clone(),
                    met: *met,
                });
                if let Some(answer) = answer {
                    self.judge(answer, *met);
                }
            }
            EventKind::Experts(experts) => self.experts = Some(experts.clone()),
            // The answer says it all.
            EventKind::Token { .. } => {}
            EventKind::Summary(summary) => {
                self.bins.state(self.state, self.state_since, tick);
                self.state_since = tick;
                self.summary = summary.clone();
            }
        }
        self.events += 1;
    }

    fn change(&mut self, change: Change) {
        self.bins.state(self.state, self.state_since, change.tick);
        (self.state, self.state_since) = (change.to, change.tick);
        if self.changes.len() < MOST_CHANGES {
            self.changes.push(change);
        } else {
            self.changes_left_out += 1;
        }
    }

    fn observe(&mut self, tick: Tick, observed: &Observed) {
        self.totals.observations += 1;
        let (text, text_left_out) = beginning(observed.text.as_deref());
        let entry = Entry {
            event: self.events,
            tick,
            kind: observed.kind,
            id: observed.id,
            source: observed.source.clone(),
            text,
            text_left_out,
            value: observed.value,
            urgency: observed.urgency,
            tokens: observed.tokens,
            mean_loss: None,
            asked: None,
            ended: None,
            expected: None,
            right: None,
        };
        if let Some(at) = self.keep(entry) {
            self.observed.insert(observed.id, at);
        }
    }

    fn answer(&mut self, tick: Tick, kind: &EventKind) {
        let EventKind::Answer {
            id,
            text,
            tokens,
            ended,
            ..
        } = kind
        else {
            return;
        };
        self.totals.answers += 1;
        let asked = self.observed.get(id).map(|at| &self.entries[*at]);
        let (text, text_left_out) = beginning(Some(text));
        let entry = Entry {
            event: self.events,
            tick,
            kind: "answer",
            id: *id,
            source: asked.map_or(String::new(), |asked| asked.source.clone()),
            text,
            text_left_out,
            value: None,
            urgency: 0.0,
            tokens: *tokens,
            mean_loss: None,
            asked: asked.map(|asked| asked.tick),
            ended: Some(*ended),
            expected: None,
            right: None,
        };
        if let Some(at) = self.keep(entry) {
            self.answered.insert(*id, at);
        }
    }

    /// The entry's place, if there is room for it.
    fn keep(&mut self, entry: Entry) -> Option<usize> {
        if self.entries.len() == MOST_ENTRIES {
            self.entries_left_out += 1;
            return None;
        }
        self.entries.push(entry);
        Some(self.entries.len() - 1)
    }

    fn judge(&mut self, answer: &ExpectedAnswer, met: bool) {
        *(if met {
            &mut self.totals.answers_right
        } else {
            &mut self.totals.answers_wrong
        }) += 1;
        if let Some(at) = self.answered.get(&answer.id) {
            let entry = &mut self.entries[*at];
            entry.expected = beginning(Some(&answer.expected)).0;
            entry.right = Some(met);
        }
    }

    /// The report; of a run that ended, after its summary.
    pub fn finish(self) -> Report {
        let summary = self.summary;
        let totals = Totals {
            mean_loss: summary.mean_loss,
            expectations_met: summary.expectations_met,
            expectations_failed: summary.expectations_failed,
            ..self.totals
        };
        let states = summary.states.iter().map(|(name, state)| {
            let totals = StateTotals {
                k: state.k,
                ticks: state.ticks,
                tokens: state.tokens,
                hit_rate: state.hit_rate,
                bytes_per_token: state.bytes_per_token,
                mean_loss: state.mean_loss,
            };
            (name.clone(), totals)
        });
        let speeds = summary.states.iter();
        Report {
            version: VERSION,
            scenario: self.about,
            mode: self.mode,
            ticks: self.state_since,
            resolution: Resolution {
                bin_ticks: self.bins.bin_ticks(),
                events: self.events,
                entries_most: MOST_ENTRIES,
                entries_left_out: self.entries_left_out,
                changes_left_out: self.changes_left_out,
                text_characters: MOST_CHARACTERS,
            },
            expectations: self.verdicts,
            totals,
            states: states.collect(),
            changes: self.changes,
            timeline: self.entries,
            series: self.bins.series(),
            experts: self.experts,
            measured: Measured {
                peak_rss_bytes: summary.peak_rss_bytes,
                waits_avoided: summary.waits_avoided,
                tokens_per_second: speeds
                    .map(|(name, state)| (name.clone(), state.tokens_per_second))
                    .collect(),
            },
        }
    }
}

/// The first [`MOST_CHARACTERS`] of a text, and how many there are beyond.
fn beginning(text: Option<&str>) -> (Option<String>, usize) {
    let Some(text) = text else {
        return (None, 0);
    };
    let kept: String = text.chars().take(MOST_CHARACTERS).collect();
    let left_out = text[kept.len()..].chars().count();
    (Some(kept), left_out)
}
