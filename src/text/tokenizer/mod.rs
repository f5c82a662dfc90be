//! The model's tokenizer: `tokenizer.json`, or made of `vocab.json`, `merges.txt` and `tokenizer_config.json`.
//!
//! Where a folder has both forms, `tokenizer.json` is taken: it says everything, the other three leave the normaliser and
//! the pattern that cuts words to the tokenizer's class.
//!
//! Invariant: a control token comes only from a spelling that nobody but the template or the program wrote. Everything
//! else is encoded without them, as if the tokenizer had none.

mod added;
mod bytes;
mod declared;
mod files;
mod spelling;

use std::collections::BTreeMap;
use std::ops::Range;

use tokenizers::{
    AddedToken, AddedVocabulary, DecoderWrapper, Model, OffsetReferential, OffsetType,
    PreTokenizer, Tokenizer,
};

use super::TextError;
use super::prompt::{Controls, Prompt};
use crate::checkpoint::ModelConfig;
use crate::store::WeightSource;
use spelling::Spelling;

/// What a text is cut into.
enum Piece<'a> {
    /// An added token, as its vocabulary numbers it.
    Added(u32),
    /// A token of the model, and how the vocabulary writes it.
    Model(u32, &'a str),
}

/// A tokenizer, and which of its tokens steer the model.
pub(super) struct ModelTokenizer {
    tokenizer: Tokenizer,
    /// The added tokens that are not control tokens.
    plain: AddedVocabulary,
    /// Control tokens by id.
    control: BTreeMap<u32, String>,
    /// All added tokens, longest first.
    spellings: Vec<Spelling>,
    controls: Controls,
    /// A control token is also found where normalisation makes its spelling.
    normalizes_controls: bool,
    /// Tokens are bytes, as Qwen's are.
    bytes: bool,
}

impl ModelTokenizer {
    /// Reads the tokenizer of a model.
    ///
    /// # Errors
    /// When there is none, or a file is damaged; the error names it.
    pub(super) fn load(source: &dyn WeightSource) -> Result<Self, TextError> {
        let declared = declared::Declared::read(source)?;
        let tokenizer = match source.file("tokenizer.json") {
            Some(path) => Tokenizer::from_file(&path).map_err(|error| TextError::File {
                reason: format!("not a tokenizer: {error}"),
                path,
            })?,
            None => files::tokenizer(source, &declared)?,
        };
        Self::new(tokenizer, &declared, source.config())
    }

