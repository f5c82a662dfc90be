//! The tokens of a request's prompt.

use super::conductor::CoreLoop;
use crate::core::EngineError;
use crate::core::perception::{DecodedMedia, expand};
use crate::core::prompting::Prompting;
use crate::core::request::{ContextKind, Request, RequestContent, RequestKind};
use crate::text::Text;

impl CoreLoop {
    /// What prompts are made with.
    fn prompting(&self) -> Prompting<'_> {
        Prompting {
            text: self.text.as_ref(),
            config: &self.engine.source.config().thinker,
            goal: self.conversation.goal(),
        }
    }

    /// The tokenizer.
    pub(super) fn tokenizer(&self) -> Result<&Text, EngineError> {
        self.prompting().text()
    }

    /// The prompt of a request, its placeholders repeated for what was `sensed`. Of a turn of the conversation it is the least
    /// that it can be: what it continues is found when it begins.
    ///
    /// # Errors
    /// When it is empty, does not fit into the context, or names media that are not there.
    pub(super) fn prompt_of(
        &self,
        request: &Request,
        sensed: Option<&DecodedMedia>,
    ) -> Result<Vec<u32>, EngineError> {
        let answer_tokens = self.answer_tokens(request);
        let capacity = self.capacity_of(request)?;
        let tokens = match &request.content {
            RequestContent::Said { media, text } if request.want == RequestKind::Reading => {
                if request.context == ContextKind::Conversation {
                    // Its first words, and a question about it, must have room.
                    self.turn_alone("?", 0, capacity)?;
                }
                match media.is_empty() {
                    true => self.tokenizer()?.encode_untrusted(text)?,
                    false => self.prompting().places(media)?,
                }
            }
            RequestContent::Said { media, text } if request.spoken => {
                let places = self.prompting().places(media)?;
                let places = self.tokenizer()?.spelled(&places)?;
                let tokens = sensed.map_or(0, |sensed| {
                    let all = sensed.sound_tokens.iter().chain(&sensed.picture_tokens);
                    all.sum()
                });
                self.spoken_prompt(&places, text.trim(), tokens + answer_tokens, capacity)?
            }
            RequestContent::Said { text, .. } if request.context == ContextKind::Conversation => {
                self.turn_alone(text, answer_tokens, capacity)?
            }
            content => self.prompting().tokens(content, &request.tools)?,
        };
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let Some(sensed) = sensed else {
            return self.fitting(tokens, request);
        };
        let tokens = expand(&self.engine.source.config().thinker, &tokens, sensed);
        // Where control tokens are allowed a question may have written out places that nothing is given for.
        self.engine.media_positions(&tokens, &sensed.features)?;
        self.fitting(tokens, request)
    }

    /// Tokens that the answer to a request may have; none where it asks for no answer.
    pub(super) fn answer_tokens(&self, request: &Request) -> usize {
        match request.want {
            RequestKind::Reading => 0,
            RequestKind::Answer | RequestKind::AlarmAnswer => {
                request.max_tokens.unwrap_or(self.policy.answer_tokens)
            }
        }
    }

    /// The prompt, if it has room in the context beside its answer. A text that is read in many chunks needs none: the context is
    /// begun anew when it is full.
    fn fitting(&self, tokens: Vec<u32>, request: &Request) -> Result<Vec<u32>, EngineError> {
        if request.want != RequestKind::Reading || !request.content.media().is_empty() {
            let needed = tokens.len() + self.answer_tokens(request);
            fits(needed, self.capacity_of(request)?)?;
        }
        Ok(tokens)
    }

    /// Tokens of context that a request has, by how its keys and values are kept.
    pub(super) fn capacity_of(&self, request: &Request) -> Result<usize, EngineError> {
        let precision = request.kv.unwrap_or(self.engine.kv_precision());
        self.engine.context_tokens_in(precision)
    }
}

/// Whether so many tokens have room in a context of `capacity`.
pub(super) fn fits(needed: usize, capacity: usize) -> Result<(), EngineError> {
    match needed > capacity {
        true => Err(EngineError::ContextFull { needed, capacity }),
        false => Ok(()),
    }
}
