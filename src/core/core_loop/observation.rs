//! Observations by what they are.

use sage_actors::protocol::SensorReading;

use super::Observation;
use crate::media::medium::{Medium, MediumKind};

impl Observation {
    /// A text to read; texts of one source continue one another.
    pub fn text(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Text {
            source: source.into(),
            text: text.into(),
            urgency: 0.0,
        }
    }

    /// A question that stands for itself.
    pub fn question(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Question {
            source: source.into(),
            text: text.into(),
            urgency: 0.0,
        }
    }

    /// A question that continues the conversation.
    pub fn turn(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Turn {
            source: source.into(),
            text: text.into(),
            urgency: 0.0,
        }
    }

    /// A threat that has to be answered.
    pub fn alarm(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Alarm {
            source: source.into(),
            text: text.into(),
            urgency: 1.0,
        }
    }

    /// A standing instruction; an empty text clears it.
    pub fn goal(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Goal {
            source: source.into(),
            text: text.into(),
            urgency: 0.0,
        }
    }

    /// A sound that is only heard, unless something is asked about it: [`Observation::asking`].
    pub fn heard(source: impl Into<String>, sound: Medium) -> Self {
        Self::sensed(source, vec![sound])
    }

    /// A picture that is only seen, unless something is asked about it: [`Observation::asking`].
    pub fn seen(source: impl Into<String>, picture: Medium) -> Self {
        Self::sensed(source, vec![picture])
    }

    /// Several sounds and pictures, perceived in this order.
    pub fn sensed(source: impl Into<String>, media: Vec<Medium>) -> Self {
        Self::Sensed {
            source: source.into(),
            media,
            text: String::new(),
            spoken: false,
            alarm: false,
            urgency: 0.0,
        }
    }

    /// The same with a question about it; what is not heard or seen stays as it is.
    #[must_use]
    pub fn asking(mut self, question: impl Into<String>) -> Self {
        if let Self::Sensed { text, .. } = &mut self {
            *text = question.into();
        }
        self
    }

    /// The same as a question that is in the sound; what is not heard stays as it is.
    #[must_use]
    pub fn speaking(mut self) -> Self {
        if let Self::Sensed { spoken, .. } = &mut self {
            *spoken = true;
        }
        self
    }

    /// The same as a threat that has to be answered; what is not heard or seen stays as it is.
    #[must_use]
    pub fn alarming(mut self) -> Self {
        if let Self::Sensed { alarm, urgency, .. } = &mut self {
            (*alarm, *urgency) = (true, 1.0);
        }
        self
    }

    /// Sounds and pictures of it.
    pub fn media(&self) -> &[Medium] {
        match self {
            Self::Sensed { media, .. } => media,
            _ => &[],
        }
    }

    /// As [`Observation::media`], to put contents in their place.
    pub fn media_mut(&mut self) -> &mut [Medium] {
        match self {
            Self::Sensed { media, .. } => media,
            _ => &mut [],
        }
    }

    /// The same, declared to be this urgent; what has no urgency stays as it is.
    #[must_use]
    pub fn urgent(mut self, declared: f32) -> Self {
        match &mut self {
            Self::Text { urgency, .. }
            | Self::Question { urgency, .. }
            | Self::Turn { urgency, .. }
            | Self::Alarm { urgency, .. }
            | Self::Sensed { urgency, .. }
            | Self::Goal { urgency, .. } => *urgency = declared,
            Self::Sensor(_) | Self::Feedback(_) | Self::Limit { .. } => {}
        }
        self
    }

