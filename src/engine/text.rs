//! Text to tokens and back: tokenizer.json and the chat template.

use std::path::PathBuf;

use tokenizers::Tokenizer;

pub use super::template::Message;
use super::template::{ChatTemplate, TemplateArgs, TemplateError, TemplateInput};
use crate::store::WeightSource;

/// Why text cannot be handled.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The model has no tokenizer.
    #[error(
        "the model has no tokenizer.json, so text cannot be turned into tokens: put the model's tokenizer.json beside its config.json"
    )]
    NoTokenizer,
    /// A file of the model is unreadable.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Encoding or decoding failed.
    #[error("the tokenizer refused: {0}")]
    Tokenizer(String),
    /// The template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// An argument of the template is wrong.
    #[error("{0}")]
    TemplateArgument(String),
    /// The tokenizer and the model do not belong together.
    #[error(
        "token id {id} of {what} is beyond the model's vocabulary of {vocabulary}: the tokenizer belongs to another model"
    )]
    BeyondVocabulary {
        /// The id.
        id: u32,
        /// Where it came from.
        what: String,
        /// Size.
        vocabulary: usize,
    },
}

/// Tokenizer and template of one model.
pub struct Text {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    vocabulary: usize,
}

impl Text {
    /// Reads the tokenizer and the chat template (plain ChatML where there is none).
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
        let path = source
            .file("tokenizer.json")
            .ok_or(TextError::NoTokenizer)?;
        let tokenizer = Tokenizer::from_file(&path).map_err(|error| TextError::File {
            path: path.clone(),
            reason: format!("not a tokenizer: {error}"),
        })?;
        let vocabulary = source.config().thinker.text.vocab_size;
        Ok(Self {
            tokenizer,
            template: ChatTemplate::load(source, args)?,
            vocabulary,
        })
    }

    /// Token ids of `text`; special tokens written out in it count as such.
    ///
    /// # Errors
    /// When the tokenizer refuses, or an id is beyond the model's vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| TextError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        match ids.iter().find(|id| **id as usize >= self.vocabulary) {
            Some(id) => Err(TextError::BeyondVocabulary {
                id: *id,
                what: format!("{text:.40?}"),
                vocabulary: self.vocabulary,
            }),
            None => Ok(ids),
        }
    }

    /// Text of token ids; special tokens are left out.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|error| TextError::Tokenizer(error.to_string()))
    }

    /// Token ids in words, special tokens written out: what [`Text::encode`] makes the same ids of.
    ///
    /// # Errors
    /// When the tokenizer has no word for one.
    pub fn spelled(&self, ids: &[u32]) -> Result<String, TextError> {
        let word = |id: &u32| {
            let unknown = || TextError::Tokenizer(format!("it has no word for token {id}"));
            self.tokenizer.id_to_token(*id).ok_or_else(unknown)
        };
        ids.iter().map(word).collect()
    }

    /// The conversation as the model was trained to see it, ready for the assistant to speak.
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

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }
}

/// Text as it comes, token by token: holds back bytes that are not yet a whole character.
///
/// Qwen's tokens are bytes, so what was shown never changes and need not be decoded again.
#[derive(Debug, Default)]
pub struct Stream {
    held: Vec<u32>,
}

impl Stream {
    /// Adds a token and returns what can be shown of it now.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn push(&mut self, text: &Text, id: u32) -> Result<String, TextError> {
        self.held.push(id);
        let shown = text.decode(&self.held)?;
        // An unfinished character decodes to the replacement character; it is shown once it is whole.
        if shown.ends_with('\u{FFFD}') && self.held.len() < MAX_HELD {
            return Ok(String::new());
        }
        self.held.clear();
        Ok(shown)
    }

    /// What is still held back at the end.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn finish(&mut self, text: &Text) -> Result<String, TextError> {
        let shown = text.decode(&self.held)?;
        self.held.clear();
        Ok(shown)
    }
}

/// A character has at most four bytes; more tokens than that without a whole one are garbage to be shown as such.
const MAX_HELD: usize = 8;
