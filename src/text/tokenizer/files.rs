//! A tokenizer made of `vocab.json` and `merges.txt`, as checkpoints are released.
//!
//! The two files hold a byte-level BPE. What they do not say is the tokenizer's class: a Qwen2 tokenizer normalises to NFC
//! and cuts words by the pattern below.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::added;
use super::declared::Declared;
use crate::input::{MOST_MODEL_FILE_BYTES, read_file};
use crate::store::WeightSource;
use crate::text::TextError;

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// Where a Qwen2 tokenizer cuts a text into words.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Classes whose files are read so; the last two say nothing of their own.
const CLASSES: [&str; 4] = [
    "Qwen2Tokenizer",
    "Qwen2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
];

/// Makes the tokenizer of a model without `tokenizer.json`.
///
/// # Errors
/// When there is no other form of it either, one of its files is missing or damaged, or they contradict one another.
pub(super) fn tokenizer(
    source: &dyn WeightSource,
    declared: &Declared,
) -> Result<Tokenizer, TextError> {
    let (vocabulary, merges) = match (source.file(VOCABULARY), source.file(MERGES)) {
        (Some(vocabulary), Some(merges)) => (vocabulary, merges),
        (None, None) => return Err(TextError::NoTokenizer),
        (Some(_), None) => return Err(missing(source, MERGES, VOCABULARY)),
        (None, Some(_)) => return Err(missing(source, VOCABULARY, MERGES)),
    };
    if let Some(class) = &declared.class
        && !CLASSES.contains(&class.as_str())
    {
        return Err(TextError::File {
            path: declared.path.clone(),
            reason: format!(
                "`tokenizer_class` is `{class}`: vocab.json and merges.txt are read as Qwen2Tokenizer reads them; for another class put its tokenizer.json beside config.json"
            ),
        });
    }
    let size = source.config().thinker.text.vocab_size;
    let words = read_vocabulary(&vocabulary, size)?;
    let merges = read_merges(&merges, &words)?;
    let model = BPE::builder()
        .vocab_and_merges(words.into_iter().collect::<Vocab>(), merges)
        .build();
    let refused = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
    let mut tokenizer = Tokenizer::new(model.map_err(refused)?);
    let words = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Isolated, false).map_err(refused)?;
    let bytes = ByteLevel::new(declared.add_prefix_space, true, false);
    tokenizer
        .with_normalizer(Some(NFC))
        .map_err(refused)?
        .with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])))
        .with_decoder(Some(ByteLevel::default()));
    added::add(&mut tokenizer, declared, size)?;
    Ok(tokenizer)
}

fn missing(source: &dyn WeightSource, lacks: &str, has: &str) -> TextError {
    TextError::File {
        path: source.folder().join(lacks),
        reason: format!(
            "is not there, but {has} is: together they are the tokenizer; copy it from the checkpoint, or put tokenizer.json in place of both"
        ),
    }
}

/// The entries of an object of numbers, as they stand there.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Words)
    }
}

fn read_vocabulary(path: &Path, size: usize) -> Result<HashMap<String, u32>, TextError> {
    let wrong = |reason: String| TextError::File {
        path: path.to_owned(),
        reason,
    };
    let bytes = read_file(path, MOST_MODEL_FILE_BYTES).map_err(|error| wrong(error.to_string()))?;
    let Entries(entries) = serde_json::from_slice(&bytes).map_err(|error| {
        wrong(format!(
            "{error}; expected an object of tokens and their ids"
        ))
    })?;
    if entries.is_empty() {
        return Err(wrong("holds no tokens".to_owned()));
    }
    let mut words = HashMap::with_capacity(entries.len());
    let mut by_id: HashMap<u32, String> = HashMap::with_capacity(entries.len());
    for (word, id) in entries {
        if id as usize >= size {
            return Err(wrong(format!(
                "token `{word}` has id {id}, beyond the model's vocabulary of {size}: the tokenizer belongs to another model"
            )));
        }
        if let Some(other) = by_id.insert(id, word.clone()) {
            return Err(wrong(format!(
                "id {id} is given to `{other}` and to `{word}`: every token has its own"
            )));
        }
        if let Some(other) = words.insert(word.clone(), id) {
            return Err(wrong(format!(
                "token `{word}` stands there twice, as {other} and as {id}"
            )));
        }
    }
    Ok(words)
}

/// One pair a line, in the order in which pairs are merged; a line that begins with `#version` is a heading.
fn read_merges(path: &Path, words: &HashMap<String, u32>) -> Result<Merges, TextError> {
    let wrong = |reason: String| TextError::File {
        path: path.to_owned(),
        reason,
    };
    let bytes = read_file(path, MOST_MODEL_FILE_BYTES).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        wrong(format!("is not UTF-8 text (byte {at})"))
    })?;
    let text = crate::input::without_mark(&text);
    let mut merges = Merges::new();
    let end = text.trim_end_matches(['\r', '\n']).len();
    for (number, line) in text[..end].split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.starts_with("#version") || text[..end].is_empty() {
            continue;
        }
        let at = |problem: String| wrong(format!("line {}: {problem}", number + 1));
        let parts: Vec<&str> = line.split(' ').collect();
        let [left, right] = parts[..] else {
            return Err(at(format!(
                "`{}` is no merge: expected two tokens with one space between them",
                crate::input::short(line)
            )));
        };
        for word in [left, right, &format!("{left}{right}")] {
            if !words.contains_key(word) {
                return Err(at(format!(
                    "`{left} {right}` needs the token `{word}`, which vocab.json does not have: the files belong to different tokenizers"
                )));
            }
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}