    /// Its name in events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Question { .. } | Self::Turn { .. } => "question",
            Self::Alarm { .. } => "alarm",
            Self::Sensed { alarm: true, .. } => "alarm",
            Self::Sensed { spoken: true, .. } => "question",
            Self::Sensed { text, .. } if !text.is_empty() => "question",
            Self::Sensed { media, .. } => media.first().map_or("sound", |m| m.kind.name()),
            Self::Sensor(_) => "sensor",
            Self::Feedback(_) => "feedback",
            Self::Limit { .. } => "limit",
            Self::Goal { .. } => "goal",
        }
    }

    /// Where it comes from; of a sensor's reading its name, of feedback nothing.
    pub fn source(&self) -> &str {
        match self {
            Self::Text { source, .. }
            | Self::Question { source, .. }
            | Self::Turn { source, .. }
            | Self::Alarm { source, .. }
            | Self::Sensed { source, .. }
            | Self::Limit { source, .. }
            | Self::Goal { source, .. } => source,
            Self::Sensor(reading) => &reading.name,
            Self::Feedback(_) => "",
        }
    }

    /// Declared urgency, in [0, 1]; 0 where none can be declared.
    pub fn urgency(&self) -> f32 {
        match self {
            Self::Text { urgency, .. }
            | Self::Question { urgency, .. }
            | Self::Turn { urgency, .. }
            | Self::Alarm { urgency, .. }
            | Self::Sensed { urgency, .. }
            | Self::Goal { urgency, .. } => *urgency,
            Self::Sensor(_) | Self::Feedback(_) | Self::Limit { .. } => 0.0,
        }
    }

    /// What it says in words, where it says something in words.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. }
            | Self::Question { text, .. }
            | Self::Turn { text, .. }
            | Self::Alarm { text, .. }
            | Self::Goal { text, .. } => Some(text),
            Self::Sensed { text, .. } => (!text.is_empty()).then_some(text.as_str()),
            Self::Sensor(_) | Self::Feedback(_) | Self::Limit { .. } => None,
        }
    }

    /// Whether it asks for an answer.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Question { .. } | Self::Turn { .. } | Self::Alarm { .. }
        ) || self.asks_about_media()
    }

    /// Whether it is a threat, which does not wait for what is being read: an alarm, or a sensor outside its range.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Alarm { .. } | Self::Sensed { alarm: true, .. } => true,
            Self::Sensor(reading) => reading.is_out_of_range(),
            _ => false,
        }
    }

    fn asks_about_media(&self) -> bool {
        matches!(self, Self::Sensed { text, spoken, .. } if *spoken || !text.is_empty())
    }

    /// Whether it only says how the body is doing: nothing has happened outside.
    pub(super) fn is_of_body(&self) -> bool {
        match self {
            Self::Sensor(reading) => reading.is_of_body(),
            Self::Limit { .. } => true,
            _ => false,
        }
    }

    /// What is wrong with its numbers; none if they are as they should be.
    pub fn unsound(&self) -> Option<String> {
        match self {
            Self::Feedback(value) => (!(-1.0..=1.0).contains(value))
                .then(|| format!("feedback is {value}; expected a number from -1 to 1")),
            Self::Sensor(reading) => unsound_reading(reading),
            Self::Sensed { media, .. } if media.is_empty() => {
                Some("it has neither a sound nor a picture; expected one at least".to_owned())
            }
            Self::Sensed {
                media,
                spoken: true,
                ..
            } if media.iter().all(|medium| medium.kind != MediumKind::Sound) => {
                Some("it is to be spoken and has no sound; expected one at least".to_owned())
            }
            Self::Sensed {
                alarm: true, text, ..
            } if text.trim().is_empty() => {
                Some("an alarm asks nothing; expected a question that is to be answered".to_owned())
            }
            _ => {
                let urgency = self.urgency();
                (!(0.0..=1.0).contains(&urgency))
                    .then(|| format!("urgency is {urgency}; expected a number from 0 to 1"))
            }
        }
    }
}

fn unsound_reading(reading: &SensorReading) -> Option<String> {
    let SensorReading {
        name,
        value,
        range,
        resolution,
        level,
    } = reading;
    if !value.is_finite() {
        return Some(format!(
            "the reading of {name} is {value}; expected a finite number"
        ));
    }
    if !(resolution.is_finite() && *resolution > 0.0) {
        return Some(format!(
            "the resolution of {name} is {resolution}; expected a number above 0"
        ));
    }
    if let Some(level) = level.filter(|level| !(0.0..=1.0).contains(level)) {
        return Some(format!(
            "the level of {name} is {level}; expected a number from 0 to 1"
        ));
    }
    let (low, high) = range.unwrap_or_default();
    if low.is_nan() || high.is_nan() || low > high {
        return Some(format!(
            "the range of {name} is {low} to {high}; expected the lower end first"
        ));
    }
    None
}
