//! What people have instead of a checkpoint that runs: each is named in one sentence, by every command, with what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use crate::common::layouts::{Layout, Stored, refuses, sage, text};
use crate::common::{copied, fixture};
use serde_json::{Value, json};

/// That every command names it in one sentence and ends with exit code 2.
fn named(model: &Path, said: &[&str]) {
    let (code, _, stderr) = sage(&["inspect", text(model)]);
    assert_eq!(code, 2, "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "one sentence: {stderr}");
    for said in said {
        assert!(
            stderr.contains(said),
            "inspect does not say {said}: {stderr}"
        );
    }
    refuses(model, said);
}

#[test]
fn weights_quantised_by_others_are_named() {
    let download = "Qwen/Qwen3-Omni-30B-A3B-Instruct";
    for (key, section, said) in [
        (
            "quantization_config",
            json!({ "quant_method": "fp8", "weight_block_size": [128, 128] }),
            "FP8 in blocks",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "hqq", "bits": 4 }),
            "hqq",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }),
            "bitsandbytes",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "compressed-tensors", "format": "pack-quantized" }),
            "compressed-tensors",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "some\u{1b}[31mthing" }),
            "some",
        ),
        (
            "quantization",
            json!({ "group_size": 64, "bits": 4 }),
            "MLX, 4 bits",
        ),
    ] {
        for level in ["", "/thinker_config", "/thinker_config/text_config"] {
            let folder = copied("edge-bf16");
            let path = folder.path().join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config.pointer_mut(level).unwrap()[key] = section.clone();
            fs::write(&path, config.to_string()).unwrap();
            let (_, _, stderr) = sage(&["inspect", text(folder.path())]);
            assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
            named(folder.path(), &[said, download]);
        }
    }
}

#[test]
fn weights_quantised_by_others_are_known_by_their_tensors() {
    let tensor = |dtype: &str, bytes: usize| Stored {
        dtype: dtype.to_owned(),
        shape: vec![8],
        bytes: vec![0; bytes],
    };
    let q = "thinker.model.layers.0.self_attn.q_proj";
    for (added, said) in [
        (
            vec![("weight", "F8_E4M3", 8), ("weight_scale_inv", "F32", 32)],
            "FP8 in blocks",
        ),
        (vec![("weight", "F8_E5M2", 8)], "FP8"),
        (
            vec![
                ("qweight", "I32", 32),
                ("qzeros", "I32", 32),
                ("scales", "F16", 16),
                ("g_idx", "I32", 32),
            ],
            "GPTQ",
        ),
        (
            vec![
                ("qweight", "I32", 32),
                ("qzeros", "I32", 32),
                ("scales", "F16", 16),
            ],
            "AWQ",
        ),
        (
            vec![
                ("weight", "U32", 32),
                ("scales", "F16", 16),
                ("biases", "F16", 16),
            ],
            "MLX",
        ),
        (
            vec![("weight", "U8", 8), ("weight.absmax", "U8", 8)],
            "bitsandbytes",
        ),
        (
            vec![("weight_packed", "I32", 32), ("weight_scale", "BF16", 16)],
            "compressed-tensors",
        ),
    ] {
        let mut layout = Layout::of(&fixture("edge-bf16"));
        layout.tensors.remove(&format!("{q}.weight")).unwrap();
        for (end, dtype, bytes) in added {
            layout
                .tensors
                .insert(format!("{q}.{end}"), tensor(dtype, bytes));
        }
        let folder = tempfile::tempdir().unwrap();
        layout.write(folder.path());
        named(folder.path(), &[said, "download the original"]);
        let folder = tempfile::tempdir().unwrap();
        layout.write_sharded(folder.path(), 2);
        named(folder.path(), &[said, "download the original"]);
    }
}

#[test]
fn what_is_no_checkpoint_at_all_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    };
    let gguf = file("gguf/model-Q4_K_M.gguf", b"GGUF\x03\0\0\0");
    named(&gguf, &["GGUF"]);
    named(gguf.parent().unwrap(), &["GGUF", "download the original"]);
    named(&file("named-otherwise", b"GGUF\x03\0\0\0"), &["GGUF"]);
    named(&file("x.safetensors", b"12345678"), &["give the folder"]);
    named(&file("x.pth", b"PK"), &["safetensors"]);
    named(&file("notes.txt", b"hello"), &["not a folder"]);

    let config = fs::read(fixture("edge-bf16/config.json")).unwrap();
    file("pickles/config.json", &config);
    let pickles = file("pickles/pytorch_model.bin", b"PK");
    named(pickles.parent().unwrap(), &["PyTorch", "save_pretrained"]);
    file("packed/config.json", &config);
    let packed = file("packed/model.gguf", b"GGUF");
    named(packed.parent().unwrap(), &["GGUF"]);
    let adapter = file(
        "lora/adapter_config.json",
        br#"{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-30B-A3B"}"#,
    );
    named(
        adapter.parent().unwrap(),
        &["adapter", "Qwen/Qwen3-30B-A3B", "merge"],
    );
    let pipeline = file(
        "pipeline/model_index.json",
        br#"{"_class_name": "FluxPipeline"}"#,
    );
    named(pipeline.parent().unwrap(), &["diffusers"]);
    let part = file("part/config.json", br#"{"_class_name": "AutoencoderKL"}"#);
    named(part.parent().unwrap(), &["diffusers", "AutoencoderKL"]);
    let other = file("other/config.json", br#"{"model_type": "llama"}"#);
    named(
        other.parent().unwrap(),
        &["llama", "qwen3_omni_moe", "qwen3_moe"],
    );
}

#[test]
fn what_a_decoder_of_text_asks_for_and_is_not_there_is_named_by_its_key() {
    for (key, value, said) in [
        (
            "rope_scaling",
            json!({ "rope_type": "yarn", "factor": 4.0 }),
            "rope_scaling.rope_type",
        ),
        (
            "rope_scaling",
            json!({ "type": "yarn", "factor": 4.0 }),
            "rope_scaling.type",
        ),
        (
            "rope_parameters",
            json!({ "rope_type": "llama3", "rope_theta": 1e6 }),
            "llama3",
        ),
        ("hidden_act", json!("gelu"), "`hidden_act`"),
        ("num_experts_per_tok", json!(7), "`num_experts_per_tok`"),
        ("head_dim", json!(15), "`head_dim`"),
        ("norm_topk_prob", Value::Null, "`norm_topk_prob`"),
        ("model_type", json!("qwen3_next"), "qwen3_moe"),
    ] {
        let mut layout = Layout::of(&fixture("qwen3-moe-tiny"));
        layout.config[key] = value;
        let folder = tempfile::tempdir().unwrap();
        layout.write(folder.path());
        let (code, _, stderr) = sage(&["inspect", text(folder.path())]);
        assert!(code == 2 && stderr.contains(said), "{key}: {stderr}");
        refuses(folder.path(), &[said]);
    }
}