    fn new(
        mut tokenizer: Tokenizer,
        declared: &declared::Declared,
        config: &ModelConfig,
    ) -> Result<Self, TextError> {
        // Text is cut by the context that was declared, never in silence.
        let cut = tokenizer.with_truncation(None).map(|_| ());
        cut.map_err(|error| TextError::Tokenizer(error.to_string()))?;
        tokenizer.with_padding(None);
        let control = control_tokens(&tokenizer, declared, config);
        let mut added: Vec<(u32, AddedToken)> =
            tokenizer.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        let mut plain = AddedVocabulary::new();
        let kept: Vec<AddedToken> = added
            .iter()
            .filter(|(id, _)| !control.contains_key(id))
            .map(|(_, token)| token.clone())
            .collect();
        let words: Vec<String> = kept.iter().map(|token| token.content.clone()).collect();
        plain
            .add_tokens(kept, tokenizer.get_model(), tokenizer.get_normalizer())
            .map_err(|error| TextError::Tokenizer(error.to_string()))?;
        let mut spellings: Vec<Spelling> = added
            .iter()
            .map(|(id, token)| Spelling::new(*id, token, control.contains_key(id)))
            .collect();
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.content.len()));
        let controls = Controls::new(control.values().cloned(), words);
        let normalizes_controls = added
            .iter()
            .any(|(id, token)| token.normalized && control.contains_key(id));
        let bytes = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(Self {
            tokenizer,
            plain,
            control,
            spellings,
            controls,
            normalizes_controls,
            bytes,
        })
    }

    /// How control tokens are spelled.
    pub(super) fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Ids of a text in which control tokens may be spelled.
    pub(super) fn with_control_tokens(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        let added = self.tokenizer.get_added_vocabulary();
        self.cut(added, text, |piece| {
            match piece {
                Piece::Added(id) => ids.push(id),
                Piece::Model(id, _) => ids.push(id),
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// Ids of a text in which nothing is a control token.
    pub(super) fn without_control_tokens(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        self.cut(&self.plain, text, |piece| {
            match piece {
                Piece::Added(id) => {
                    // The tokenizer numbers its added tokens otherwise: it has more of them.
                    let content = added_content(&self.plain, id);
                    ids.extend(content.and_then(|content| self.tokenizer.token_to_id(content)));
                }
                Piece::Model(id, word) if self.control.contains_key(&id) => {
                    self.spell_out(word, &mut ids)?;
                }
                Piece::Model(id, _) => ids.push(id),
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// A control token that merges make of letters, as letters.
    fn spell_out(&self, token: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        for letter in token.chars() {
            let id = self.tokenizer.get_model().token_to_id(&letter.to_string());
            match id.filter(|id| !self.control.contains_key(id)) {
                Some(id) => ids.push(id),
                None => return Err(TextError::NoPlainSpelling(token.to_owned())),
            }
        }
        Ok(())
    }

    /// Ids of a prompt: control tokens only where the template or the program spelled them.
    pub(super) fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextError> {
        let text = &prompt.text;
        let found = spelling::controls(&self.spellings, text, &prompt.literal);
        // Where nothing is spelled but what counts, the tokenizer does it all; normalisation could make a spelling.
        let whole = || found == spelling::controls(&self.spellings, text, &[]);
        if !self.normalizes_controls && (prompt.literal.is_empty() || whole()) {
            return self.with_control_tokens(text);
        }
        let (mut ids, mut done) = (Vec::new(), 0);
        for (Range { start, end }, id) in found {
            ids.extend(self.without_control_tokens(&text[done..start])?);
            ids.push(id);
            done = end;
        }
        ids.extend(self.without_control_tokens(&text[done..])?);
        Ok(ids)
    }

    /// What [`Tokenizer::encode`] does, with a set of added tokens that is said, and without what comes behind it.
    fn cut(
        &self,
        added: &AddedVocabulary,
        text: &str,
        mut take: impl FnMut(Piece<'_>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let refused = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        let mut pieces = added.extract_and_normalize(self.tokenizer.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(refused)?;
        }
        let model = self.tokenizer.get_model();
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        for (piece, _, found) in splits {
            match found {
                Some(found) => {
                    for token in found {
                        take(Piece::Added(token.id))?;
                    }
                }
                None => {
                    for token in model.tokenize(piece).map_err(refused)? {
                        take(Piece::Model(token.id, &token.value))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The bytes that a token stands for, none for a control or unknown token; `None` where tokens are no bytes.
    pub(super) fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        if !self.bytes {
            return None;
        }
        let added = self.tokenizer.get_added_vocabulary();
        Some(match added_content(added, id) {
            Some(content) if added.is_special_token(content) => Vec::new(),
            // What was added is text, whatever the vocabulary makes of its letters.
            Some(content) => content.as_bytes().to_vec(),
            None => {
                let token = self.tokenizer.get_model().id_to_token(id);
                token.map_or_else(Vec::new, |token| bytes::of_token(&token))
            }
        })
    }

    /// Text of token ids without special tokens, where tokens are no bytes.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|error| TextError::Tokenizer(error.to_string()))
    }

    /// How the vocabulary writes a token.
    pub(super) fn word(&self, id: u32) -> Option<String> {
        word(&self.tokenizer, id)
    }
}

/// How an added token was declared. The library's own look-up answers with what a normaliser makes of it.
fn added_content(added: &AddedVocabulary, id: u32) -> Option<&str> {
    let token = added.get_added_tokens_decoder().get(&id)?;
    Some(&token.content)
}

/// How a token is written: as it was declared where it was added, else as the vocabulary has it.
fn word(tokenizer: &Tokenizer, id: u32) -> Option<String> {
    match added_content(tokenizer.get_added_vocabulary(), id) {
        Some(content) => Some(content.to_owned()),
        None => tokenizer.get_model().id_to_token(id),
    }
}

/// Every token that is marked as special, in the tokenizer or in `tokenizer_config.json`, and those that the model takes
/// for sounds and pictures.
fn control_tokens(
    tokenizer: &Tokenizer,
    declared: &declared::Declared,
    config: &ModelConfig,
) -> BTreeMap<u32, String> {
    let added = tokenizer.get_added_tokens_decoder();
    let special = added.iter().filter(|(_, token)| token.special);
    let mut control: BTreeMap<u32, String> = special
        .map(|(id, token)| (*id, token.content.clone()))
        .collect();
    for content in declared.special_contents() {
        if let Some(id) = tokenizer.token_to_id(&content) {
            control.insert(id, content);
        }
    }
    let thinker = &config.thinker;
    let placeholders = [
        thinker.audio_token_id,
        thinker.image_token_id,
        thinker.video_token_id,
        thinker.audio_start_token_id,
        thinker.audio_end_token_id,
        thinker.vision_start_token_id,
        thinker.vision_end_token_id,
    ];
    for id in placeholders.into_iter().flatten() {
        if let Some(content) = word(tokenizer, id) {
            control.insert(id, content);
        }
    }
    // A letter stays a letter, whatever role a configuration gives it: nothing could be said without it.
    let model = tokenizer.get_model();
    let is_letter = |id: &u32, content: &str| {
        content.chars().nth(1).is_none() && model.id_to_token(*id).is_some()
    };
    control.retain(|id, content| !is_letter(id, content));
    control
}
