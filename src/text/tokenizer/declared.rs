//! What `tokenizer_config.json` and the older files beside it say of added tokens.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::input::{MOST_MODEL_FILE_BYTES, read_file};
use crate::store::WeightSource;
use crate::text::TextError;

/// The tokenizer's settings.
const CONFIG: &str = "tokenizer_config.json";

/// Roles that a token can have in every tokenizer, in the order in which they are added.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// What a Qwen2 tokenizer takes for these roles where nothing is said of them.
const DEFAULTS: [&str; 3] = ["eos_token", "unk_token", "pad_token"];
const DEFAULT_TOKEN: &str = "<|endoftext|>";

/// A token with a role, or without one.
#[derive(Clone)]
struct Named {
    token: AddedToken,
    extra: bool,
}

/// Added tokens as the files declare them.
#[derive(Default)]
pub(super) struct Declared {
    /// The file that numbers them.
    pub(super) path: PathBuf,
    /// With the ids that the file gives them, ascending.
    pub(super) numbered: Vec<(u32, AddedToken)>,
    named: Vec<Named>,
    /// The class of the tokenizer, if it is said.
    pub(super) class: Option<String>,
    /// Whether every text begins with a space.
    pub(super) add_prefix_space: bool,
}

impl Declared {
    /// Reads the files that are there.
    ///
    /// # Errors
    /// When one is damaged.
    pub(super) fn read(source: &dyn WeightSource) -> Result<Self, TextError> {
        let path = source.file(CONFIG);
        let config = match &path {
            Some(path) => object(path)?,
            None => Map::new(),
        };
        let path = path.unwrap_or_else(|| source.folder().join(CONFIG));
        let wrong = |reason: String| TextError::File {
            path: path.clone(),
            reason,
        };
        let mut declared = Self {
            path: path.clone(),
            class: config
                .get("tokenizer_class")
                .and_then(Value::as_str)
                .map(str::to_owned),
            add_prefix_space: config.get("add_prefix_space") == Some(&Value::Bool(true)),
            ..Self::default()
        };
        let mut said = config.clone();
        if let Some(decoder) = config.get("added_tokens_decoder") {
            declared.numbered = numbered(decoder).map_err(wrong)?;
        } else {
            declared.read_older(source, &mut said)?;
        }
        declared.named = named(&said).map_err(wrong)?;
        let is_named = |content: &str| {
            let mut roles = declared.named.iter().filter(|named| !named.extra);
            roles.any(|named| named.token.content == content)
        };
        let specials: Vec<bool> = declared
            .numbered
            .iter()
            .map(|(_, token)| is_named(&token.content))
            .collect();
        for ((_, token), special) in declared.numbered.iter_mut().zip(specials) {
            token.special |= special;
        }
        Ok(declared)
    }

    /// `special_tokens_map.json` and `added_tokens.json`, which only count where nothing newer is said.
    fn read_older(
        &mut self,
        source: &dyn WeightSource,
        said: &mut Map<String, Value>,
    ) -> Result<(), TextError> {
        if let Some(path) = source.file("special_tokens_map.json") {
            said.extend(object(&path)?);
        }
        let Some(path) = source.file("added_tokens.json") else {
            return Ok(());
        };
        let wrong = |reason: String| TextError::File {
            path: path.clone(),
            reason,
        };
        let special: Vec<String> = named(said)
            .map_err(wrong)?
            .into_iter()
            .map(|named| named.token.content)
            .collect();
        for (content, id) in object(&path)? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| {
                wrong(format!(
                    "`{content}` has no token id: expected a whole number"
                ))
            })?;
            let is_special = special.contains(&content);
            self.numbered
                .push((id, AddedToken::from(content, is_special)));
        }
        self.numbered.sort_by_key(|(id, _)| *id);
        self.path = path;
        Ok(())
    }

    /// The tokens in the order in which they are added, with the ids that are declared.
    pub(super) fn in_order(&self) -> Vec<(Option<u32>, AddedToken)> {
        let mut all: Vec<(Option<u32>, AddedToken)> = self
            .numbered
            .iter()
            .map(|(id, token)| (Some(*id), token.clone()))
            .collect();
        for named in &self.named {
            let content = &named.token.content;
            if !all.iter().any(|(_, token)| token.content == *content) {
                all.push((None, named.token.clone()));
            }
        }
        all
    }

    /// Tokens with a role and those that are called special: added once more, without marks but this one.
    pub(super) fn named_contents(&self) -> Vec<String> {
        let named = self.named.iter();
        named.map(|named| named.token.content.clone()).collect()
    }

    /// Every token that is special by what the files say.
    pub(super) fn special_contents(&self) -> Vec<String> {
        let numbered = self.numbered.iter().filter(|(_, token)| token.special);
        let mut contents: Vec<String> = numbered.map(|(_, token)| token.content.clone()).collect();
        contents.extend(self.named_contents());
        contents
    }
}

