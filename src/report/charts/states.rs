//! States over time, with what moved them.

use sage_actors::protocol::State;
use serde::Serialize;

use super::lanes::Lane;
use super::scale::{LEFT, RIGHT, Scale, tenth};
use crate::report::RunReport;
use crate::report::data::{ObservationEntry, Series, StateChange};
use crate::report::words::{because, cause_name, state_name};

/// From the most excited to the least, as a sleep chart has it.
const ROWS: [State; 6] = [
    State::Threat,
    State::Focus,
    State::Wake,
    State::Rest,
    State::Dream,
    State::Depletion,
];

const ROW_HEIGHT: f64 = 19.0;
const LABEL_HEIGHT: f64 = 15.0;
const LABEL_ROWS: usize = 3;
/// What a letter of a label takes, generously.
const LETTER: f64 = 6.6;
const HEARD_HEIGHT: f64 = 20.0;
const LANE_GAP: f64 = 12.0;

#[derive(Serialize)]
pub struct States {
    pub height: f64,
    /// Where the lines of changes begin.
    pub top: f64,
    pub heard_y: f64,
    pub heard: Vec<ObservationMark>,
    pub rows: Vec<StateRow>,
    pub bands: Vec<Band>,
    pub changes: Vec<ChangeMark>,
    pub lanes: Vec<Lane>,
    /// For those who hear the drawing.
    pub summary: String,
}

#[derive(Serialize)]
pub struct ObservationMark {
    pub x: f64,
    pub glyph: &'static str,
    pub kind: &'static str,
    pub title: String,
}

/// A state's own height.
#[derive(Serialize)]
pub struct StateRow {
    pub name: &'static str,
    pub y: f64,
    pub height: f64,
    /// Whether it was entered.
    pub entered: bool,
}

/// A stretch of one state.
#[derive(Serialize)]
pub struct Band {
    pub state: &'static str,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub title: String,
}

/// A change: a line from row to row, and its cause where there is room.
#[derive(Serialize)]
pub struct ChangeMark {
    pub x: f64,
    pub from_y: f64,
    pub to_y: f64,
    pub title: String,
    pub label: Option<Label>,
}

#[derive(Serialize)]
pub struct Label {
    pub x: f64,
    pub y: f64,
    pub anchor: &'static str,
    pub text: &'static str,
}

/// The sign of a kind of observation.
pub fn glyph(kind: &str) -> &'static str {
    match kind {
        "text" => "¶",
        "sound" => "♪",
        "picture" => "▣",
        "question" => "?",
        "alarm" => "!",
        "sensor" => "~",
        "feedback" => "±",
        "goal" => "»",
        _ => "”",
    }
}

impl States {
    pub fn new(report: &RunReport, scale: &Scale) -> Self {
        let mut labels = Labels::default();
        let placed: Vec<_> = report
            .changes
            .iter()
            .map(|change| labels.place(scale.x(change.tick as f64), cause_name(change.cause)))
            .collect();
        let top = LABEL_HEIGHT * labels.rows() as f64 + 4.0;
        let heard_y = top + HEARD_HEIGHT / 2.0;
        let rows_top = top + HEARD_HEIGHT + 4.0;
        let y = |state: State| {
            let row = ROWS.iter().position(|row| *row == state).unwrap_or(0);
            tenth(rows_top + ROW_HEIGHT * row as f64)
        };
        let (bands, entered) = bands(&report.series, scale, y);
        let changes = report
            .changes
            .iter()
            .zip(placed)
            .map(|(change, label)| ChangeMark {
                x: scale.x(change.tick as f64),
                from_y: y(change.from) + ROW_HEIGHT / 2.0,
                to_y: y(change.to) + ROW_HEIGHT / 2.0,
                title: told(change),
                label,
            })
            .collect();
        let rows = ROWS.iter().map(|state| StateRow {
            name: state_name(*state),
            y: y(*state),
            height: ROW_HEIGHT,
            entered: entered[state.index()],
        });
        let lanes_top = rows_top + ROW_HEIGHT * ROWS.len() as f64 + LANE_GAP;
        let (lanes, end) = lanes(&report.series, scale, lanes_top);
        Self {
            height: end + 26.0,
            top,
            heard_y,
            heard: heard(&report.timeline, scale),
            rows: rows.collect(),
            bands,
            changes,
            lanes,
            summary: summary(report),
        }
    }
}

fn told(change: &StateChange) -> String {
    format!(
        "tick {}: {} to {}, because {}",
        change.tick,
        state_name(change.from),
        state_name(change.to),
        because(change.cause)
    )
}

