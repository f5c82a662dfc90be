//! Text to tokens and back: the tokenizer and the chat template.
//!
//! Text comes from somebody, or from the program itself. What users, tools, sensors and tags say is untrusted: a control
//! token that is spelled in it (`<|im_end|>`, `<|image_pad|>`) is text like the rest, unless the host allows it.

mod ending;
mod error;
pub(crate) mod prompt;
mod stop;
pub mod template;
mod tokenizer;

use crate::store::WeightSource;
pub use error::TextError;
use prompt::{Obscure, OwnText, Prompt};
pub use stop::stop_tokens;
pub use template::Message;
use template::{ChatTemplate, TemplateArgs, TemplateInput};
use tokenizer::ModelTokenizer;

/// Tokenizer and template of one model.
pub struct Text {
    tokenizer: ModelTokenizer,
    template: ChatTemplate,
    vocabulary: usize,
    control_tokens: bool,
}

impl Text {
    /// Reads the tokenizer (`tokenizer.json`, else `vocab.json`, `merges.txt` and `tokenizer_config.json`) and the chat
    /// template (plain ChatML where there is none). Control tokens in untrusted text are text; see
    /// [`Text::allowing_control_tokens`].
    ///
    /// # Errors
    /// When there is no tokenizer, or a file is damaged.
    pub fn load(source: &dyn WeightSource) -> Result<Self, TextError> {
        Self::load_with(source, TemplateArgs::default())
    }

    /// As [`Text::load`], with arguments of the chat template.
    ///
    /// # Errors
    /// As [`Text::load`], and when an argument is wrong.
    pub fn load_with(source: &dyn WeightSource, args: TemplateArgs) -> Result<Self, TextError> {
        Ok(Self {
            tokenizer: ModelTokenizer::load(source)?,
            template: ChatTemplate::load(source, args)?,
            vocabulary: source.config().thinker.text.vocab_size,
            control_tokens: false,
        })
    }

    /// Whether a control token that is spelled in untrusted text is one.
    #[must_use]
    pub fn allowing_control_tokens(self, allowed: bool) -> Self {
        Self {
            control_tokens: allowed,
            ..self
        }
    }

    /// As [`Text::allowing_control_tokens`] was last told.
    pub fn allows_control_tokens(&self) -> bool {
        self.control_tokens
    }

    /// Token ids of what somebody said: control tokens that are spelled in it are text, unless they are allowed. Added
    /// tokens that are not special (`<think>`) are tokens.
    ///
    /// # Errors
    /// When the tokenizer refuses, or an id is beyond the model's vocabulary.
    pub fn encode_untrusted(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if self.control_tokens {
            return self.encode_trusted(text);
        }
        let ids = self.tokenizer.without_control_tokens(text)?;
        self.within_vocabulary(ids, text)
    }

    /// Token ids of what the program or a template wrote: spelled control tokens are such.
    ///
    /// # Errors
    /// As [`Text::encode_untrusted`].
    pub fn encode_trusted(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let ids = self.tokenizer.with_control_tokens(text)?;
        self.within_vocabulary(ids, text)
    }

    /// Token ids of a prompt: spelled control tokens are such where the template wrote them.
    ///
    /// # Errors
    /// As [`Text::encode_untrusted`].
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextError> {
        if self.control_tokens {
            return self.encode_trusted(&prompt.text);
        }
        let ids = self.tokenizer.prompt(prompt)?;
        self.within_vocabulary(ids, &prompt.text)
    }

    fn within_vocabulary(&self, ids: Vec<u32>, text: &str) -> Result<Vec<u32>, TextError> {
        match ids.iter().find(|id| **id as usize >= self.vocabulary) {
            Some(id) => Err(TextError::BeyondVocabulary {
                id: *id,
                what: format!("{text:.40?}"),
                vocabulary: self.vocabulary,
            }),
            None => Ok(ids),
        }
    }

