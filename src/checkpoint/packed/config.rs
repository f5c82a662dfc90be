//! What `config.json` says of how matrices are packed.

use serde_json::Value;

use super::super::ModelConfigError;
use super::tensor::{Packing, PackingMethod};

/// What config.json says of a quantisation, wherever writers put it, and the key that it stands under.
pub(in crate::checkpoint) fn quantisation(config: &Value) -> Option<(&'static str, &Value)> {
    let sections = ["thinker_config", "text_config", "language_config"];
    let nested = sections.iter().filter_map(|key| config.get(key));
    let deeper = config.pointer("/thinker_config/text_config");
    let levels: Vec<&Value> = std::iter::once(config)
        .chain(nested)
        .chain(deeper)
        .collect();
    for level in levels {
        for key in ["quantization_config", "compression_config", "quantization"] {
            let found = level.get(key).filter(|value| value.is_object());
            if let Some(found) = found {
                return Some((key, found));
            }
        }
    }
    None
}

/// How the matrices of a folder are packed, by the text of its `config.json`; none where it names neither AWQ nor GPTQ.
///
/// # Errors
/// Names the key, its value, what can be read, and what to do.
pub(in crate::checkpoint) fn of_config(
    config: &Value,
) -> Result<Option<Packing>, ModelConfigError> {
    let Some((key, section)) = quantisation(config) else {
        return Ok(None);
    };
    let section = Section { key, section };
    let method = section.text("quant_method").to_ascii_lowercase();
    match method.as_str() {
        "awq" => section.awq().map(Some),
        "gptq" => section.gptq().map(Some),
        _ => Ok(None),
    }
}

/// An object of `config.json` and its key.
struct Section<'a> {
    key: &'static str,
    section: &'a Value,
}

/// What can be read, and what to do where a folder is otherwise.
const VERSIONS: &str =
    "gemm, the layout that AutoAWQ writes: download a folder in it, or the original in BF16";
const AWQ_BITS: &str = "4 for AWQ: download a folder of 4 bits, or the original in BF16";
const GPTQ_BITS: &str = "4 and 8 for GPTQ: download a folder of those, or the original in BF16";
const GPTQ_FORMATS: &str =
    "gptq and gptq_v2: download a folder in one of them, or the original in BF16";
const ALL_ALIKE: &str = "one number of bits and one group_size for all modules, and `-:` for those that are not packed: \
                         download a folder that is packed so, or the original in BF16";

