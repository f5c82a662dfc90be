//! The four shapes.

use serde::Deserialize;
use serde_json::Value;

use super::entry::{Imported, LogEntry, LogEntryKind, MOST_GAP_TICKS, gap};

/// The line, where it is known, and what is wrong.
type Problem = (Option<usize>, String);

const EXPECTED: &str = "expected experience_buffer.json (a list of {prompt, response, …}), exchanges.jsonl ({user_input, \
    model_response, …} a line), session_NNN.json ({conversation: […]}) or dream_*.jsonl ({_type: …} a line)";

pub(super) fn parse(text: &str) -> Result<Imported, Problem> {
    // One value: a list or a conversation. Several: lines.
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(list)) => experiences(list),
        Ok(value @ Value::Object(_)) if value.get("conversation").is_some() => session(value),
        Ok(value @ Value::Object(_)) if !is_line(&value) => Err((
            None,
            format!("an object without `conversation`; {EXPECTED}"),
        )),
        Ok(Value::Object(_)) => lines(text),
        Ok(_) => Err((None, format!("neither a list nor an object; {EXPECTED}"))),
        Err(error) => {
            // A log of lines may end in one that was not finished; another shape must be whole.
            let first = text.lines().find(|line| !line.trim().is_empty());
            match first.and_then(|line| serde_json::from_str::<Value>(line).ok()) {
                Some(first) if is_line(&first) => lines(text),
                _ => Err((Some(error.line()), format!("{error}; {EXPECTED}"))),
            }
        }
    }
}

fn is_line(value: &Value) -> bool {
    value.get("user_input").is_some() || value.get("_type").is_some()
}

/// Seconds since the epoch: a number, or a date and time (UTC, unless it says an offset).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Value")]
struct Time(f64);

impl TryFrom<Value> for Time {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        if let Some(seconds) = value.as_f64().filter(|seconds| seconds.is_finite()) {
            return Ok(Self(seconds));
        }
        let refused = || format!("{value} is no time; expected seconds, or 2026-01-18T00:10:43.09");
        let text = value.as_str().ok_or_else(refused)?;
        let utc = |time: jiff::civil::DateTime| time.to_zoned(jiff::tz::TimeZone::UTC);
        let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let time = text.parse::<jiff::civil::DateTime>().ok()?;
            utc(time).ok().map(|time| time.timestamp())
        });
        let time = time.ok_or_else(refused)?;
        Ok(Self(time.as_duration().as_secs_f64()))
    }
}

#[derive(Deserialize)]
struct Salience {
    reward: Option<f64>,
}

impl Salience {
    /// Some logs have a number that is no share.
    fn reward(self) -> Option<f64> {
        self.reward.filter(|reward| (0.0..=1.0).contains(reward))
    }
}

#[derive(Deserialize)]
struct Experience {
    prompt: String,
    response: Option<String>,
    salience: Option<Salience>,
    timestamp: Option<Time>,
    source: Option<String>,
}

/// `experience_buffer.json`.
fn experiences(list: Vec<Value>) -> Result<Imported, Problem> {
    let mut told = Vec::new();
    for (n, value) in list.into_iter().enumerate() {
        let entry: Experience = serde_json::from_value(value)
            .map_err(|error| (None, format!("entry {n}: {error}; {EXPECTED}")))?;
        told.push(Told {
            at: entry.timestamp.map(|time| time.0),
            source: entry.source.unwrap_or_default(),
            said: entry.prompt,
            answered: entry.response,
            reward: entry.salience.and_then(Salience::reward),
        });
    }
    Ok(exchanges("experience buffer", told))
}

#[derive(Deserialize)]
struct Session {
    start: Option<Time>,
    end: Option<Time>,
    conversation: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    speaker: String,
    text: String,
}

