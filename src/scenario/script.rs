//! A scenario: what happens when, and what is expected to come of it.

use std::collections::BTreeMap;

use sage_actors::protocol::{Modality, State, Tick};

use crate::core::Limit;
use crate::core::perception::senses_of;
use crate::input::{Attributed, Fault, Place, Problem, TextFileError};
use crate::media::medium::Medium;
use crate::sensors::reserve_level;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] TextFileError),
    /// Every mistake in it, in the order of the text.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

impl Attributed for ScenarioError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreadable(_) | Self::Wrong(_) => Fault::Request,
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    shown.join("\n")
}

/// A scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// Memory limit of the process; without one, one is chosen where the model does not fit.
    pub limit: Option<Limit>,
    /// Ticks that it lasts at least; open requests are answered even beyond.
    pub ticks: Tick,
    /// Tokens of context.
    pub context_tokens: usize,
    /// Tokens of a prefill chunk: decisions change only between chunks.
    pub chunk_tokens: usize,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Tokens of one sound or picture at most.
    pub media_tokens: usize,
    /// Where its own keys are written; those that are not hold as they do for all scenarios.
    pub places: BTreeMap<&'static str, Place>,
    /// Declared sensors.
    pub sensors: BTreeMap<String, SensorDeclaration>,
    /// What happens when, in order of time.
    pub observe: Vec<Scripted>,
    /// What is expected.
    pub expect: Vec<Expectation>,
}

/// A sensor: what is normal, and how fine it measures.
#[derive(Clone, Debug, PartialEq)]
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
        self.reserve.map(|reserve| reserve_level(value, reserve))
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Scripted {
    /// When: the first step at or after this tick receives it.
    pub at: Tick,
    /// What.
    pub kind: ScriptedKind,
    /// Where it comes from; texts of one source continue one another.
    pub source: String,
    /// Declared urgency, in [0, 1].
    pub urgency: f32,
    /// Of text, question and alarm; what a `file` contains stands here too.
    pub text: Option<String>,
    /// Of a sensor reading: which sensor.
    pub sensor: Option<String>,
    /// Of a sensor reading, or feedback in [-1, 1].
    pub value: Option<f64>,
    /// Of a limit: the limit.
    pub limit: Option<Limit>,
    /// What is seen and heard, the picture first.
    pub media: Vec<Medium>,
    /// Of text and question: whether it is read into the conversation, or continues it.
    pub conversation: bool,
    /// Of question and alarm: the expected answer, word for word.
    pub expect: Option<String>,
    /// Of question and alarm: how the answer is spoken, if it is.
    pub speak: Option<Speak>,
}

/// In which voice an answer is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speak {
    /// In the one that the run has.
    Default,
    /// In this one.
    As(String),
}

/// Kinds of observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Another memory limit.
    Limit,
    /// Only heard.
    Sound,
    /// Only seen.
    Picture,
}

impl ScriptedKind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Self::Text,
            "question" => Self::Question,
            "alarm" => Self::Alarm,
            "sensor" => Self::Sensor,
            "feedback" => Self::Feedback,
            "limit" => Self::Limit,
            "sound" => Self::Sound,
            "picture" => Self::Picture,
            _ => return None,
        })
    }
}

/// An expectation over the whole run.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// These states are entered in this order; others may lie between. `crisis` is threat or depletion.
    States(Vec<String>),
    /// These states are never entered.
    Never(Vec<String>),
    /// The peak of the resident set stays within every limit that covers the floor.
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
    /// Whether any answer is spoken.
    pub fn speaks(&self) -> bool {
        self.observe.iter().any(|entry| entry.speak.is_some())
    }

    /// What has to be perceived beside words.
    pub fn senses(&self) -> Vec<Modality> {
        senses_of(self.observe.iter().flat_map(|entry| &entry.media))
    }
}
