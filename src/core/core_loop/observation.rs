//! What the outside tells the loop.

use sage_actors::protocol::SensorReading;

use crate::core::Limit;
use crate::core::request::{ContextKind, Request, RequestContent, RequestKind, VoiceChoice};
use crate::media::medium::Medium;

/// What the outside tells the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Something that was said, written, heard or seen: to be read, or to be answered.
    Request(Box<Request>),
    /// A sensor's reading.
    Sensor(SensorReading),
    /// Feedback on the last answer, in [-1, 1].
    Feedback(f32),
    /// The memory that there is for the process from now on; a fact, which may be less than what must be there.
    Limit {
        /// Who says so.
        source: String,
        /// How much.
        limit: Limit,
    },
    /// A standing instruction: the system message of the requests that follow, until another takes its place. An empty
    /// text clears it.
    Goal {
        /// Whose.
        source: String,
        /// The instruction.
        text: String,
        /// Declared urgency.
        urgency: f32,
    },
    /// The conversation begins anew: what was said is forgotten, its system message stays.
    Forget {
        /// Who says so.
        source: String,
    },
    /// A request that is no longer wanted: it ends with what there is of its answer.
    Cancel {
        /// Who says so.
        source: String,
        /// Number of the request.
        request: u64,
    },
}

impl From<Request> for Observation {
    fn from(request: Request) -> Self {
        Self::Request(Box::new(request))
    }
}

impl Observation {
    /// A text to read; texts of one source continue one another.
    pub fn text(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from(Request {
            want: RequestKind::Reading,
            context: ContextKind::Source,
            ..Request::question(source, text)
        })
    }

    /// A question that stands for itself.
    pub fn question(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from(Request::question(source, text))
    }

    /// A question that continues the conversation.
    pub fn turn(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from(Request {
            context: ContextKind::Conversation,
            ..Request::question(source, text)
        })
    }

    /// A text that is read into the conversation: the questions that continue it can be about it.
    pub fn told(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from(Request {
            want: RequestKind::Reading,
            context: ContextKind::Conversation,
            ..Request::question(source, text)
        })
    }

    /// A threat that has to be answered.
    pub fn alarm(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from(Request {
            want: RequestKind::AlarmAnswer,
            urgency: 1.0,
            ..Request::question(source, text)
        })
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
        let text = String::new();
        Self::from(Request {
            want: RequestKind::Reading,
            ..Request::new(source, RequestContent::Said { media, text })
        })
    }

    /// The same with a question about it; what is no request stays as it is.
    #[must_use]
    pub fn asking(mut self, question: impl Into<String>) -> Self {
        let question = question.into();
        if let Self::Request(request) = &mut self
            && let RequestContent::Said { text, .. } = &mut request.content
        {
            if request.want == RequestKind::Reading && !question.is_empty() {
                request.want = RequestKind::Answer;
            }
            *text = question;
        }
        self
    }

    /// The same as a question that is in the sound; what is not heard stays as it is.
    #[must_use]
    pub fn speaking(mut self) -> Self {
        if let Some(request) = self.perceived_mut() {
            request.spoken = true;
            request.want = request.want.max(RequestKind::Answer);
        }
        self
    }

    /// The same as a threat that has to be answered; what is not heard or seen stays as it is.
    #[must_use]
    pub fn alarming(mut self) -> Self {
        if let Some(request) = self.perceived_mut() {
            (request.want, request.urgency) = (RequestKind::AlarmAnswer, 1.0);
        }
        self
    }

    /// The same, its answer spoken; what asks for no answer stays as it is.
    #[must_use]
    pub fn spoken_by(mut self, voice: VoiceChoice) -> Self {
        if let Self::Request(request) = &mut self
            && request.is_answered()
        {
            request.voice = Some(voice);
        }
        self
    }

    fn perceived_mut(&mut self) -> Option<&mut Request> {
        match self {
            Self::Request(request) if !request.content.media().is_empty() => Some(request),
            _ => None,
        }
    }

