//! The token that ends a turn, where no configuration states it: by the tokenizer's own files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::TextError;
use crate::input::{MOST_MODEL_FILE_BYTES, read_file};
use crate::store::WeightSource;

const IM_END: &str = "<|im_end|>";

#[derive(Deserialize)]
struct Added {
    #[serde(default)]
    id: Option<u32>,
    content: String,
}

/// `tokenizer_config.json`: added tokens by id.
#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, Added>,
}

/// `tokenizer.json`, its vocabulary left out.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
}

/// The id of `<|im_end|>`; none where the model's tokenizer has no such token, or the model no tokenizer.
///
/// # Errors
/// When a file of the tokenizer is damaged.
pub(super) fn im_end(source: &dyn WeightSource) -> Result<Option<u32>, TextError> {
    let config: Option<TokenizerConfig> = parsed(source, "tokenizer_config.json")?;
    let tokens = config.map(|config| config.added_tokens_decoder);
    let by_config = tokens
        .into_iter()
        .flatten()
        .find_map(|(id, token)| (token.content == IM_END).then(|| id.parse().ok()).flatten());
    if by_config.is_some() {
        return Ok(by_config);
    }
    let tokenizer: Option<Tokenizer> = parsed(source, "tokenizer.json")?;
    let tokens = tokenizer.map(|tokenizer| tokenizer.added_tokens);
    let mut tokens = tokens.into_iter().flatten();
    Ok(tokens
        .find(|token| token.content == IM_END)
        .and_then(|token| token.id))
}

fn parsed<T: DeserializeOwned>(
    source: &dyn WeightSource,
    name: &str,
) -> Result<Option<T>, TextError> {
    let Some(path) = source.file(name) else {
        return Ok(None);
    };
    let parsed = read_file(&path, MOST_MODEL_FILE_BYTES)
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    parsed
        .map(Some)
        .map_err(|reason| TextError::File { path, reason })
}