fn summary(report: &RunReport) -> String {
    let ticks: Vec<String> = report
        .states
        .iter()
        .map(|(name, state)| format!("{} in {name}", state.ticks))
        .collect();
    format!(
        "{} ticks: {}; {} changes of state, listed below the drawing",
        report.ticks,
        ticks.join(", "),
        report.changes.len()
    )
}

/// Stretches of equal states, and which states there are.
fn bands(series: &Series, scale: &Scale, y: impl Fn(State) -> f64) -> (Vec<Band>, [bool; 6]) {
    let mut bands = Vec::new();
    let mut entered = [false; 6];
    let states = &series.state[..scale.bins(series.state.len())];
    let mut start = 0;
    for stretch in states.chunk_by(|a, b| a == b) {
        let state = stretch[0];
        let end = start + stretch.len();
        entered[state.index()] = true;
        let right = if end == states.len() {
            RIGHT
        } else {
            scale.bin(end)
        };
        let x = scale.bin(start);
        bands.push(Band {
            state: state_name(state),
            x,
            y: y(state),
            width: tenth((right - x).max(1.0)),
            height: ROW_HEIGHT,
            title: format!(
                "{} from tick {:.0} to {:.0}",
                state_name(state),
                start as f64 * scale.bin_ticks,
                end as f64 * scale.bin_ticks
            ),
        });
        start = end;
    }
    (bands, entered)
}

/// Observations; where they crowd, those that ask for nothing make room.
fn heard(timeline: &[ObservationEntry], scale: &Scale) -> Vec<ObservationMark> {
    let mut heard: Vec<ObservationMark> = Vec::new();
    for entry in timeline.iter().filter(|entry| entry.kind != "answer") {
        let x = scale.x(entry.tick as f64);
        let asks = |kind: &str| matches!(kind, "question" | "alarm");
        if let Some(last) = heard.last()
            && x - last.x < 9.0
        {
            if asks(last.kind) || !asks(entry.kind) {
                continue;
            }
            heard.pop();
        }
        let from = if entry.source.is_empty() {
            String::new()
        } else {
            format!(" of {}", entry.source)
        };
        heard.push(ObservationMark {
            x,
            glyph: glyph(entry.kind),
            kind: entry.kind,
            title: format!("tick {}: {}{from}", entry.tick, entry.kind),
        });
    }
    heard
}

/// Energy and drive, then the five of salience; returns where they end.
fn lanes(series: &Series, scale: &Scale, top: f64) -> (Vec<Lane>, f64) {
    let named = [
        (("energy", "ATP, 0 to 100"), &series.atp, (0.0, "100"), 46.0),
        (
            ("drive", "what moves states"),
            &series.drive,
            (0.0, "1"),
            46.0,
        ),
        (("surprise", ""), &series.surprise, (0.0, "1"), 32.0),
        (("novelty", ""), &series.novelty, (0.0, "1"), 32.0),
        (("arousal", ""), &series.arousal, (0.0, "1"), 32.0),
        (("reward", ""), &series.reward, (0.0, "1"), 32.0),
        (("conflict", ""), &series.conflict, (0.0, "1"), 32.0),
    ];
    let mut at = top;
    let lanes = named.map(|(name, values, bounds, height)| {
        let lane = Lane::new(name, values, bounds, (at, height), scale);
        at += height + LANE_GAP;
        lane
    });
    (lanes.into(), at - LANE_GAP)
}

/// Rows of labels above the drawing; a label has room where the one before it in its row has ended.
#[derive(Default)]
struct Labels {
    ends: Vec<f64>,
}

impl Labels {
    fn place(&mut self, x: f64, text: &'static str) -> Option<Label> {
        let width = LETTER * text.chars().count() as f64 + 8.0;
        let (start, anchor) = if x + width > RIGHT + 10.0 {
            ((x - width).max(LEFT), "end")
        } else {
            (x, "start")
        };
        let row = match self.ends.iter().position(|end| *end <= start) {
            Some(row) => row,
            None if self.ends.len() < LABEL_ROWS => {
                self.ends.push(0.0);
                self.ends.len() - 1
            }
            None => return None,
        };
        self.ends[row] = start + width;
        Some(Label {
            x: tenth(if anchor == "end" { x - 3.0 } else { x + 3.0 }),
            y: LABEL_HEIGHT * row as f64 + 11.0,
            anchor,
            text,
        })
    }

    fn rows(&self) -> usize {
        self.ends.len()
    }
}
