//! Stores made straight from GGUF files of llama.cpp: the same experts, tokens and answers as from the checkpoint.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use sage::checkpoint::{Checkpoint, Component, ExpertMatrix, expert_tensor_name};
use sage::formats::WeightFormat;
use sage::store::{Store, WeightSource};
use serde_json::Value;

use crate::common::layouts::{sage, text};
use crate::extracting::extracted;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// A GGUF file in the making.
#[derive(Default)]
struct Gguf {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Gguf {
    fn key(&mut self, key: &str, kind: u32, value: &[u8]) {
        put_text(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self.key_count += 1;
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.key(key, 8, &bytes);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4, &value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6, &value.to_le_bytes());
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| put_text(&mut bytes, value));
        self.key(key, 9, &bytes);
    }

    fn signed(&mut self, key: &str, values: &[i32]) {
        let mut bytes = 5u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values
            .iter()
            .for_each(|value| bytes.extend(value.to_le_bytes()));
        self.key(key, 9, &bytes);
    }

    fn tensor(&mut self, name: &str, shape: &[usize], kind: u32, bytes: Vec<u8>) {
        self.tensors
            .push((name.to_owned(), shape.to_vec(), kind, bytes));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut all = b"GGUF\x03\0\0\0".to_vec();
        all.extend((self.tensors.len() as u64).to_le_bytes());
        all.extend(self.key_count.to_le_bytes());
        all.extend(&self.keys);
        let mut offset = 0u64;
        for (name, shape, kind, bytes) in &self.tensors {
            put_text(&mut all, name);
            all.extend((shape.len() as u32).to_le_bytes());
            shape
                .iter()
                .rev()
                .for_each(|size| all.extend((*size as u64).to_le_bytes()));
            all.extend(kind.to_le_bytes());
            all.extend(offset.to_le_bytes());
            offset += (bytes.len() as u64).next_multiple_of(32);
        }
        all.resize(all.len().next_multiple_of(32), 0);
        for (.., bytes) in &self.tensors {
            all.extend(bytes);
            all.resize(all.len().next_multiple_of(32), 0);
        }
        all
    }
}

/// The number that stands for a format in a file.
fn kind_of(format: WeightFormat) -> u32 {
    match format {
        WeightFormat::F32 => 0,
        WeightFormat::F16 => 1,
        WeightFormat::Q4_0 => 2,
        WeightFormat::Q8_0 => 8,
        WeightFormat::BF16 => 30,
        other => panic!("{other} is in no test"),
    }
}

