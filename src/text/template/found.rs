//! Where a model's templates and special tokens are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::source::MAX_SOURCE_BYTES;
use crate::store::WeightSource;
use crate::text::TextError;

/// The template that is rendered where no other is asked for.
pub(super) const DEFAULT: &str = "default";
/// The one for conversations with tools.
pub(super) const TOOL_USE: &str = "tool_use";

/// Named templates beside the default, as transformers 5 saves them.
const FOLDER: &str = "additional_chat_templates";
const KEY: &str = "chat_template";
/// Of a JSON file that a template may be in; released ones have up to 10 MiB.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// ChatML without a default system prompt: for models that ship no template.
const CHATML: &str = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

/// A template and where it came from.
pub(super) struct Named {
    pub(super) source: String,
    /// File, and key or name.
    pub(super) origin: String,
}

/// What was found of a model.
pub(super) struct ModelTemplates {
    pub(super) named: BTreeMap<String, Named>,
    /// By the names that templates know.
    pub(super) special_tokens: BTreeMap<String, String>,
}

impl Default for ModelTemplates {
    fn default() -> Self {
        let mut found = Self::only(CHATML.to_owned());
        if let Some(named) = found.named.get_mut(DEFAULT) {
            named.origin = "of ChatML (the model has none)".to_owned();
        }
        found
    }
}

impl ModelTemplates {
    /// One template, given as text.
    pub(super) fn only(source: String) -> Self {
        let named = Named {
            source,
            origin: "that was given".to_owned(),
        };
        Self {
            named: BTreeMap::from([(DEFAULT.to_owned(), named)]),
            special_tokens: BTreeMap::new(),
        }
    }

    /// Whether a template names `function`.
    pub(super) fn asks(&self, function: &str) -> bool {
        self.named
            .values()
            .any(|named| named.source.contains(function))
    }
}

/// Finds the templates as transformers does. A model with a processor has them in `chat_template.json`, or else in
/// `chat_template.jinja` and the folder beside it; any other model in the latter. Where neither is, they are in
/// `tokenizer_config.json`; and without any it is plain ChatML.
pub(super) fn find(source: &dyn WeightSource) -> Result<ModelTemplates, TextError> {
    let config = match source.file("tokenizer_config.json") {
        Some(path) => Some((parsed(&path)?, path)),
        None => None,
    };
    let special_tokens = config.as_ref().map(|(config, _)| special_tokens(config));
    let processor = ["processor_config.json", "preprocessor_config.json"]
        .iter()
        .any(|name| source.file(name).is_some());
    let legacy = || match source.file("chat_template.json") {
        Some(path) => templates_of(&parsed(&path)?, &path),
        None => Ok(BTreeMap::new()),
    };
    let modern = || jinja_files(source);
    let mut named = if processor { legacy()? } else { modern()? };
    if named.is_empty() {
        named = if processor { modern()? } else { legacy()? };
    }
    if named.is_empty()
        && let Some((config, path)) = &config
    {
        named = templates_of(config, path)?;
    }
    let mut found = ModelTemplates::default();
    if !named.is_empty() {
        found.named = named;
    }
    found.special_tokens = special_tokens.unwrap_or_default();
    Ok(found)
}

fn damaged(path: &Path, reason: impl ToString) -> TextError {
    TextError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(path: &Path, most: u64) -> Result<String, TextError> {
    let bytes = fs::metadata(path)
        .map_err(|error| damaged(path, error))?
        .len();
    if bytes > most {
        let reason = format!(
            "the chat template is to be in it, but it has {bytes} bytes; expected {most} at most"
        );
        return Err(damaged(path, reason));
    }
    fs::read_to_string(path).map_err(|error| damaged(path, error))
}

fn parsed(path: &Path) -> Result<Json, TextError> {
    serde_json::from_str(&read(path, MAX_JSON_BYTES)?).map_err(|error| damaged(path, error))
}

/// `chat_template.jinja`, and the named ones in the folder beside it.
fn jinja_files(source: &dyn WeightSource) -> Result<BTreeMap<String, Named>, TextError> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    let folder = source.file("config.json");
    let folder = folder.as_deref().and_then(Path::parent);
    let entries = folder.and_then(|folder| fs::read_dir(folder.join(FOLDER)).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        if let (Some(name), Some("jinja")) = (name, path.extension().and_then(|e| e.to_str())) {
            let listed = source.file(&format!("{FOLDER}/{name}.jinja"));
            files.extend(listed.map(|path| (name.to_owned(), path)));
        }
    }
    let default = source.file("chat_template.jinja");
    files.extend(default.map(|path| (DEFAULT.to_owned(), path)));
    let read = |(name, path): (String, PathBuf)| {
        let named = Named {
            source: read(&path, MAX_SOURCE_BYTES as u64)?,
            origin: path.display().to_string(),
        };
        Ok((name, named))
    };
    files.into_iter().map(read).collect()
}

/// The key `chat_template` of a JSON file: a text, a list of named ones, or a mapping of them.
fn templates_of(file: &Json, path: &Path) -> Result<BTreeMap<String, Named>, TextError> {
    let named = |name: &str, source: &str| {
        let origin = match name {
            DEFAULT => format!("{} ({KEY})", path.display()),
            name => format!("{} ({KEY}, {name:?})", path.display()),
        };
        let source = source.to_owned();
        (name.to_owned(), Named { source, origin })
    };
    let wrong = |at: &str, value: &Json, expected: &str| {
        damaged(
            path,
            format!("{at} is {}, expected {expected}", kind(value)),
        )
    };
    match file.get(KEY) {
        None | Some(Json::Null) => Ok(BTreeMap::new()),
        Some(Json::String(source)) => Ok(BTreeMap::from([named(DEFAULT, source)])),
        Some(Json::Array(list)) => {
            let each = list.iter().enumerate().map(|(n, entry)| {
                let field = |key: &str| {
                    let value = entry.get(key).unwrap_or(&Json::Null);
                    let at = format!("{KEY}[{n}].{key}");
                    value.as_str().ok_or_else(|| wrong(&at, value, "a text"))
                };
                Ok(named(field("name")?, field("template")?))
            });
            each.collect()
        }
        Some(Json::Object(map)) => {
            let each = map.iter().map(|(name, value)| {
                let at = format!("{KEY}.{name}");
                let source = value.as_str().ok_or_else(|| wrong(&at, value, "a text"))?;
                Ok(named(name, source))
            });
            each.collect()
        }
        Some(other) => Err(wrong(
            KEY,
            other,
            "a text, a list of {\"name\", \"template\"}, or a mapping of names to templates",
        )),
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "missing",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a mapping",
    }
}

/// Every key that ends in `_token`, and the named ones of `extra_special_tokens`.
fn special_tokens(config: &Json) -> BTreeMap<String, String> {
    let text = |value: &Json| {
        let content = value.as_str().or_else(|| value.get("content")?.as_str());
        content.map(str::to_owned)
    };
    let all = config.as_object().into_iter().flatten();
    let all = all.filter(|(key, _)| key.ends_with("_token"));
    let extra = config.get("extra_special_tokens").and_then(Json::as_object);
    let tokens = all.chain(extra.into_iter().flatten());
    tokens
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect()
}
