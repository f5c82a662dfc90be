//! What the salience assessor is told and answers.

use serde::{Deserialize, Serialize};

use super::ids::{Origin, Tick};

/// What the running model measured on one token, given the tokens before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenMeasure {
    /// Negative log-likelihood of the token that came, nats.
    pub nll: f32,
    /// Entropy of the model's prediction before it came, nats.
    pub entropy: f32,
}

/// A finished segment: one observation, or 32 generated tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Read or generated: each has its own baselines.
    pub origin: Origin,
    /// One entry a token that had a prediction before it (the first token of a context has none).
    pub tokens: Vec<TokenMeasure>,
    /// Mean of the final hidden state over the segment's tokens, `[hidden]`.
    pub mean_hidden: Vec<f32>,
    /// Mean over tokens and sparse layers of the router's entropy, normalised by ln E, in [0, 1].
    pub router_entropy: f32,
}

/// One reading of a sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorReading {
    /// The sensor's declared name.
    pub name: String,
    /// The reading in the sensor's own unit.
    pub value: f64,
    /// Declared healthy range, inclusive; a value outside is a threat.
    pub range: Option<(f64, f64)>,
    /// Declared resolution: the noise floor of its surprise.
    pub resolution: f64,
    /// For sensors of a reserve (battery, memory pressure, temperature): what is left, in [0, 1].
    pub level: Option<f64>,
}

impl SensorReading {
    /// Whether it only says how the body is doing: what is left of a reserve, without a range that it could leave.
    /// Such a reading moves the energy and can surprise, but nothing has happened outside: it neither ends the quiet
    /// nor wakes from Dream, or a mind that watches its battery would never dream.
    pub fn is_of_body(&self) -> bool {
        self.level.is_some() && self.range.is_none()
    }
}

/// Everything that reached the loop since the step before (recorded input).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    /// The tick at which this step begins.
    pub tick: Tick,
    /// Ticks since the step before (at least 1 except at the start).
    pub ticks: u32,
    /// Tokens of outside input that arrived.
    pub tokens_in: u32,
    /// Observations that arrived.
    pub events_in: u32,
    /// Greatest urgency declared by the observations that arrived, in [0, 1].
    pub urgency: f32,
    /// Whether an observation of kind alarm arrived or is still unanswered.
    pub alarm: bool,
    /// The segment that was finished in the step before, if one was.
    pub segment: Option<Segment>,
    /// Measure of the last decoded token, if the step before decoded one: raises salience within an answer.
    pub last_token: Option<TokenMeasure>,
    /// Sensor readings that arrived.
    pub sensors: Vec<SensorReading>,
    /// Outside feedback on the last turn, in [-1, 1].
    pub feedback: Option<f32>,
}

/// The five numbers of SNARC, each in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Salience {
    /// How much worse than usual the model predicted, or how far from its course the text went.
    pub surprise: f32,
    /// How unlike everything remembered.
    pub novelty: f32,
    /// How much comes in, or how urgent it is said to be.
    pub arousal: f32,
    /// Feedback, mapped to [0, 1]; 0.5 is neutral.
    pub reward: f32,
    /// How undecided the routers are.
    pub conflict: f32,
}

/// Answer of the salience assessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SalienceReport {
    /// The five numbers of this step.
    pub salience: Salience,
    /// Mean of the five of the last segment, raised in decode by the last token's own surprise: what routers use.
    pub salience_t: f32,
    /// Surprise as routers use it (of the last segment, raised by the last token's own).
    pub surprise_t: f32,
    /// Urgency passed on, in [0, 1].
    pub urgency: f32,
    /// 1 where an alarm stands or a sensor left its declared range, else 0.
    pub threat: f32,
}
