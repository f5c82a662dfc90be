//! A request: what is to be read or answered, and how. Every way into the loop ends in one of these.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sampling::Sampling;
use crate::input::KvPrecision;
use crate::media::medium::{Medium, MediumKind};
use crate::text::Message;
use crate::text::template::{MessageContent, MessagePart};

/// What a request ends with; the greater is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// Nothing: it is only read, heard or seen.
    Reading,
    /// An answer.
    #[default]
    Answer,
    /// An answer to a threat.
    AlarmAnswer,
}

impl RequestKind {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "text",
            Self::Answer => "question",
            Self::AlarmAnswer => "alarm",
        }
    }
}

/// What else is in the model's context when the request is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextKind {
    /// Nothing.
    #[default]
    Own,
    /// What its source was read before.
    Source,
    /// The conversation, which it continues.
    Conversation,
}

/// What is said in a request. Media are in the order of their places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RequestContent {
    /// One message of a user: media, and a text behind them.
    Said {
        /// Sounds and pictures.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        media: Vec<Medium>,
        /// The text.
        text: String,
    },
    /// Messages of a conversation, the last one to be answered. A part `{"type": "image"}` or `{"type": "audio"}` is the place
    /// of the next medium.
    Messages {
        /// In their order.
        messages: Vec<Message>,
        /// Sounds and pictures.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        media: Vec<Medium>,
    },
    /// A text that is continued as it is, without the chat template, behind media.
    Raw {
        /// Sounds and pictures.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        media: Vec<Medium>,
        /// The text.
        text: String,
    },
    /// Token ids, with one placeholder for each medium between its markers; ids without any have media before them.
    Tokens {
        /// Sounds and pictures.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        media: Vec<Medium>,
        /// The ids.
        tokens: Vec<u32>,
    },
}

/// Which tokens end an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model's own.
    #[default]
    Model,
    /// None: only its length ends it.
    Never,
    /// These.
    Tokens(Vec<u32>),
}

/// How an answer is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoiceChoice {
    /// Whose voice; none: the released pipeline's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// Codes at most, the end code included: one more than frames of 80 ms. None: as many as memory is planned for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_codes: Option<usize>,
    /// The most probable code, always; else codes are drawn as the released pipeline draws them, by the request's seed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub greedy: bool,
}

/// What is to be read or answered, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Where it comes from.
    pub source: String,
    /// What it ends with.
    #[serde(default)]
    pub want: RequestKind,
    /// What is said.
    pub content: RequestContent,
    /// What else is in the context.
    #[serde(default)]
    pub context: ContextKind,
    /// What is asked is in a sound: the prompt shows the conversation before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spoken: bool,
    /// Declared urgency, in [0, 1].
    #[serde(default)]
    pub urgency: f32,
    /// Tokens of the answer at most; none: as the loop was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// How tokens are chosen; none: as the loop was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// What ends the answer.
    #[serde(default)]
    pub stop: Stop,
    /// Schemas of the tools that may be called, as OpenAI's API has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// How the answer is spoken; none: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<VoiceChoice>,
    /// How keys and values are kept; none: as the model was opened. What takes more memory than that has room for fewer tokens
    /// of context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvPrecision>,
    /// The loss of what is read is not measured: the mind learns nothing of it, and it is read faster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmeasured: bool,
}

impl Request {
    /// A question of `source` with a context of its own.
    pub fn new(source: impl Into<String>, content: RequestContent) -> Self {
        Self {
            source: source.into(),
            want: RequestKind::Answer,
            content,
            context: ContextKind::Own,
            spoken: false,
            urgency: 0.0,
            max_tokens: None,
            sampling: None,
            stop: Stop::Model,
            tools: Vec::new(),
            voice: None,
            kv: None,
            unmeasured: false,
        }
    }

    /// A question in words.
    pub fn question(source: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(source, RequestContent::said(text))
    }

    /// Messages of a conversation, the last one to be answered.
    pub fn messages(source: impl Into<String>, messages: Vec<Message>) -> Self {
        let media = Vec::new();
        Self::new(source, RequestContent::Messages { messages, media })
    }

    /// The same, its answer spoken.
    #[must_use]
    pub fn spoken_by(mut self, voice: VoiceChoice) -> Self {
        self.voice = Some(voice);
        self
    }

