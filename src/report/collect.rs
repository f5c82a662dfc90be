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
    ExpectationResult, ObservationEntry, Resolution, RunMeasurements, RunReport, ScenarioSummary,
    StateChange, StateTotals, Totals, VERSION,
};
use crate::events::{Event, EventKind, ExpectedAnswer, ExpertsEvent, Observed, RunMode, Summary};

/// Observations and answers that are kept one by one.
pub const MOST_ENTRIES: usize = 600;

/// Readings of sensors among them: a machine's own come all the time, and must leave room for what is said.
pub const MOST_READINGS: usize = 200;

/// Characters that are kept of a text.
pub const MOST_CHARACTERS: usize = 800;

/// Changes of state that are kept one by one; the bins know all of them.
pub const MOST_CHANGES: usize = 600;

/// Hears of every event of a run.
#[derive(Debug)]
pub struct Collector {
    about: ScenarioSummary,
    mode: Option<RunMode>,
    events: u64,
    bins: Bins,
    state: State,
    state_since: Tick,
    changes: Vec<StateChange>,
    changes_left_out: u64,
    entries: Vec<ObservationEntry>,
    entries_left_out: u64,
    readings: usize,
    /// Observations among the entries, by their number.
    observed: BTreeMap<u64, usize>,
    /// Answers among them, by the number of what they answer.
    answered: BTreeMap<u64, usize>,
    verdicts: Vec<ExpectationResult>,
    totals: Totals,
    experts: Option<ExpertsEvent>,
    summary: Summary,
}

