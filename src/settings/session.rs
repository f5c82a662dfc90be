//! Settings of a session: how much memory it takes, how much it reads and says at once, and how it chooses tokens.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, de};

use super::kinds::{Rule, SettingKind};
use crate::input::{KvPrecision, Limit};

/// The word for a value that is found at start.
pub const AUTO: &str = "auto";

/// How much memory, context and work at once; section `[session]`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Memory limit of the whole process; none (`auto`): chosen from what the machine has, where not everything fits.
    #[serde(deserialize_with = "maybe_limit")]
    pub limit: Option<Limit>,
    /// Tokens of context to reserve memory for; none (`auto`): what one answer needs, or 2048 for a conversation, as far as the
    /// model goes.
    #[serde(deserialize_with = "maybe_whole")]
    pub context_tokens: Option<usize>,
    /// Tokens that are read at once; none (`auto`): 128 to 4096, as memory allows.
    #[serde(deserialize_with = "maybe_whole")]
    pub chunk_tokens: Option<usize>,
    /// How keys and values are kept; none (`auto`): as they are computed where the limit has room for that, else rounded.
    #[serde(deserialize_with = "maybe_precision")]
    pub kv_precision: Option<KvPrecision>,
    /// Tokens that the sounds and pictures of one observation may take.
    #[serde(deserialize_with = "whole")]
    pub media_tokens: usize,
    /// Tokens of an answer at most.
    #[serde(deserialize_with = "whole")]
    pub answer_tokens: usize,
}

/// How an answer's tokens are chosen; section `[sampling]`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingSettings {
    /// 0 is argmax.
    pub temperature: f32,
    /// The least set of tokens whose probability reaches this is kept.
    pub top_p: f32,
    /// So many most probable tokens are kept; 0 keeps all.
    #[serde(deserialize_with = "whole")]
    pub top_k: usize,
    /// Of the random numbers.
    #[serde(deserialize_with = "whole")]
    pub seed: u64,
}

/// Every setting of a session with what it may be, in the order of `config/default.toml`.
pub(super) const SESSION: [(&str, SettingKind, Rule); 9] = [
    (keys::LIMIT.name, SettingKind::Limit, Rule::Any),
    (
        keys::CONTEXT_TOKENS.name,
        SettingKind::WholeOrAuto,
        Rule::AtLeastOne,
    ),
    (
        keys::CHUNK_TOKENS.name,
        SettingKind::WholeOrAuto,
        Rule::AtLeastOne,
    ),
    (
        keys::MEDIA_TOKENS.name,
        SettingKind::Whole,
        Rule::AtLeastOne,
    ),
    (
        keys::ANSWER_TOKENS.name,
        SettingKind::Whole,
        Rule::AtLeastOne,
    ),
    (
        keys::TEMPERATURE.name,
        SettingKind::Number,
        Rule::ZeroOrMore,
    ),
    (
        keys::TOP_P.name,
        SettingKind::Number,
        Rule::AboveZeroAtMostOne,
    ),
    (keys::TOP_K.name, SettingKind::Whole, Rule::ZeroOrMore),
    (keys::SEED.name, SettingKind::Whole, Rule::ZeroOrMore),
];

/// The key of a setting that options, scenarios and programs say too, with the type of its value.
#[derive(Debug)]
pub struct SettingKey<T> {
    /// As it is written in a file.
    pub name: &'static str,
    value: PhantomData<fn(T)>,
}

impl<T> SettingKey<T> {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }
}

/// Keys with their types.
pub mod keys {
    use super::SettingKey;
    use crate::input::{KvPrecision, Limit};