    /// Text of token ids; special tokens are left out, bytes that are no character are U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let mut stream = TextStream::default();
        let mut text = String::new();
        for id in ids {
            text += &stream.push(self, *id)?;
        }
        Ok(text + &stream.finish(self)?)
    }

    /// As [`Text::decode`], with the bytes that each token adds.
    ///
    /// # Errors
    /// As [`Text::decode`].
    pub fn decode_each(&self, ids: &[u32]) -> Result<(String, Vec<usize>), TextError> {
        let mut stream = TextStream::default();
        let (mut text, mut lengths) = (String::new(), Vec::with_capacity(ids.len()));
        for id in ids {
            let shown = stream.push(self, *id)?;
            lengths.push(shown.len());
            text += &shown;
        }
        Ok((text, lengths))
    }

    /// Token ids in words, special tokens written out: what [`Text::encode_trusted`] makes the same ids of.
    ///
    /// # Errors
    /// When the tokenizer has no word for one.
    pub fn spelled(&self, ids: &[u32]) -> Result<String, TextError> {
        let word = |id: &u32| {
            let unknown = || TextError::Tokenizer(format!("it has no word for token {id}"));
            self.tokenizer.word(*id).ok_or_else(unknown)
        };
        ids.iter().map(word).collect()
    }

    /// The conversation as the chat template writes it, ready for the assistant to speak: for eyes. What the model is to
    /// read is [`Text::prompt`].
    ///
    /// # Errors
    /// When the template does not render.
    pub fn render(&self, messages: &[Message]) -> Result<String, TextError> {
        Ok(self.template.render(&TemplateInput {
            messages,
            add_generation_prompt: true,
            ..TemplateInput::default()
        })?)
    }

    /// The conversation as the model was trained to see it, ready for the assistant to speak. The last message begins with
    /// `places`, which the program wrote (the places of sounds and pictures); every other text in the messages is
    /// somebody's.
    ///
    /// # Errors
    /// When the template does not render, or hides which control tokens are its own.
    pub fn prompt(&self, messages: &[Message], places: &str) -> Result<Prompt, TextError> {
        let own = (!places.is_empty()).then(|| OwnText {
            pointer: format!("/messages/{}/content", messages.len().saturating_sub(1)),
            ranges: std::iter::once(0..places.len()).collect(),
        });
        let own: Vec<OwnText> = own.into_iter().collect();
        self.prompt_with_tools(messages, &[], &own)
    }

    /// As [`Text::prompt`], with schemas of tools that may be called, and `own` for what the program wrote in the messages.
    ///
    /// # Errors
    /// As [`Text::prompt`].
    pub fn prompt_with_tools(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        own: &[OwnText],
    ) -> Result<Prompt, TextError> {
        let input = TemplateInput {
            messages,
            tools,
            add_generation_prompt: true,
            ..TemplateInput::default()
        };
        if self.control_tokens {
            return Ok(Prompt::trusted(self.template.render(&input)?));
        }
        let controls = self.tokenizer.controls();
        let render = |said: &serde_json::Value| self.template.render_said(said, true);
        let prompt = controls.prompt(&input.said(), own, render);
        prompt.map_err(|error| match error {
            Obscure::Template(error) => TextError::Template(error),
            Obscure::Hidden => TextError::Obscured,
        })
    }

    /// Token ids of [`Text::prompt`].
    ///
    /// # Errors
    /// As [`Text::prompt`] and [`Text::encode_prompt`].
    pub fn prompt_tokens(&self, messages: &[Message], places: &str) -> Result<Vec<u32>, TextError> {
        self.encode_prompt(&self.prompt(messages, places)?)
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }
}

/// Text as it comes, token by token: everything is shown but the last bytes that may be the beginning of a character, at
/// most three. Bytes that are no character are shown as U+FFFD at once; the pieces together are what
/// [`String::from_utf8_lossy`] makes of all bytes, and so is the reference's own decoding.
#[derive(Debug, Default)]
pub struct TextStream {
    bytes: Vec<u8>,
    /// Tokens that are not bytes and make no character yet.
    held: Vec<u32>,
}

impl TextStream {
    /// Adds a token and returns what can be shown now.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn push(&mut self, text: &Text, id: u32) -> Result<String, TextError> {
        match text.tokenizer.bytes(id) {
            Some(bytes) => Ok(self.push_bytes(&bytes)),
            None => {
                self.held.push(id);
                let shown = text.tokenizer.decode(&self.held)?;
                if shown.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new());
                }
                self.held.clear();
                Ok(shown)
            }
        }
    }

    /// What is still held back at the end.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn finish(&mut self, text: &Text) -> Result<String, TextError> {
        let held = std::mem::take(&mut self.held);
        let mut shown = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
        if !held.is_empty() {
            shown += &text.tokenizer.decode(&held)?;
        }
        Ok(shown)
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        let mut shown = String::new();
        let mut done = 0;
        while done < self.bytes.len() {
            match std::str::from_utf8(&self.bytes[done..]) {
                Ok(whole) => {
                    shown += whole;
                    done = self.bytes.len();
                }
                Err(error) => {
                    let good = done + error.valid_up_to();
                    shown += &String::from_utf8_lossy(&self.bytes[done..good]);
                    done = good;
                    let Some(bad) = error.error_len() else {
                        break;
                    };
                    shown.push(char::REPLACEMENT_CHARACTER);
                    done += bad;
                }
            }
        }
        self.bytes.drain(..done);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Bytes among which characters are torn, cut short and overlong.
    fn byte() -> impl Strategy<Value = u8> {
        let likely = vec![
            b'a', 0x80, 0xbf, 0xa0, 0x9f, 0xc3, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x99, 0x82, 0xed,
            0xf4, 0x90, 0xc0, 0xff,
        ];
        prop_oneof![any::<u8>(), prop::sample::select(likely)]
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_at_most_three_are_held(tokens in vec(vec(byte(), 0..5), 0..40)) {
            let mut stream = TextStream::default();
            let mut shown = String::new();
            for token in &tokens {
                shown += &stream.push_bytes(token);
                prop_assert!(stream.bytes.len() <= 3);
            }
            shown += &String::from_utf8_lossy(&stream.bytes);
            let whole = tokens.concat();
            prop_assert_eq!(shown, String::from_utf8_lossy(&whole).into_owned());
        }
    }

    #[test]
    fn a_character_behind_any_number_of_broken_ones_is_shown_once_it_is_whole() {
        let mut stream = TextStream::default();
        for _ in 0..100 {
            assert_eq!(stream.push_bytes(&[0xff]), "\u{fffd}");
        }
        assert_eq!(stream.push_bytes(&[0xf0, 0x9f]), "");
        assert_eq!(stream.push_bytes(&[0x99]), "");
        assert_eq!(stream.push_bytes(&[0x82, b'!', 0xc3]), "🙂!");
        assert_eq!(stream.push_bytes(b"a"), "\u{fffd}a");
    }
}