/// The thinker of a model as llama.cpp would have it, with the tokenizer of `models/tiny`.
fn thinker(source: &dyn WeightSource) -> Gguf {
    let mut gguf = Gguf::default();
    let config = &source.config().thinker.text;
    gguf.text("general.architecture", "qwen3moe");
    for (key, value) in [
        ("block_count", config.num_hidden_layers),
        ("context_length", 4096),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("expert_feed_forward_length", config.moe_intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("expert_count", config.num_experts),
        ("expert_used_count", config.num_experts_per_tok),
    ] {
        gguf.number(&format!("qwen3moe.{key}"), value as u32);
    }
    gguf.float(
        "qwen3moe.attention.layer_norm_rms_epsilon",
        config.rms_norm_eps,
    );
    gguf.float("qwen3moe.rope.freq_base", config.rope_theta);
    tokenizer(&mut gguf, config.vocab_size);
    let one = |gguf: &mut Gguf, there: &str, here: &str| {
        let info = source.tensor(here).unwrap();
        let mut bytes = vec![0; info.bytes as usize];
        source.read_tensor(here, &mut bytes).unwrap();
        gguf.tensor(there, &info.shape, kind_of(info.dtype), bytes);
    };
    one(
        &mut gguf,
        "token_embd.weight",
        "thinker.model.embed_tokens.weight",
    );
    one(&mut gguf, "output_norm.weight", "thinker.model.norm.weight");
    one(&mut gguf, "output.weight", "thinker.lm_head.weight");
    for layer in 0..config.num_hidden_layers {
        let (there, here) = (
            format!("blk.{layer}"),
            format!("thinker.model.layers.{layer}"),
        );
        for (part, ours) in [
            ("attn_norm", "input_layernorm"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("attn_q_norm", "self_attn.q_norm"),
            ("attn_k_norm", "self_attn.k_norm"),
            ("ffn_norm", "post_attention_layernorm"),
            ("ffn_gate_inp", "mlp.gate"),
        ] {
            one(
                &mut gguf,
                &format!("{there}.{part}.weight"),
                &format!("{here}.{ours}.weight"),
            );
        }
        for (part, matrix) in [
            ("ffn_gate_exps", ExpertMatrix::Gate),
            ("ffn_up_exps", ExpertMatrix::Up),
            ("ffn_down_exps", ExpertMatrix::Down),
        ] {
            let (mut all, mut shape, mut kind) = (Vec::new(), Vec::new(), 0);
            for expert in 0..config.num_experts {
                let name = expert_tensor_name(Component::Thinker, layer, expert, matrix).unwrap();
                let info = source.tensor(&name).unwrap();
                let mut bytes = vec![0; info.bytes as usize];
                source.read_tensor(&name, &mut bytes).unwrap();
                all.extend(bytes);
                (shape, kind) = (info.shape, kind_of(info.dtype));
            }
            shape.insert(0, config.num_experts);
            gguf.tensor(&format!("{there}.{part}.weight"), &shape, kind, all);
        }
    }
    gguf
}

fn tokenizer(gguf: &mut Gguf, vocab_size: usize) {
    let file = fs::read(model().join("tokenizer.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![5; vocab_size];
    for (token, id) in file["model"]["vocab"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as usize;
        (tokens[id], kinds[id]) = (token.clone(), 1);
    }
    for added in file["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap() as usize;
        (tokens[id], kinds[id]) = (added["content"].as_str().unwrap().to_owned(), 3);
    }
    let merge = |pair: &Value| {
        let pair: Vec<&str> = pair
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        pair.join(" ")
    };
    let merges: Vec<String> = file["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(merge)
        .collect();
    gguf.text("tokenizer.ggml.model", "gpt2");
    gguf.text("tokenizer.ggml.pre", "qwen2");
    let end = tokens
        .iter()
        .position(|token| token == "<|im_end|>")
        .unwrap();
    gguf.texts("tokenizer.ggml.tokens", &tokens);
    gguf.signed("tokenizer.ggml.token_type", &kinds);
    gguf.texts("tokenizer.ggml.merges", &merges);
    gguf.number("tokenizer.ggml.eos_token_id", end as u32);
    let template = fs::read(model().join("chat_template.json")).unwrap();
    let template: Value = serde_json::from_slice(&template).unwrap();
    gguf.text(
        "tokenizer.chat_template",
        template["chat_template"].as_str().unwrap(),
    );
}

fn written(gguf: &Gguf) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, gguf.bytes()).unwrap();
    (folder, path)
}

/// BLAKE3 of the bytes of an expert.
fn expert(store: &Path) -> String {
    let store = Store::open(store).unwrap();
    let record = &store.manifest().records["experts/thinker_expert_011_layer_03.safetensors"];
    record.data_blake3.clone()
}

fn answer(store: &Path) -> String {
    let prompt = "Laura lives in London. Helen lives in Milan. Where does Helen live?";
    let args = [
        "generate",
        text(store),
        "--prompt",
        prompt,
        "--max-tokens",
        "12",
        "--exact",
    ];
    let (code, stdout, stderr) = sage(&args);
    assert_eq!(code, 0, "{stderr}");
    stdout
}

#[test]
fn a_gguf_file_gives_the_experts_and_the_answers_of_the_checkpoint() {
    let checkpoint = Checkpoint::open(model()).unwrap();
    let (_folder, path) = written(&thinker(&checkpoint));
    let (own, there) = (extracted(&model(), &[]), extracted(&path, &[]));
    assert_eq!(expert(there.path()), expert(own.path()));
    assert_eq!(answer(there.path()), answer(own.path()));
    // Quantised on the way, it is what the checkpoint gives as well.
    assert_eq!(
        expert(extracted(&path, &["q8"]).path()),
        expert(extracted(&model(), &["q8"]).path())
    );
    let (code, _, stderr) = sage(&["extract", "--verify", text(there.path())]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn blocks_of_a_gguf_file_are_kept_or_changed_as_asked() {
    let quantised = extracted(&model(), &["q8", "q4_0"]);
    let store = Store::open(quantised.path()).unwrap();
    let (_folder, path) = written(&thinker(&store));
    assert_eq!(
        expert(extracted(&path, &[]).path()),
        expert(quantised.path())
    );
    assert_eq!(
        answer(extracted(&path, &[]).path()),
        answer(quantised.path())
    );
    // Of blocks, halves: what they widen to.
    let halves = extracted(&path, &["f16"]);
    let found = Store::open(halves.path()).unwrap();
    let location = found.expert(Component::Thinker, 3, 11).unwrap();
    assert_eq!(location.formats.to_string(), "F16");
}

/// Matrices of one expert may differ, as those that llama.cpp calls Q4_K_M do.
#[test]
fn matrices_of_an_expert_may_have_formats_of_their_own() {
    let store = extracted(&model(), &["q4_0"]);
    let mut gguf = thinker(&Store::open(store.path()).unwrap());
    let eight = extracted(&model(), &["q8_0"]);
    let other = thinker(&Store::open(eight.path()).unwrap());
    for (tensor, finer) in gguf.tensors.iter_mut().zip(&other.tensors) {
        if tensor.0.contains("ffn_down_exps") {
            *tensor = finer.clone();
        }
    }
    let (_folder, path) = written(&gguf);
    let mixed = extracted(&path, &[]);
    let found = Store::open(mixed.path()).unwrap();
    let location = found.expert(Component::Thinker, 3, 11).unwrap();
    assert_eq!(location.formats.to_string(), "Q4_0, Q4_0 and Q8_0");
    assert!(!answer(mixed.path()).is_empty());
}

#[test]
fn a_damaged_or_foreign_file_is_refused_by_what_is_wrong() {
    let checkpoint = Checkpoint::open(model()).unwrap();
    let whole = thinker(&checkpoint);
    let bytes = whole.bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let out = folder.path().join("store");
    let refused = |bytes: &[u8], said: &str| {
        fs::write(&path, bytes).unwrap();
        let (code, _, stderr) = sage(&["extract", text(&path), "--out", text(&out)]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(said), "{said}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(!out.exists(), "nothing is written");
    };
    for end in [8, 20, 30, 200, 5000, bytes.len() / 3] {
        refused(&bytes[..end], "GGUF");
    }
    refused(&bytes[..bytes.len() - 4096], "cut off; download it again");
    let mut version = bytes.clone();
    version[4] = 9;
    refused(&version, "GGUF version 9");
    let mut counted = bytes.clone();
    counted[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&counted, "tensors; there is room for");
    let changed = |change: &dyn Fn(&mut Gguf)| {
        let mut gguf = thinker(&checkpoint);
        change(&mut gguf);
        gguf.bytes()
    };
    refused(
        &changed(&|gguf| gguf.tensors[3].2 = 13),
        "is Q5_K, which is not read",
    );
    refused(&changed(&|gguf| gguf.tensors[3].2 = 99), "is type 99");
    refused(
        &changed(&|gguf| {
            gguf.tensors.pop();
        }),
        "first `",
    );
    refused(&changed(&|gguf| gguf.tensors[4].1[0] = 7), "shape");
    let twice = changed(&|gguf| gguf.tensors.push(gguf.tensors[2].clone()));
    refused(&twice, "`output.weight` twice");
    let other = changed(&|gguf| gguf.keys[40..44].copy_from_slice(&[b'x'; 4]));
    refused(&other, "is of architecture");
}
