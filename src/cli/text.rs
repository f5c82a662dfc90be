//! How every command that takes text reads it.

use clap::Args;

use super::CliError;
use crate::core::EngineError;
use crate::store::WeightSource;
use crate::text::Text;

/// Options of every command that takes text.
#[derive(Args, Clone, Debug, Default)]
pub struct TextArgs {
    /// Control tokens that are spelled out in text (<|im_end|>, <|image_pad|>) are such; without it they are text like the rest
    #[arg(long)]
    pub allow_control_tokens: bool,
}

impl TextArgs {
    /// The tokenizer and the template of a model.
    pub fn load(&self, source: &dyn WeightSource) -> Result<Text, CliError> {
        let text = Text::load(source).map_err(EngineError::from)?;
        Ok(text.allowing_control_tokens(self.allow_control_tokens))
    }
}

/// Token ids as `--prompt-tokens` has them, with commas or spaces between.
pub fn token_ids(ids: &str) -> Result<Vec<u32>, CliError> {
    let ids = ids.split(|c: char| c == ',' || c.is_whitespace());
    ids.filter(|id| !id.is_empty())
        .map(|id| {
            id.parse()
                .map_err(|_| CliError::request(format!("`{id}` in --prompt-tokens is no token id")))
        })
        .collect()
}
