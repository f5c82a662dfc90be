//! Why text cannot be handled.

use crate::input::{Attributed, Fault};
use std::path::PathBuf;

use super::template::TemplateError;

/// Why text cannot be handled.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The model has no tokenizer.
    #[error(
        "the model has no tokenizer.json, and no vocab.json with merges.txt, so text cannot be turned into tokens: put the model's tokenizer.json, or these two and tokenizer_config.json, beside its config.json"
    )]
    NoTokenizer,
    /// A file of the model is unreadable.
    #[error("{}: {reason}", path.display())]
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
    /// It is not known which control tokens of a prompt are the template's.
    #[error(
        "the chat template changes what the messages say in a way that hides which control tokens (<|…|>) are its own: leave them out of the text, or take them all for control tokens (--allow-control-tokens)"
    )]
    Obscured,
    /// A control token that is not made of other tokens.
    #[error(
        "the control token {0} is spelled in a text, and the vocabulary has no other tokens for its letters: leave it out, or take it for a control token (--allow-control-tokens)"
    )]
    NoPlainSpelling(String),
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

impl Attributed for TextError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoTokenizer
            | Self::File { .. }
            | Self::Tokenizer(_)
            | Self::Template(_)
            | Self::TemplateArgument(_)
            | Self::Obscured
            | Self::NoPlainSpelling(_)
            | Self::BeyondVocabulary { .. } => Fault::Request,
        }
    }
}
