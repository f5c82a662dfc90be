//! The scenario language: TOML, checked before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sage_actors::protocol::{State, Tick};
use serde::Deserialize;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a scenario; the message has line and column.
    #[error("{path}: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// From the parser.
        message: String,
    },
    /// A value makes no sense.
    #[error("{path}: {what}: {problem}")]
    Value {
        /// Which.
        path: PathBuf,
        /// The entry.
        what: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows.
    #[serde(default)]
    pub description: String,
    /// Memory limit of the process, such as `40MiB`.
    pub limit: Option<String>,
    /// Ticks that it lasts at least; open requests are answered even beyond.
    pub ticks: Tick,
    /// Tokens of context.
    #[serde(default = "default_context_tokens")]
    pub context_tokens: usize,
    /// Tokens of a prefill chunk: decisions change only between chunks.
    #[serde(default = "default_chunk_tokens")]
    pub chunk_tokens: usize,
    /// Tokens of an answer at most.
    #[serde(default = "default_answer_tokens")]
    pub answer_tokens: usize,
    /// Declared sensors.
    #[serde(default)]
    pub sensors: BTreeMap<String, SensorDeclaration>,
    /// What happens when, in order of time.
    #[serde(default)]
    pub observe: Vec<Scripted>,
    /// What is expected.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

fn default_context_tokens() -> usize {
    512
}

fn default_chunk_tokens() -> usize {
    32
}

fn default_answer_tokens() -> usize {
    32
}

/// A sensor: what is normal, and how fine it measures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorDeclaration {
    /// Healthy range, inclusive; a value outside is a threat.
    pub range: Option<(f64, f64)>,
    /// Resolution, in the sensor's unit.
    pub resolution: f64,
    /// For a reserve: the values that mean empty and full; the level takes part in the energy.
    pub reserve: Option<(f64, f64)>,
}

impl SensorDeclaration {
    /// What is left of the reserve, in [0, 1]; none for a sensor that is no reserve.
    pub fn level(&self, value: f64) -> Option<f64> {
        self.reserve
            .map(|(empty, full)| ((value - empty) / (full - empty)).clamp(0.0, 1.0))
    }
}

/// One thing that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// When: the first step at or after this tick receives it.
    pub at: Tick,
    /// What.
    pub kind: ScriptedKind,
    /// Where it comes from; texts of one source continue one another.
    #[serde(default)]
    pub source: String,
    /// Declared urgency, in [0, 1].
    #[serde(default)]
    pub urgency: f32,
    /// Of text, question and alarm.
    pub text: Option<String>,
    /// Of text: a file, relative to the scenario, in place of `text`.
    pub file: Option<PathBuf>,
    /// Of a sensor reading: which sensor.
    pub sensor: Option<String>,
    /// Of a sensor reading, or feedback in [-1, 1].
    pub value: Option<f64>,
    /// Of question and alarm: the expected answer, word for word.
    pub expect: Option<String>,
}

/// Kinds of observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedKind {
    /// To be read.
    Text,
    /// To be answered.
    Question,
    /// A threat that is to be answered.
    Alarm,
    /// A reading.
    Sensor,
    /// On the last answer.
    Feedback,
}

/// An expectation over the whole run.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expectation {
    /// These states are entered in this order; others may lie between. `crisis` is threat or depletion.
    States(Vec<String>),
    /// These states are never entered.
    Never(Vec<String>),
    /// The peak of the resident set stays within the limit.
    WithinLimit(bool),
    /// The mean loss of the text read is below this, nats a token.
    MeanLossBelow(f64),
}

/// The states that a name stands for; none for an unknown name.
pub fn state_named(name: &str) -> Option<Vec<State>> {
    Some(match name {
        "wake" => vec![State::Wake],
        "focus" => vec![State::Focus],
        "rest" => vec![State::Rest],
        "dream" => vec![State::Dream],
        "threat" => vec![State::Threat],
        "depletion" => vec![State::Depletion],
        "crisis" => vec![State::Threat, State::Depletion],
        _ => return None,
    })
}