/// `session_NNN.json`: its turns have no times of their own; they are spread evenly over the session.
fn session(value: Value) -> Result<Imported, Problem> {
    let session: Session =
        serde_json::from_value(value).map_err(|error| (None, format!("{error}; {EXPECTED}")))?;
    let turns = session.conversation;
    let is_own = |turn: &Turn| turn.speaker.eq_ignore_ascii_case("sage");
    let asked = turns.iter().filter(|turn| !is_own(turn)).count();
    let span = session
        .start
        .zip(session.end)
        .map(|(start, end)| (start.0, end.0));
    let mut told: Vec<Told> = Vec::new();
    for turn in turns {
        if is_own(&turn) {
            // What it says before anything is said to it answers nothing.
            if let Some(last) = told.last_mut() {
                let answer = last.answered.get_or_insert_default();
                if !answer.is_empty() {
                    answer.push('\n');
                }
                answer.push_str(&turn.text);
            }
            continue;
        }
        let share = told.len() as f64 / asked.max(1) as f64;
        told.push(Told {
            at: span.map(|(start, end)| start + share * (end - start)),
            source: turn.speaker.to_lowercase(),
            said: turn.text,
            answered: None,
            reward: None,
        });
    }
    Ok(exchanges("session", told))
}

#[derive(Deserialize)]
struct Exchange {
    user_input: String,
    model_response: Option<String>,
    timestamp: Option<Time>,
    salience_scores: Option<Salience>,
}

#[derive(Deserialize)]
struct Dreamt {
    _type: String,
    salience: Option<f64>,
    cycle: Option<u64>,
    plugin: Option<String>,
    timestamp: Option<Time>,
}

/// `exchanges.jsonl` and `dream_*.jsonl`.
fn lines(text: &str) -> Result<Imported, Problem> {
    let mut told = Vec::new();
    let mut noted = Imported {
        shape: "dream bundle",
        ..Imported::default()
    };
    let mut before: Option<(Option<u64>, Option<f64>)> = None;
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let wrong = |problem: String| (Some(number + 1), format!("{problem}; {EXPECTED}"));
        let value: Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if value.get("user_input").is_some() {
            let exchange: Exchange =
                serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
            told.push(Told {
                at: exchange.timestamp.map(|time| time.0),
                source: String::new(),
                said: exchange.user_input,
                answered: exchange.model_response,
                reward: exchange.salience_scores.and_then(Salience::reward),
            });
            continue;
        }
        let dreamt: Dreamt =
            serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let share = |salience: &f64| (0.0..=1.0).contains(salience);
        let Some(salience) = dreamt
            .salience
            .filter(share)
            .filter(|_| dreamt._type == "experience")
        else {
            noted.left_out += usize::from(dreamt._type == "experience");
            continue;
        };
        // The times of a bundle are when it was written; its cycles are the old loop's ticks.
        let now = (dreamt.cycle, dreamt.timestamp.map(|time| time.0));
        let gap_ticks = match (before.and_then(|before| before.0), now.0) {
            (Some(before), Some(now)) => now.saturating_sub(before).min(MOST_GAP_TICKS),
            _ => gap(before.and_then(|before| before.1), now.1),
        };
        before = Some(now);
        noted.entries.push(LogEntry {
            gap_ticks,
            what: LogEntryKind::Noted {
                plugin: dreamt
                    .plugin
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| "loop".to_owned()),
                salience,
            },
        });
    }
    match (told.is_empty(), noted.entries.is_empty()) {
        (true, _) => Ok(noted),
        (false, true) => Ok(exchanges("exchanges", told)),
        (false, false) => Err((
            None,
            format!("exchanges and experiences in one file; {EXPECTED}"),
        )),
    }
}

/// An exchange before it has its place.
struct Told {
    at: Option<f64>,
    source: String,
    said: String,
    answered: Option<String>,
    reward: Option<f64>,
}

/// In order of time; what has none stays where it stands.
fn exchanges(shape: &'static str, mut told: Vec<Told>) -> Imported {
    if told.iter().all(|told| told.at.is_some()) {
        told.sort_by(|a, b| {
            a.at.unwrap_or_default()
                .total_cmp(&b.at.unwrap_or_default())
        });
    }
    let mut imported = Imported {
        shape,
        ..Imported::default()
    };
    let mut before = None;
    for told in told {
        if told.said.trim().is_empty() {
            imported.left_out += 1;
            continue;
        }
        let gap_ticks = gap(before, told.at);
        before = told.at;
        let spoken = |text: &String| !text.trim().is_empty();
        imported.entries.push(LogEntry {
            gap_ticks,
            what: LogEntryKind::Exchange {
                source: Some(told.source)
                    .filter(spoken)
                    .unwrap_or_else(|| "user".to_owned()),
                said: told.said,
                answered: told.answered.filter(spoken),
                reward: told.reward,
            },
        });
    }
    imported
}