impl Section<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }

    /// The text of a key; empty where there is none.
    fn text(&self, key: &str) -> &str {
        self.section[key].as_str().unwrap_or_default()
    }

    fn unsupported(&self, key: &str, supported: &'static str) -> ModelConfigError {
        ModelConfigError::Unsupported {
            key: self.key(key),
            value: short(&self.section[key]),
            supported,
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ModelConfigError> {
        match &self.section[key] {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            other => Err(self.invalid(key, other, "true or false")),
        }
    }

    fn invalid(&self, key: &str, value: &Value, expected: &str) -> ModelConfigError {
        ModelConfigError::Invalid {
            key: self.key(key),
            value: short(value),
            expected: expected.to_owned(),
        }
    }

    /// One of a few words, in any case; the first where there is none.
    fn one_of(
        &self,
        key: &str,
        known: &[&str],
        supported: &'static str,
    ) -> Result<String, ModelConfigError> {
        let word = match &self.section[key] {
            Value::Null => known.first().copied().unwrap_or_default().to_owned(),
            other => other.as_str().unwrap_or_default().to_ascii_lowercase(),
        };
        match known.contains(&word.as_str()) {
            true => Ok(word),
            false => Err(self.unsupported(key, supported)),
        }
    }

    fn bits(&self, known: &[u32], supported: &'static str) -> Result<u32, ModelConfigError> {
        if self.section["bits"].is_null() {
            return Err(ModelConfigError::Missing {
                key: self.key("bits"),
                expected: "the bits of a packed number",
            });
        }
        let bits = self.section["bits"].as_u64();
        let bits = bits.and_then(|bits| known.iter().find(|known| u64::from(**known) == bits));
        bits.copied()
            .ok_or_else(|| self.unsupported("bits", supported))
    }

    /// Inputs of a group; none where one group has all of them.
    fn group(&self) -> Result<Option<usize>, ModelConfigError> {
        let expected = "the inputs that share a scale, such as 128, or -1 for all";
        let value = &self.section["group_size"];
        match (value.as_i64(), value) {
            (Some(-1), _) => Ok(None),
            (Some(size @ 1..=0x7fff_ffff), _) => Ok(Some(size as usize)),
            (_, Value::Null) => Err(ModelConfigError::Missing {
                key: self.key("group_size"),
                expected,
            }),
            (_, other) => Err(self.invalid("group_size", other, expected)),
        }
    }

    fn awq(&self) -> Result<Packing, ModelConfigError> {
        self.one_of("version", &["gemm"], VERSIONS)?;
        Ok(Packing {
            method: PackingMethod::Awq,
            bits: self.bits(&[4], AWQ_BITS)?,
            group: self.group()?,
            is_symmetric: self.flag("zero_point")? == Some(false),
            is_reordered: false,
            is_less_one: false,
        })
    }

    fn gptq(&self) -> Result<Packing, ModelConfigError> {
        let layout = self.one_of("checkpoint_format", &["gptq", "gptq_v2"], GPTQ_FORMATS)?;
        // Names of modules with numbers of their own; those with `-:` before them are not packed at all.
        let dynamic = self.section["dynamic"].as_object();
        let is_other = |name: &&String| !name.starts_with("-:");
        if dynamic.is_some_and(|modules| modules.keys().any(|name| is_other(&name))) {
            return Err(self.unsupported("dynamic", ALL_ALIKE));
        }
        Ok(Packing {
            method: PackingMethod::Gptq,
            bits: self.bits(&[4, 8], GPTQ_BITS)?,
            group: self.group()?,
            is_symmetric: self.flag("sym")?.unwrap_or(true),
            is_reordered: self.flag("desc_act")? == Some(true),
            is_less_one: layout == "gptq",
        })
    }
}

/// A value for a message: cut short.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// As [`of_config`], of a text.
///
/// # Errors
/// As [`of_config`].
pub(in crate::checkpoint) fn of_text(text: &[u8]) -> Result<Option<Packing>, ModelConfigError> {
    of_config(&serde_json::from_slice(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(section: Value) -> Result<Option<Packing>, String> {
        let config = json!({ "quantization_config": section });
        of_config(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_writers_state_is_understood() {
        let awq =
            of(json!({ "quant_method": "awq", "bits": 4, "group_size": 128, "version": "GEMM" }));
        let awq = awq.unwrap().unwrap();
        assert_eq!(awq.to_string(), "AWQ, 4 bits in groups of 128");
        assert!(!awq.is_less_one && !awq.is_symmetric);
        let section = json!({ "quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": true, "sym": false });
        let gptq = of(section).unwrap().unwrap();
        assert_eq!((gptq.name(), gptq.group), ("GPTQ8", None));
        assert!(gptq.is_less_one && gptq.is_reordered && !gptq.is_symmetric);
        assert_eq!(of(json!({ "quant_method": "fp8" })), Ok(None));
        assert_eq!(of_config(&json!({})).ok(), Some(None));
    }

    #[test]
    fn what_cannot_be_read_is_named_by_key_and_value() {
        let gptq = |key: &str, value: Value| {
            let mut section = json!({ "quant_method": "gptq", "bits": 4, "group_size": 32 });
            section[key] = value;
            of(section).unwrap_err()
        };
        for (key, value, said) in [
            ("bits", json!(3), "`quantization_config.bits` is 3"),
            ("bits", Value::Null, "`quantization_config.bits` is missing"),
            (
                "group_size",
                json!(0),
                "`quantization_config.group_size` is 0",
            ),
            ("sym", json!("yes"), "`quantization_config.sym` is \"yes\""),
            ("checkpoint_format", json!("marlin"), "is \"marlin\""),
            (
                "dynamic",
                json!({ "+:.*": { "bits": 8 } }),
                "one number of bits",
            ),
        ] {
            let error = gptq(key, value);
            assert!(error.contains(said), "{error}");
        }
    }
}
