//! What a model reads of a request's content: the chat template around it, and a place for each of its media.

use serde_json::{Map, Value};

use super::EngineError;
use super::perception::placeholder;
use super::request::{RequestContent, parts_of};
use crate::checkpoint::config::ThinkerConfig;
use crate::media::medium::{Medium, MediumKind};
use crate::text::prompt::{OwnText, Prompt};
use crate::text::template::{MessageContent, MessagePart};
use crate::text::{Message, Text, TextError};

/// What prompts are made with.
#[derive(Clone, Copy)]
pub struct Prompting<'a> {
    /// Tokenizer and template; none where the model has none.
    pub text: Option<&'a Text>,
    /// Ids of placeholders.
    pub config: &'a ThinkerConfig,
    /// The system message of conversations that have none.
    pub goal: Option<&'a str>,
}

impl<'a> Prompting<'a> {
    /// The tokenizer.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`] where the model has none.
    pub fn text(&self) -> Result<&'a Text, EngineError> {
        self.text.ok_or(EngineError::Text(TextError::NoTokenizer))
    }

    /// One placeholder with its markers for each medium.
    ///
    /// # Errors
    /// When the model does not perceive such.
    pub fn places(&self, media: &[Medium]) -> Result<Vec<u32>, EngineError> {
        let mut places = Vec::new();
        for medium in media {
            places.extend(placeholder(self.config, medium.kind)?);
        }
        Ok(places)
    }

    /// The prompt as the chat template writes it; none of what is read without one.
    ///
    /// # Errors
    /// When there is nothing to answer, media and their places do not match, or the template does not render.
    pub fn prompt(
        &self,
        content: &RequestContent,
        tools: &[Value],
    ) -> Result<Option<Prompt>, EngineError> {
        let (mut messages, mut own) = match content {
            RequestContent::Said { media, text } => {
                if text.trim().is_empty() {
                    return Err(EngineError::EmptyPrompt);
                }
                let parts = parts_of(media, text);
                self.spelled(&[Message::new("user", parts)], media)?
            }
            RequestContent::Messages { messages, media } => self.spelled(messages, media)?,
            RequestContent::Raw { .. } | RequestContent::Tokens { .. } => return Ok(None),
        };
        let has_system = messages.first().is_some_and(|first| first.role == "system");
        if let Some(goal) = self.goal.filter(|_| !has_system) {
            messages.insert(0, Message::new("system", goal));
            own.iter_mut().for_each(|(message, _)| *message += 1);
        }
        let own = own.into_iter().map(|(message, ranges)| OwnText {
            pointer: format!("/messages/{message}/content"),
            ranges,
        });
        let own: Vec<OwnText> = own.collect();
        let prompt = self.text()?.prompt_with_tools(&messages, tools, &own)?;
        Ok(Some(prompt))
    }

    /// Token ids of the prompt, each placeholder once.
    ///
    /// # Errors
    /// As [`Prompting::prompt`], and what the tokenizer refuses.
    pub fn tokens(
        &self,
        content: &RequestContent,
        tools: &[Value],
    ) -> Result<Vec<u32>, EngineError> {
        if let Some(prompt) = self.prompt(content, tools)? {
            return Ok(self.text()?.encode_prompt(&prompt)?);
        }
        let said = match content {
            RequestContent::Raw { text, .. } => self.text()?.encode_untrusted(text)?,
            // Who writes ids may write the places of media among them.
            RequestContent::Tokens { tokens, .. } if self.has_places(tokens) => {
                return Ok(tokens.clone());
            }
            RequestContent::Tokens { tokens, .. } => tokens.clone(),
            RequestContent::Said { .. } | RequestContent::Messages { .. } => Vec::new(),
        };
        Ok([self.places(content.media())?, said].concat())
    }

    /// Whether a placeholder of a medium is among these.
    fn has_places(&self, tokens: &[u32]) -> bool {
        let config = self.config;
        let pads = [
            config.image_token_id,
            config.video_token_id,
            config.audio_token_id,
        ];
        tokens.iter().any(|token| pads.contains(&Some(*token)))
    }

    /// Tokens of the prompt with every placeholder repeated for what was `sensed`.
    ///
    /// # Errors
    /// As [`Prompting::tokens`].
    #[cfg(feature = "cli")]
    pub fn expanded_tokens(
        &self,
        content: &RequestContent,
        tools: &[Value],
        sensed: Option<&super::perception::DecodedMedia>,
    ) -> Result<Vec<u32>, EngineError> {
        let tokens = self.tokens(content, tools)?;
        Ok(match sensed {
            Some(sensed) => super::perception::expand(self.config, &tokens, sensed),
            None => tokens,
        })
    }

    /// The messages with the places of media spelled out in their texts, and where in which message that is: what the program
    /// writes is not what somebody said.
    #[allow(clippy::type_complexity)] // two lists that belong together for the length of one call
    fn spelled(
        &self,
        messages: &[Message],
        media: &[Medium],
    ) -> Result<(Vec<Message>, Vec<(usize, Vec<std::ops::Range<usize>>)>), EngineError> {
        let mut places = media.iter();
        let (mut spelled, mut own) = (Vec::with_capacity(messages.len()), Vec::new());
        for (at, message) in messages.iter().enumerate() {
            let Some(MessageContent::Parts(parts)) = &message.content else {
                spelled.push(message.clone());
                continue;
            };
            let (mut text, mut ranges) = (String::new(), Vec::new());
            for part in parts {
                match part {
                    MessagePart::Text { text: said, .. } => text += said,
                    MessagePart::Other(fields) => {
                        let kind = medium_kind(fields)?;
                        let medium = places.next().filter(|medium| medium.kind == kind);
                        let medium = medium.ok_or_else(|| out_of_order(at, kind))?;
                        let place = self.places(std::slice::from_ref(medium))?;
                        let place = self.text()?.spelled(&place)?;
                        ranges.push(text.len()..text.len() + place.len());
                        text += &place;
                    }
                }
            }
            own.push((at, ranges));
            spelled.push(Message {
                content: Some(MessageContent::Text(text)),
                ..message.clone()
            });
        }
        if places.next().is_some() {
            let problem = "there are more sounds and pictures than places for them in the messages";
            return Err(EngineError::Unsound(problem.to_owned()));
        }
        Ok((spelled, own))
    }
}

/// What a part of a message stands for that is no text.
fn medium_kind(fields: &Map<String, Value>) -> Result<MediumKind, EngineError> {
    match fields.get("type").and_then(Value::as_str) {
        Some("image") => Ok(MediumKind::Picture),
        Some("audio") => Ok(MediumKind::Sound),
        kind => Err(EngineError::Unsound(format!(
            "a part of a message is of type {}; expected text, image or audio",
            kind.unwrap_or("(none)")
        ))),
    }
}

fn out_of_order(message: usize, kind: MediumKind) -> EngineError {
    EngineError::Unsound(format!(
        "message {message} has a place for a {}, but that is not what comes next; expected media in the order of their places",
        kind.name()
    ))
}