    /// Its name in events: what is only heard or seen is no text.
    pub fn kind(&self) -> &'static str {
        match (self.want, self.content.media().first()) {
            (RequestKind::Reading, Some(medium)) => medium.kind.name(),
            (want, _) => want.name(),
        }
    }

    /// Whether it asks for an answer.
    pub fn is_answered(&self) -> bool {
        self.want != RequestKind::Reading
    }

    /// What is wrong with it; none if it can be read.
    pub fn unsound(&self) -> Option<String> {
        let has_sound = || {
            let mut media = self.content.media().iter();
            media.any(|medium| medium.kind == MediumKind::Sound)
        };
        if self.spoken && !has_sound() {
            return Some("it is to be spoken and has no sound; expected one at least".to_owned());
        }
        let silent = self.content.text().is_some_and(|t| t.trim().is_empty());
        let told = self.want == RequestKind::Reading && self.context == ContextKind::Conversation;
        let is_text =
            matches!(&self.content, RequestContent::Said { media, .. } if media.is_empty());
        if told && (silent || !is_text) {
            let expected = "expected a text that is not empty, without sounds and pictures";
            return Some(format!(
                "it is to be read into the conversation; {expected}"
            ));
        }
        if self.want == RequestKind::AlarmAnswer && silent {
            let expected = "expected a question that is to be answered";
            return Some(format!("an alarm asks nothing; {expected}"));
        }
        if self.max_tokens == Some(0) {
            return Some("max_tokens is 0; expected at least 1".to_owned());
        }
        if self.voice.is_some() && !self.is_answered() {
            return Some(
                "nothing is answered, so nothing can be spoken; expected a question".into(),
            );
        }
        if !(0.0..=1.0).contains(&self.urgency) {
            let urgency = self.urgency;
            return Some(format!(
                "urgency is {urgency}; expected a number from 0 to 1"
            ));
        }
        self.sampling.and_then(|sampling| sampling.unsound())
    }
}

impl RequestContent {
    /// A text.
    pub fn said(text: impl Into<String>) -> Self {
        Self::Said {
            media: Vec::new(),
            text: text.into(),
        }
    }

    /// What was said before, and then a text of a user behind media.
    pub fn behind(mut messages: Vec<Message>, media: Vec<Medium>, text: &str) -> Self {
        messages.push(Message::new("user", parts_of(&media, text)));
        Self::Messages { messages, media }
    }

    /// Sounds and pictures of it.
    pub fn media(&self) -> &[Medium] {
        match self {
            Self::Said { media, .. }
            | Self::Messages { media, .. }
            | Self::Raw { media, .. }
            | Self::Tokens { media, .. } => media,
        }
    }

    /// As [`RequestContent::media`], to put contents in their place.
    pub fn media_mut(&mut self) -> &mut Vec<Medium> {
        match self {
            Self::Said { media, .. }
            | Self::Messages { media, .. }
            | Self::Raw { media, .. }
            | Self::Tokens { media, .. } => media,
        }
    }

    /// What is asked or to be read, in words; none of token ids.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Said { text, .. } | Self::Raw { text, .. } => Some(text.clone()),
            Self::Messages { messages, .. } => messages.last().map(Message::text),
            Self::Tokens { .. } => None,
        }
    }

    /// Bytes of its words, and of its files.
    pub fn len_bytes(&self) -> usize {
        let words = match self {
            Self::Said { text, .. } | Self::Raw { text, .. } => text.len(),
            Self::Messages { messages, .. } => messages.iter().map(|m| m.text().len()).sum(),
            Self::Tokens { tokens, .. } => size_of_val(tokens.as_slice()),
        };
        let files = self.media().iter().map(|medium| medium.bytes().len());
        words + files.sum::<usize>()
    }
}

/// Media and a text behind them, as parts of a message; a text alone stays one.
pub fn parts_of(media: &[Medium], text: &str) -> MessageContent {
    if media.is_empty() {
        return MessageContent::Text(text.to_owned());
    }
    let places = media.iter().map(|medium| match medium.kind {
        MediumKind::Picture => MessagePart::medium("image"),
        MediumKind::Sound => MessagePart::medium("audio"),
    });
    MessageContent::Parts(places.chain([MessagePart::text(text)]).collect())
}