impl Scenario {
    /// Reads and checks a scenario; the texts of `file` entries are read too.
    ///
    /// # Errors
    /// Names the file and the line or entry that is wrong.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// As [`Self::read`], from text; `path` is for messages and for files named in it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Scenario =
            toml::from_str(text).map_err(|error| ScenarioError::Syntax {
                path: path.to_owned(),
                message: error.to_string(),
            })?;
        for (index, entry) in scenario.observe.iter_mut().enumerate() {
            if let Some(file) = &entry.file {
                let file = path.parent().unwrap_or(Path::new("")).join(file);
                let text =
                    std::fs::read_to_string(&file).map_err(|source| ScenarioError::File {
                        path: file.clone(),
                        source,
                    })?;
                if entry.text.replace(text).is_some() {
                    return Err(value(
                        path,
                        format!("observe number {}", index + 1),
                        "has both `text` and `file`: keep one",
                    ));
                }
            }
        }
        scenario.check(path)?;
        Ok(scenario)
    }

    fn check(&self, path: &Path) -> Result<(), ScenarioError> {
        for (name, sensor) in &self.sensors {
            let what = || format!("sensors.{name}");
            if !sensor.resolution.is_finite() || sensor.resolution <= 0.0 {
                return Err(value(path, what(), "`resolution` must be a number above 0"));
            }
            if sensor
                .range
                .is_some_and(|(low, high)| low.is_nan() || high.is_nan() || low > high)
            {
                return Err(value(path, what(), "`range` must be [low, high]"));
            }
            if sensor
                .reserve
                .is_some_and(|(empty, full)| empty.is_nan() || full.is_nan() || empty == full)
            {
                return Err(value(
                    path,
                    what(),
                    "`reserve` must be [empty, full], two different values",
                ));
            }
        }
        let mut before = 0;
        for (index, entry) in self.observe.iter().enumerate() {
            let what = || {
                format!(
                    "observe number {} (at = {}, {:?})",
                    index + 1,
                    entry.at,
                    entry.kind
                )
            };
            if let Some(problem) = self.problem(entry) {
                return Err(value(path, what(), problem));
            }
            if entry.at < before {
                return Err(value(
                    path,
                    what(),
                    "is earlier than the entry before it: keep them in order of time",
                ));
            }
            if entry.at > self.ticks {
                return Err(value(
                    path,
                    what(),
                    "is later than the last of the scenario's `ticks`",
                ));
            }
            before = entry.at;
        }
        for expectation in &self.expect {
            if let Expectation::States(names) | Expectation::Never(names) = expectation
                && let Some(name) = names.iter().find(|name| state_named(name).is_none())
            {
                let problem =
                    "is no state; expected wake, focus, rest, dream, threat, depletion or crisis";
                return Err(value(path, format!("expect: `{name}`"), problem));
            }
        }
        if self.answer_tokens == 0 {
            return Err(value(path, "answer_tokens".into(), "must be at least 1"));
        }
        if self.chunk_tokens == 0 || self.context_tokens < 2 {
            return Err(value(
                path,
                "context".into(),
                "`chunk_tokens` must be at least 1, `context_tokens` at least 2",
            ));
        }
        Ok(())
    }

    fn problem(&self, entry: &Scripted) -> Option<&'static str> {
        if !(0.0..=1.0).contains(&entry.urgency) {
            return Some("`urgency` must be in [0, 1]");
        }
        let known = entry
            .sensor
            .as_ref()
            .is_some_and(|sensor| self.sensors.contains_key(sensor));
        let number = entry.value.is_some_and(f64::is_finite);
        match entry.kind {
            ScriptedKind::Text | ScriptedKind::Question | ScriptedKind::Alarm
                if entry
                    .text
                    .as_ref()
                    .is_none_or(|text| text.trim().is_empty()) =>
            {
                Some("needs a `text`")
            }
            ScriptedKind::Text if entry.expect.is_some() => {
                Some("a text is not answered: `expect` belongs to a question or alarm")
            }
            ScriptedKind::Sensor if !known => {
                Some("needs a `sensor` that is declared under [sensors]")
            }
            ScriptedKind::Sensor if !number => Some("needs a `value`"),
            ScriptedKind::Feedback
                if !entry
                    .value
                    .is_some_and(|value| (-1.0..=1.0).contains(&value)) =>
            {
                Some("needs a `value` in [-1, 1]")
            }
            _ => None,
        }
    }
}

fn value(path: &Path, what: String, problem: &str) -> ScenarioError {
    ScenarioError::Value {
        path: path.to_owned(),
        what,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        Scenario::parse(Path::new("test.toml"), text)
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("name = 'a'\nticks = 5\nlimt = '1MiB'", "limt"),
            (
                "name = 'a'\nticks = 5\n[[observe]]\nat = 1\nkind = 'shout'",
                "line 5",
            ),
            (
                "name = 'a'\nticks = 5\n[[observe]]\nat = 1\nkind = 'text'",
                "needs a `text`",
            ),
            (
                "name = 'a'\nticks = 5\n[[observe]]\nat = 1\nkind = 'sensor'\nsensor = 'x'\nvalue = 1",
                "declared",
            ),
            (
                "name = 'a'\nticks = 5\n[[observe]]\nat = 4\nkind = 'text'\ntext = 'b'\n[[observe]]\nat = 1\nkind = 'text'\ntext = 'b'",
                "order of time",
            ),
            (
                "name = 'a'\nticks = 5\n[[expect]]\nstates = ['awake']",
                "awake",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error} does not say {expected}");
        }
    }
}