impl Collector {
    /// Before the first event.
    pub fn new(about: ScenarioSummary) -> Self {
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
            readings: 0,
            observed: BTreeMap::new(),
            answered: BTreeMap::new(),
            verdicts: Vec::new(),
            totals: Totals::default(),
            experts: None,
            summary: Summary::default(),
        }
    }

    /// The next event.
    // Long: one arm for each kind of event that it shows.
    pub fn hear(&mut self, event: &Event) {
        let tick = event.tick;
        match &event.kind {
            EventKind::Mode(mode) => self.mode = Some(mode.clone()),
            EventKind::Observation(observed) => self.observe(tick, observed),
            EventKind::State { from, to, cause } => self.change(StateChange {
                event: self.events,
                tick,
                from: *from,
                to: *to,
                cause: *cause,
            }),
            EventKind::Salience(salience) => self.bins.feel(tick, salience),
            EventKind::Directive { expert_bytes, .. } => self.bins.capacity(tick, *expert_bytes),
            EventKind::Perceived(perceived) => {
                self.totals.bytes_read += perceived.bytes_read;
                self.bins.perceived(tick, perceived.bytes_read);
                if let Some(at) = self.observed.get(&perceived.id) {
                    self.entries[*at].tower_bytes_read += perceived.bytes_read;
                }
            }
            EventKind::Cache(cache) => {
                self.totals.hits += cache.hits;
                self.totals.misses += cache.misses;
                self.totals.bytes_read += cache.bytes_read;
                self.bins.cache(tick, cache);
            }
            EventKind::Denied { mass, experts, .. } => {
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
                self.verdicts.push(ExpectationResult {
                    text: text.clone(),
                    met: *met,
                });
                if let Some(answer) = answer {
                    self.judge(answer, *met);
                }
            }
            EventKind::Experts(experts) => self.experts = Some(experts.clone()),
            EventKind::Summary(summary) => {
                self.bins.state(self.state, self.state_since, tick);
                self.state_since = tick;
                self.summary = summary.clone();
            }
            // A report shows what it is taught to show: of a spoken answer the answer, of limits what the summary says of each.
            _ => {}
        }
        self.events += 1;
    }

    fn change(&mut self, change: StateChange) {
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
        let entry = ObservationEntry {
            event: self.events,
            tick,
            kind: observed.kind,
            id: observed.id,
            source: observed.source.clone(),
            text,
            text_left_out,
            value: observed.value,
            level: observed.level,
            urgency: observed.urgency,
            tokens: observed.tokens,
            perceived: observed.perceived.clone(),
            tower_bytes_read: 0,
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
        let entry = ObservationEntry {
            event: self.events,
            tick,
            kind: "answer",
            id: *id,
            source: asked.map_or(String::new(), |asked| asked.source.clone()),
            text,
            text_left_out,
            value: None,
            level: None,
            urgency: 0.0,
            tokens: *tokens,
            perceived: Vec::new(),
            tower_bytes_read: 0,
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
    fn keep(&mut self, entry: ObservationEntry) -> Option<usize> {
        let is_reading = entry.kind == "sensor";
        if self.entries.len() == MOST_ENTRIES || is_reading && self.readings == MOST_READINGS {
            self.entries_left_out += 1;
            return None;
        }
        self.readings += usize::from(is_reading);
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
    pub fn finish(self) -> RunReport {
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
        RunReport {
            version: VERSION,
            scenario: self.about,
            mode: self.mode,
            ticks: self.state_since,
            resolution: Resolution {
                bin_ticks: self.bins.bin_ticks(),
                events: self.events,
                entries_most: MOST_ENTRIES,
                readings_most: MOST_READINGS,
                entries_left_out: self.entries_left_out,
                changes_left_out: self.changes_left_out,
                text_characters: MOST_CHARACTERS,
            },
            expectations: self.verdicts,
            totals,
            states: states.collect(),
            changes: self.changes,
            timeline: self.entries,
            dreamt: summary.dreamt,
            series: self.bins.series(),
            experts: self.experts,
            measured: RunMeasurements {
                peak_rss_bytes: summary.peak_rss_bytes,
                limits: summary.limits,
                read_bytes: summary.read_bytes,
                kernel_read_bytes: summary.kernel_read_bytes,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Ended;

    fn collector() -> Collector {
        Collector::new(ScenarioSummary {
            name: "a run".to_owned(),
            description: String::new(),
            ticks: 0,
        })
    }

    fn observation(id: u64, kind: &'static str, text: &str) -> EventKind {
        EventKind::Observation(Observed {
            id,
            request: Some(id),
            kind,
            source: "door".to_owned(),
            urgency: 0.0,
            text: Some(text.to_owned()),
            value: None,
            level: None,
            tokens: 1,
            perceived: Vec::new(),
        })
    }

    fn answer(id: u64) -> EventKind {
        EventKind::Answer {
            id,
            request: id,
            question: String::new(),
            text: "yes".to_owned(),
            tokens: 1,
            ended: Ended::Stop,
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_is_counted() {
        let mut collector = collector();
        let long = "ä".repeat(MOST_CHARACTERS + 5);
        let mut hear = |tick, kind| collector.hear(&Event { tick, kind });
        for id in 0..5_000 {
            hear(id, observation(id, "sensor", ""));
        }
        for id in 5_000..8_000 {
            hear(id, observation(id, "text", &long));
            let change = |from, to| EventKind::State {
                from,
                to,
                cause: sage_actors::protocol::Cause::Drive,
            };
            hear(id, change(State::Wake, State::Focus));
            hear(id, change(State::Focus, State::Wake));
        }
        hear(8_000, EventKind::Summary(Summary::default()));
        let report = collector.finish();
        assert_eq!(report.timeline.len(), MOST_ENTRIES);
        assert_eq!(report.timeline[MOST_READINGS].kind, "text");
        assert_eq!(report.timeline[MOST_READINGS].text_left_out, 5);
        assert_eq!(report.resolution.entries_left_out, 8_000 - 600);
        assert_eq!(report.changes.len(), MOST_CHANGES);
        assert_eq!(report.resolution.changes_left_out, 6_000 - 600);
        assert_eq!(report.totals.observations, 8_000);
        assert_eq!(report.ticks, 8_000);
    }

    #[test]
    fn an_answer_finds_its_question_and_its_verdict() {
        let mut collector = collector();
        let mut hear = |tick, kind| collector.hear(&Event { tick, kind });
        hear(3, observation(0, "question", "open?"));
        hear(4, observation(1, "question", "and now?"));
        hear(9, answer(1));
        hear(12, answer(0));
        let expected = |id, expected: &str, met| EventKind::Expectation {
            text: String::new(),
            met,
            answer: Some(ExpectedAnswer {
                id,
                expected: expected.to_owned(),
            }),
        };
        hear(20, expected(0, "no", false));
        hear(20, expected(1, "yes", true));
        let report = collector.finish();
        let told: Vec<_> = report.timeline[2..]
            .iter()
            .map(|entry| (entry.asked, entry.expected.as_deref(), entry.right))
            .collect();
        let wanted = [
            (Some(4), Some("yes"), Some(true)),
            (Some(3), Some("no"), Some(false)),
        ];
        assert_eq!(told, wanted);
        assert_eq!(
            (report.totals.answers_right, report.totals.answers_wrong),
            (1, 1)
        );
    }
}
