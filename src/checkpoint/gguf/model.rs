//! From a GGUF file's metadata to what stands beside the weights of a checkpoint: configuration and tokenizer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::file::GgufValue;

/// Architectures of llama.cpp that are this program's text decoders.
const ARCHITECTURES: [&str; 2] = ["qwen3moe", "qwen3vlmoe"];

/// Metadata, and the architecture that its keys begin with.
pub(super) struct Metadata<'a> {
    values: &'a BTreeMap<String, GgufValue>,
    architecture: &'a str,
}

impl<'a> Metadata<'a> {
    /// # Errors
    /// When the file is of another architecture.
    pub(super) fn new(values: &'a BTreeMap<String, GgufValue>) -> Result<Self, String> {
        match values.get("general.architecture") {
            Some(GgufValue::Text(name)) if ARCHITECTURES.contains(&name.as_str()) => Ok(Self {
                values,
                architecture: name,
            }),
            Some(GgufValue::Text(name)) => Err(format!(
                "is of architecture {name}, expected {} (Qwen3-MoE, or the thinker of Qwen3-Omni)",
                ARCHITECTURES.join(" or ")
            )),
            _ => Err("has no general.architecture".to_owned()),
        }
    }

    fn get(&self, key: &str) -> Result<(String, &'a GgufValue), String> {
        let key = format!("{}.{key}", self.architecture);
        match self.values.get(&key) {
            Some(value) => Ok((key, value)),
            None => Err(format!("has no {key}")),
        }
    }

    fn whole(&self, key: &str) -> Result<u64, String> {
        match self.get(key)? {
            (_, GgufValue::Unsigned(number)) => Ok(*number),
            (_, GgufValue::Signed(number)) if *number >= 0 => Ok(number.unsigned_abs()),
            (key, other) => Err(format!("{key} is {other:?}, expected a whole number")),
        }
    }

    fn float(&self, key: &str) -> Result<f64, String> {
        match self.get(key)? {
            (_, GgufValue::Float(number)) => Ok(*number),
            (key, other) => Err(format!("{key} is {other:?}, expected a number")),
        }
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        match self.values.get(key) {
            Some(GgufValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn list(&self, key: &str) -> Option<&'a [GgufValue]> {
        match self.values.get(key) {
            Some(GgufValue::List(values)) => Some(values),
            _ => None,
        }
    }

    fn token(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(GgufValue::Unsigned(id)) => Some(*id),
            _ => None,
        }
    }

    /// The text of `config.json`; `vocab_size` is the number of rows of the embedding table.
    pub(super) fn config_json(&self, vocab_size: usize, has_head: bool) -> Result<String, String> {
        let inner = self.whole("expert_feed_forward_length")?;
        let config = json!({
            "model_type": "qwen3_moe",
            "vocab_size": vocab_size,
            "hidden_size": self.whole("embedding_length")?,
            "intermediate_size": self.whole("feed_forward_length").unwrap_or(inner),
            "moe_intermediate_size": inner,
            "num_hidden_layers": self.whole("block_count")?,
            "num_attention_heads": self.whole("attention.head_count")?,
            "num_key_value_heads": self.whole("attention.head_count_kv")?,
            "head_dim": self.whole("attention.key_length")?,
            "num_experts": self.whole("expert_count")?,
            "num_experts_per_tok": self.whole("expert_used_count")?,
            "norm_topk_prob": true,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "rms_norm_eps": self.float("attention.layer_norm_rms_epsilon")?,
            "hidden_act": "silu",
            "attention_bias": false,
            "tie_word_embeddings": !has_head,
            "max_position_embeddings": self.whole("context_length")?,
            "rope_theta": self.float("rope.freq_base")?,
            "eos_token_id": self.token("tokenizer.ggml.eos_token_id"),
        });
        Ok(format!("{config:#}\n"))
    }

    /// The small files that a tokenizer is made of, by name; and why there is none.
    pub(super) fn tokenizer(&self) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let said = |key| self.text(key).unwrap_or("nothing");
        let (model, pre) = (said("tokenizer.ggml.model"), said("tokenizer.ggml.pre"));
        if (model, pre) != ("gpt2", "qwen2") {
            return Err(format!(
                "its tokenizer is of kind {model} with {pre}, expected gpt2 with qwen2: only token ids can be given"
            ));
        }
        let lists = (
            self.list("tokenizer.ggml.tokens"),
            self.list("tokenizer.ggml.merges"),
        );
        let (Some(tokens), Some(merges)) = lists else {
            return Err("it has no tokens or no merges: only token ids can be given".to_owned());
        };
        let kinds = self.list("tokenizer.ggml.token_type").unwrap_or_default();
        let (mut vocab, mut added) = (Map::new(), Map::new());
        for (id, token) in tokens.iter().enumerate() {
            let GgufValue::Text(token) = token else {
                return Err(format!("its token {id} is no text"));
            };
            // 1: of the vocabulary; 3: control; 4: added by hand; 5: unused.
            match kinds.get(id) {
                Some(GgufValue::Signed(kind @ (3 | 4))) => {
                    let entry = json!({
                        "content": token, "lstrip": false, "normalized": false, "rstrip": false,
                        "single_word": false, "special": *kind == 3,
                    });
                    added.insert(id.to_string(), entry);
                }
                Some(GgufValue::Signed(5)) => {}
                _ => _ = vocab.insert(token.clone(), id.into()),
            }
        }
        let mut merged = String::from("#version: 0.2\n");
        for merge in merges {
            let GgufValue::Text(merge) = merge else {
                return Err("a merge of its tokenizer is no text".to_owned());
            };
            merged.push_str(merge);
            merged.push('\n');
        }
        let mut config = json!({
            "tokenizer_class": "Qwen2Tokenizer",
            "add_prefix_space": false,
            "added_tokens_decoder": added,
        });
        if let Some(template) = self.text("tokenizer.chat_template") {
            config["chat_template"] = template.into();
        }
        let file = |value: Value| format!("{value}\n").into_bytes();
        let mut files = BTreeMap::from([
            ("vocab.json".to_owned(), file(Value::Object(vocab))),
            ("merges.txt".to_owned(), merged.into_bytes()),
            ("tokenizer_config.json".to_owned(), file(config)),
        ]);
        if let Some(eos) = self.token("tokenizer.ggml.eos_token_id") {
            let generation = json!({ "eos_token_id": [eos] });
            files.insert("generation_config.json".to_owned(), file(generation));
        }
        Ok(files)
    }
}
