//! The tokens that end an answer.

use super::{TextError, ending};
use crate::input::read_file;
use crate::store::WeightSource;

/// Of generation_config.json.
const MOST_BYTES: u64 = 1 << 20;

/// Tokens that end an answer: the configuration's `im_end_token_id` and the end tokens of generation_config.json. Where
/// neither is stated, `eos_token_id` of config.json; where that is not either, the tokenizer's `<|im_end|>`.
///
/// # Errors
/// When generation_config.json is damaged.
pub fn stop_tokens(source: &dyn WeightSource) -> Result<Vec<u32>, TextError> {
    let mut stop: Vec<u32> = source.config().im_end_token_id.into_iter().collect();
    stop.extend(generation_ends(source)?);
    if stop.is_empty() {
        stop.extend(&source.config().eos_token_ids);
    }
    if stop.is_empty() {
        stop.extend(ending::im_end(source)?);
    }
    stop.sort_unstable();
    stop.dedup();
    Ok(stop)
}

/// The end tokens of generation_config.json.
fn generation_ends(source: &dyn WeightSource) -> Result<Vec<u32>, TextError> {
    let Some(path) = source.file("generation_config.json") else {
        return Ok(Vec::new());
    };
    let parsed = read_file(&path, MOST_BYTES)
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    let parsed: serde_json::Value = parsed.map_err(|reason| TextError::File { path, reason })?;
    let ends = match &parsed["eos_token_id"] {
        serde_json::Value::Array(ends) => ends.clone(),
        end => vec![end.clone()],
    };
    let ends = ends.iter();
    Ok(ends
        .filter_map(|end| u32::try_from(end.as_u64()?).ok())
        .collect())
}