    /// The same, declared to be this urgent; what has no urgency stays as it is.
    #[must_use]
    pub fn urgent(mut self, declared: f32) -> Self {
        match &mut self {
            Self::Request(request) => request.urgency = declared,
            Self::Goal { urgency, .. } => *urgency = declared,
            Self::Sensor(_)
            | Self::Feedback(_)
            | Self::Limit { .. }
            | Self::Cancel { .. }
            | Self::Forget { .. } => {}
        }
        self
    }

    /// The request that it is.
    pub fn request(&self) -> Option<&Request> {
        match self {
            Self::Request(request) => Some(request),
            _ => None,
        }
    }

    /// Sounds and pictures of it.
    pub fn media(&self) -> &[Medium] {
        self.request()
            .map_or(&[], |request| request.content.media())
    }

    /// As [`Observation::media`], to put contents in their place.
    pub fn media_mut(&mut self) -> &mut [Medium] {
        match self {
            Self::Request(request) => request.content.media_mut(),
            _ => &mut [],
        }
    }

    /// Its name in events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request(request) => request.kind(),
            Self::Sensor(_) => "sensor",
            Self::Feedback(_) => "feedback",
            Self::Limit { .. } => "limit",
            Self::Goal { .. } => "goal",
            Self::Cancel { .. } => "cancel",
            Self::Forget { .. } => "forget",
        }
    }

    /// Where it comes from; of a sensor's reading its name, of feedback nothing.
    pub fn source(&self) -> &str {
        match self {
            Self::Request(request) => &request.source,
            Self::Limit { source, .. }
            | Self::Goal { source, .. }
            | Self::Cancel { source, .. }
            | Self::Forget { source } => source,
            Self::Sensor(reading) => &reading.name,
            Self::Feedback(_) => "",
        }
    }

    /// Declared urgency, in [0, 1]; 0 where none can be declared.
    pub fn urgency(&self) -> f32 {
        match self {
            Self::Request(request) => request.urgency,
            Self::Goal { urgency, .. } => *urgency,
            Self::Sensor(_)
            | Self::Feedback(_)
            | Self::Limit { .. }
            | Self::Cancel { .. }
            | Self::Forget { .. } => 0.0,
        }
    }

    /// What it says in words, where it says something in words.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Request(request) => {
                let perceives = !request.content.media().is_empty();
                let text = request.content.text();
                text.filter(|text| !perceives || !text.is_empty())
            }
            Self::Goal { text, .. } => Some(text.clone()),
            Self::Sensor(_)
            | Self::Feedback(_)
            | Self::Limit { .. }
            | Self::Cancel { .. }
            | Self::Forget { .. } => None,
        }
    }

    /// Bytes of its words, and of its files.
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Request(request) => request.content.len_bytes(),
            Self::Goal { text, .. } => text.len(),
            Self::Sensor(_)
            | Self::Feedback(_)
            | Self::Limit { .. }
            | Self::Cancel { .. }
            | Self::Forget { .. } => 0,
        }
    }

    /// Whether it asks for an answer.
    pub fn is_request(&self) -> bool {
        self.request().is_some_and(Request::is_answered)
    }

    /// Whether it is a threat, which does not wait for what is being read: an alarm, or a sensor outside its range.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Request(request) => request.want == RequestKind::AlarmAnswer,
            Self::Sensor(reading) => reading.is_out_of_range(),
            _ => false,
        }
    }

    /// Whether it only says how the body is doing: nothing has happened outside.
    pub(super) fn is_of_body(&self) -> bool {
        match self {
            Self::Sensor(reading) => reading.is_of_body(),
            Self::Limit { .. } | Self::Forget { .. } => true,
            _ => false,
        }
    }

    /// What is wrong with it; none if it is as it should be.
    pub fn unsound(&self) -> Option<String> {
        match self {
            Self::Feedback(value) => (!(-1.0..=1.0).contains(value))
                .then(|| format!("feedback is {value}; expected a number from -1 to 1")),
            Self::Sensor(reading) => unsound_reading(reading),
            Self::Request(request) => request.unsound(),
            Self::Goal { urgency, .. } => (!(0.0..=1.0).contains(urgency))
                .then(|| format!("urgency is {urgency}; expected a number from 0 to 1")),
            Self::Limit { .. } | Self::Cancel { .. } | Self::Forget { .. } => None,
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