fn object(path: &Path) -> Result<Map<String, Value>, TextError> {
    let wrong = |reason: String| TextError::File {
        path: path.to_owned(),
        reason,
    };
    let bytes = read_file(path, MOST_MODEL_FILE_BYTES).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{error}; expected an object")))
}

/// `added_tokens_decoder`: tokens by id.
fn numbered(decoder: &Value) -> Result<Vec<(u32, AddedToken)>, String> {
    let Some(decoder) = decoder.as_object() else {
        return Err("`added_tokens_decoder` is no object of ids and tokens".to_owned());
    };
    let mut all: Vec<(u32, AddedToken)> = Vec::new();
    for (id, said) in decoder {
        let number: u32 = id.parse().map_err(|_| {
            format!("`added_tokens_decoder` names a token `{id}`: expected an id, a whole number")
        })?;
        let token = said.as_object().and_then(token).ok_or_else(|| {
            format!("added token {id} has no `content`: expected an object with it")
        })?;
        let before = all
            .iter()
            .find(|(other, before)| *other == number || before.content == token.content);
        if let Some((other, before)) = before {
            return Err(format!(
                "added token {id} is `{}`, but {other} is `{}`: every id and every spelling may stand there once",
                token.content, before.content
            ));
        }
        all.push((number, token));
    }
    all.sort_by_key(|(id, _)| *id);
    Ok(all)
}

/// Tokens with a role, then further ones that are special.
fn named(said: &Map<String, Value>) -> Result<Vec<Named>, String> {
    let mut all: Vec<Named> = Vec::new();
    let mut add = |token: AddedToken, extra| {
        if !all.iter().any(|named| named.token.content == token.content) {
            all.push(Named { token, extra });
        }
    };
    for role in ROLES {
        match said.get(role) {
            None if DEFAULTS.contains(&role) => add(special(DEFAULT_TOKEN), false),
            None | Some(Value::Null) => {}
            Some(value) => add(one(role, value)?, false),
        }
    }
    let further = ["extra_special_tokens", "additional_special_tokens"];
    let further = further.iter().find_map(|key| {
        let value = said.get(*key)?;
        let empty = value.as_array().is_some_and(Vec::is_empty) || value.is_null();
        (!empty).then_some((*key, value))
    });
    // Roles of this model's own, such as `image_token`.
    let own = said.iter().filter(|(key, value)| {
        key.ends_with("_token")
            && !ROLES.contains(&key.as_str())
            && (value.is_string() || value.is_object())
    });
    for (key, value) in own {
        add(one(key, value)?, false);
    }
    match further {
        None => {}
        Some((key, Value::Object(by_role))) => {
            for value in by_role.values() {
                add(one(key, value)?, false);
            }
        }
        Some((key, Value::Array(list))) => {
            for value in list {
                add(one(key, value)?, true);
            }
        }
        Some((key, _)) => return Err(format!("`{key}` is no list of tokens")),
    }
    Ok(all)
}

fn one(key: &str, value: &Value) -> Result<AddedToken, String> {
    let token = match value {
        Value::String(content) => Some(special(content)),
        Value::Object(fields) => token(fields).map(|token| token.special(true)),
        _ => None,
    };
    token
        .ok_or_else(|| format!("`{key}` is no token: expected a text, or an object with `content`"))
}

fn special(content: &str) -> AddedToken {
    AddedToken::from(content, true)
}

/// A token with its marks; none without a content.
fn token(fields: &Map<String, Value>) -> Option<AddedToken> {
    let content = fields.get("content")?.as_str().filter(|c| !c.is_empty())?;
    let mark = |name: &str| fields.get(name).and_then(Value::as_bool);
    let special = mark("special").unwrap_or(false);
    Some(
        AddedToken::from(content, special)
            .normalized(mark("normalized").unwrap_or(!special))
            .single_word(mark("single_word").unwrap_or(false))
            .lstrip(mark("lstrip").unwrap_or(false))
            .rstrip(mark("rstrip").unwrap_or(false)),
    )
}