    /// [`SessionSettings::limit`](super::SessionSettings::limit)
    pub const LIMIT: SettingKey<Limit> = SettingKey::new("session.limit");
    /// A limit that is not one.
    #[cfg(test)]
    pub const LIMIT_TEXT: SettingKey<String> = SettingKey::new("session.limit");
    /// [`SessionSettings::context_tokens`](super::SessionSettings::context_tokens)
    pub const CONTEXT_TOKENS: SettingKey<usize> = SettingKey::new("session.context_tokens");
    /// [`SessionSettings::chunk_tokens`](super::SessionSettings::chunk_tokens)
    pub const CHUNK_TOKENS: SettingKey<usize> = SettingKey::new("session.chunk_tokens");
    /// [`SessionSettings::kv_precision`](super::SessionSettings::kv_precision)
    pub const KV_PRECISION: SettingKey<KvPrecision> = SettingKey::new("session.kv_precision");
    /// [`SessionSettings::media_tokens`](super::SessionSettings::media_tokens)
    pub const MEDIA_TOKENS: SettingKey<usize> = SettingKey::new("session.media_tokens");
    /// [`SessionSettings::answer_tokens`](super::SessionSettings::answer_tokens)
    pub const ANSWER_TOKENS: SettingKey<usize> = SettingKey::new("session.answer_tokens");
    /// [`SamplingSettings::temperature`](super::SamplingSettings::temperature)
    pub const TEMPERATURE: SettingKey<f32> = SettingKey::new("sampling.temperature");
    /// [`SamplingSettings::top_p`](super::SamplingSettings::top_p)
    pub const TOP_P: SettingKey<f32> = SettingKey::new("sampling.top_p");
    /// [`SamplingSettings::top_k`](super::SamplingSettings::top_k)
    pub const TOP_K: SettingKey<usize> = SettingKey::new("sampling.top_k");
    /// [`SamplingSettings::seed`](super::SamplingSettings::seed)
    pub const SEED: SettingKey<u64> = SettingKey::new("sampling.seed");
}

/// A value as a file of settings would say it.
pub trait SettingValue {
    fn written(self) -> toml::Value;
}

impl SettingValue for Limit {
    fn written(self) -> toml::Value {
        toml::Value::String(self.to_string())
    }
}

impl SettingValue for KvPrecision {
    fn written(self) -> toml::Value {
        toml::Value::String(self.to_string())
    }
}

impl SettingValue for String {
    fn written(self) -> toml::Value {
        toml::Value::String(self)
    }
}

impl SettingValue for f32 {
    /// The shortest number that is this one: 0.8, not 0.800000011920929.
    fn written(self) -> toml::Value {
        toml::Value::Float(self.to_string().parse().unwrap_or(f64::from(self)))
    }
}

impl SettingValue for u64 {
    fn written(self) -> toml::Value {
        // TOML's integers end earlier.
        i64::try_from(self).map_or_else(
            |_| toml::Value::String(self.to_string()),
            toml::Value::Integer,
        )
    }
}

impl SettingValue for usize {
    fn written(self) -> toml::Value {
        (self as u64).written()
    }
}

/// As [`SettingValue::written`] wrote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum WholeOrText {
    Whole(u64),
    Text(String),
}

fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    let whole = match WholeOrText::deserialize(from)? {
        WholeOrText::Whole(whole) => Some(whole),
        WholeOrText::Text(text) => text.parse().ok(),
    };
    whole
        .and_then(|whole| T::try_from(whole).ok())
        .ok_or_else(|| de::Error::custom("expected a whole number"))
}

fn maybe_whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    match WholeOrText::deserialize(from)? {
        WholeOrText::Text(text) if text == AUTO => Ok(None),
        WholeOrText::Text(text) => text.parse().map(Some).map_err(de::Error::custom),
        WholeOrText::Whole(whole) => usize::try_from(whole).map(Some).map_err(de::Error::custom),
    }
}

fn maybe_limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Limit>, D::Error> {
    let text = String::deserialize(from)?;
    if text == AUTO {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}

fn maybe_precision<'de, D: Deserializer<'de>>(from: D) -> Result<Option<KvPrecision>, D::Error> {
    let text = String::deserialize(from)?;
    if text == AUTO {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}
