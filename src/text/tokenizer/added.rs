//! Added tokens get their ids by order: what is declared and what comes of it must be the same.

use tokenizers::{AddedToken, Tokenizer};

use super::declared::Declared;
use crate::text::TextError;

/// Adds the declared tokens as transformers' `Qwen2Tokenizer` does: by ascending id, then those with a role; what has a role
/// or is called special is added once more with that mark alone, which takes other marks from it.
pub(super) fn add(
    tokenizer: &mut Tokenizer,
    declared: &Declared,
    vocabulary: usize,
) -> Result<(), TextError> {
    let in_order = declared.in_order();
    let wrong = |reason: String| TextError::File {
        path: declared.path.clone(),
        reason,
    };
    let refused = |error: tokenizers::Error| wrong(format!("its added tokens: {error}"));
    let tokens = in_order.iter().map(|(_, token)| token.clone());
    tokenizer.add_tokens(tokens).map_err(refused)?;
    let named = declared.named_contents().into_iter();
    let named = named.map(|content| AddedToken::from(content, true));
    tokenizer.add_tokens(named).map_err(refused)?;
    for (expected, token) in in_order {
        let content = token.content;
        let Some(id) = tokenizer.token_to_id(&content) else {
            continue;
        };
        match expected {
            Some(expected) if expected != id => {
                return Err(wrong(format!(
                    "the added token `{content}` is declared as {expected}, but with this vocab.json it is {id}: the files belong to different tokenizers, or ids are left out between them"
                )));
            }
            Some(_) if id as usize >= vocabulary => {
                return Err(wrong(format!(
                    "the added token `{content}` is {id}, beyond the model's vocabulary of {vocabulary}: the tokenizer belongs to another model"
                )));
            }
            // One that is only named may lie beyond the model: it is refused where it is used.
            _ => {}
        }
    }
    Ok(())
}
