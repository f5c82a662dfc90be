//! What the salience assessor is told and answers.

use serde::{Deserialize, Serialize};

use super::ids::{Modality, Tick, TokenOrigin};

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
    pub origin: TokenOrigin,
    /// One entry a token that had a prediction before it (the first token of a context has none).
    pub tokens: Vec<TokenMeasure>,
    /// Mean of the final hidden state over the segment's tokens, `[hidden]`.
    pub mean_hidden: Vec<f32>,
    /// Mean over tokens and sparse layers of the router's entropy, normalised by ln E, in [0, 1].
    pub router_entropy: f32,
    /// A context began with it or within it: what was before was forgotten, so that it is predicted from less.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins_context: bool,
    /// What was heard or seen in it, a part a modality. The fields above are then of its words alone, and empty where
    /// there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perceived: Vec<Perceived>,
    /// Where something was perceived: how often each expert was chosen for the words, over all sparse layers, as shares
    /// that sum to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experts: Vec<f32>,
}

/// The part of a segment that was heard or seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perceived {
    /// By which sense.
    pub modality: Modality,
    /// Mean of the final hidden state over its tokens, `[hidden]`.
    pub mean_hidden: Vec<f32>,
    /// Mean over its tokens and the sparse layers of the router's entropy, normalised by ln E, in [0, 1].
    pub router_entropy: f32,
    /// How often each expert was chosen for it, as [`Segment::experts`].
    pub experts: Vec<f32>,
    /// Surprise that its stimulus was as it arrived.
    pub surprise: f32,
    /// Arousal likewise.
    pub arousal: f32,
}

/// What a sound or a picture is like as it arrives: known before the model has perceived it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stimulus {
    /// By which sense.
    pub modality: Modality,
    /// How strong it is, in the sense's own unit: loudness in dB, mean brightness.
    pub level: f64,
    /// Differences of level below this mean nothing.
    pub resolution: f64,
    /// What it is like apart from its strength: a mean spectrum, a histogram of colours. Of one length a modality.
    pub character: Vec<f32>,
    /// Mean absolute differences of character below this mean nothing.
    pub character_resolution: f64,
    /// Declared urgency of the observation that it came with, in [0, 1].
    pub urgency: f32,
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

    /// Whether it lies outside its declared healthy range, which is a threat; what is no number lies outside of any.
    pub fn is_out_of_range(&self) -> bool {
        let outside = |(low, high): (f64, f64)| !(low..=high).contains(&self.value);
        self.range.is_some_and(outside)
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
    /// Sounds and pictures that arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stimuli: Vec<Stimulus>,
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

/// Salience of one modality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModalSalience {
    /// The five numbers of this step: 0 (reward: neutral) where nothing of the modality arrived or was finished.
    pub salience: Salience,
    /// Mean of the five of its last segment, or of what is known of the one that has just arrived.
    pub salience_t: f32,
    /// Surprise likewise.
    pub surprise_t: f32,
}

/// Salience by modality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Senses {
    /// Of words.
    pub text: ModalSalience,
    /// Of sounds, once there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<ModalSalience>,
    /// Of pictures, once there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<ModalSalience>,
}

impl Senses {
    /// Of one modality; none where nothing of it was ever perceived.
    pub fn of(&self, modality: Modality) -> Option<ModalSalience> {
        match modality {
            Modality::Text => Some(self.text),
            Modality::Audio => self.audio,
            Modality::Vision => self.vision,
        }
    }
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
    /// By modality; none while only words were ever perceived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub senses: Option<Senses>,
}
