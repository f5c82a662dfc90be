//! Reading checkpoints: the table of expected tensors, real files, and files that mean harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::common::{FIXTURES, copied, fixture, released_config};
use proptest::prelude::*;
use sage::checkpoint::expected_tensors;
use sage::checkpoint::{Checkpoint, Component, ExpertMatrix, ModelConfig, Role, SafetensorsHeader};
use sage::formats::WeightFormat;

fn released() -> ModelConfig {
    ModelConfig::from_json(&fs::read(released_config()).unwrap()).unwrap()
}

/// The rows by which the released checkpoint is counted.
fn row(component: Component, name: &str, role: Role) -> &'static str {
    match (component, role) {
        (Component::Thinker, Role::Expert { .. }) => "thinker experts",
        (Component::Thinker, Role::Router { .. }) => "thinker routers",
        (Component::Thinker, Role::Other) if name.contains("embed") || name.contains("head") => {
            "thinker tables"
        }
        (Component::Thinker, Role::Other) => "thinker rest",
        (Component::Audio, _) => "audio",
        (Component::Vision, _) => "vision",
        (Component::Talker, Role::Expert { .. }) => "talker experts",
        (Component::Talker, _) if name.starts_with("talker.code_predictor") => "code predictor",
        (Component::Talker, _) => "talker rest",
        (Component::Code2Wav, _) => "code2wav",
    }
}

#[test]
fn the_released_configuration_calls_for_its_exact_tensors() {
    let mut rows: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let tensors = expected_tensors(&released());
    for tensor in &tensors {
        let row = rows
            .entry(row(tensor.component, &tensor.name, tensor.role))
            .or_default();
        row.0 += 1;
        row.1 += tensor.shape.iter().map(|&d| d as u64).product::<u64>();
    }
    let expected = BTreeMap::from([
        ("thinker experts", (18_432, 28_991_029_248)),
        ("thinker rest", (385, 906_180_608)),
        ("thinker routers", (48, 12_582_912)),
        ("thinker tables", (2, 622_854_144)),
        ("audio", (525, 647_927_168)),
        ("vision", (351, 538_631_408)),
        ("talker experts", (7_680, 3_019_898_880)),
        ("talker rest", (271, 163_127_296)),
        ("code predictor", (86, 141_570_304)),
        ("code2wav", (230, 216_016_577)),
    ]);
    assert_eq!(rows, expected);
    assert_eq!(tensors.len(), 28_010);
    assert_eq!(rows.values().map(|row| row.1).sum::<u64>(), 35_259_818_545);
    let names: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names.len(), tensors.len(), "names are unique");
}

#[test]
fn every_fixture_holds_exactly_the_expected_tensors() {
    for name in FIXTURES {
        let checkpoint = Checkpoint::open(fixture(name)).unwrap();
        let expected = expected_tensors(checkpoint.config());
        for tensor in &expected {
            let found = checkpoint
                .tensor(&tensor.name)
                .unwrap_or_else(|| panic!("{name}: {}", tensor.name));
            assert_eq!(found.shape, tensor.shape, "{name}: {}", tensor.name);
        }
        assert_eq!(checkpoint.tensors().len(), expected.len(), "{name}");
    }
}

#[test]
fn tensors_read_alike_by_map_by_read_and_by_the_safetensors_library() {
    let checkpoint = Checkpoint::open(fixture("edge-bf16")).unwrap();
    for shard in 0..checkpoint.shard_count() {
        let bytes = fs::read(checkpoint.shard_path(shard)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, view) in file.tensors() {
            let info = checkpoint.tensor(&name).unwrap();
            assert_eq!((info.dtype, info.shard), (WeightFormat::BF16, shard));
            let mut read = vec![0; info.bytes as usize];
            checkpoint.read_into(&name, &mut read).unwrap();
            assert_eq!(read, view.data());
            assert_eq!(checkpoint.bytes(&name).unwrap(), view.data());
        }
    }
    assert!(
        checkpoint
            .read_into("thinker.lm_head.weight", &mut [0; 3])
            .is_err()
    );
    assert!(checkpoint.bytes("thinker.no.such").is_err());
}

#[test]
fn configurations_of_both_spellings_agree() {
    let text = fs::read_to_string(fixture("tiny-omni/config.json")).unwrap();
    let old: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut new = old.clone();
    for path in ["/thinker_config/text_config", "/talker_config/text_config"] {
        let section = new.pointer_mut(path).unwrap().as_object_mut().unwrap();
        let theta = section.remove("rope_theta").unwrap();
        let mrope = section.remove("rope_scaling").unwrap()["mrope_section"].clone();
        let rope = serde_json::json!({"rope_theta": theta, "mrope_section": mrope, "rope_type": "default"});
        section.insert("rope_parameters".into(), rope);
        if path.starts_with("/talker") {
            let experts = section.remove("num_experts").unwrap();
            section.insert("num_local_experts".into(), experts);
        }
    }
    let parse =
        |json: &serde_json::Value| ModelConfig::from_json(json.to_string().as_bytes()).unwrap();
    assert_eq!(parse(&old), parse(&new));
    assert_eq!(parse(&old).talker.unwrap().speaker_id["ethan"], 318);
}

#[test]
fn a_wrong_configuration_is_refused_by_the_name_of_its_key() {
    let text = fs::read_to_string(released_config()).unwrap();
    let base: serde_json::Value = serde_json::from_str(&text).unwrap();
    let check = |pointer: &str, value: Option<serde_json::Value>, named: &str| {
        let mut json = base.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let section = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => section.insert(key.into(), value),
            None => section.remove(key),
        };
        let error = ModelConfig::from_json(json.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{pointer}: {error}");
    };
    let text = "/thinker_config/text_config";
    for key in [
        "hidden_size",
        "num_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "vocab_size",
        "rope_theta",
    ] {
        check(
            &format!("{text}/{key}"),
            None,
            &format!("thinker_config.text_config.{key}"),
        );
    }
    check("/model_type", Some("llama".into()), "qwen3_omni_moe");
    check("/thinker_config", Some(3.into()), "thinker_config");
    check(
        &format!("{text}/num_key_value_heads"),
        Some(5.into()),
        "num_attention_heads",
    );
    check(
        &format!("{text}/num_experts_per_tok"),
        Some(129.into()),
        "num_experts_per_tok",
    );
    check(
        &format!("{text}/num_experts_per_tok"),
        Some(0.into()),
        "num_experts_per_tok",
    );
    check(
        &format!("{text}/hidden_act"),
        Some("relu".into()),
        "hidden_act",
    );
    check(
        &format!("{text}/hidden_size"),
        Some((-1).into()),
        "hidden_size",
    );
    check(
        &format!("{text}/num_hidden_layers"),
        Some(99_999.into()),
        "num_hidden_layers",
    );
    check(
        &format!("{text}/decoder_sparse_step"),
        Some(0.into()),
        "decoder_sparse_step",
    );
    check(
        &format!("{text}/rope_scaling/mrope_section"),
        Some(serde_json::json!([24, 20])),
        "mrope_section",
    );
    check(
        &format!("{text}/rope_scaling/mrope_section"),
        Some(serde_json::json!([24, 20, 21])),
        "mrope_section",
    );
    check("/thinker_config/audio_token_id", None, "audio_token_id");
    check(
        "/thinker_config/image_token_id",
        Some(152_064.into()),
        "image_token_id",
    );
    check(
        "/talker_config/speaker_id/ethan",
        Some(5_000.into()),
        "speaker_id.ethan",
    );
    check(
        "/code2wav_config/upsample_rates",
        Some(serde_json::json!([0])),
        "upsample_rates",
    );
}

/// A file of one header and so many bytes of data.
fn file(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

#[test]
fn hostile_headers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let check = |bytes: Vec<u8>, named: &str| {
        fs::write(&path, bytes).unwrap();
        let error = SafetensorsHeader::read(&path).unwrap_err().to_string();
        assert!(error.contains(named), "expected {named:?} in {error:?}");
    };
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    check(vec![], "0 bytes long");
    check(vec![1, 2, 3], "3 bytes long");
    check(
        u64::MAX.to_le_bytes().to_vec(),
        "18446744073709551615 bytes",
    );
    check(file("{", 0), "not valid");
    check(file("[]", 0), "not valid");
    check(file(&one("F32", "[2]", "[0,8]"), 7), "a.weight");
    check(file(&one("F32", "[2]", "[0,8]"), 9), "end at byte");
    check(file(&one("F32", "[3]", "[0,8]"), 8), "a.weight");
    check(file(&one("F32", "[2]", "[8,0]"), 8), "a.weight");
    check(file(&one("F32", "[2]", "[4,12]"), 12), "unused bytes");
    check(file(&one("F32", "[2]", "[-1,7]"), 8), "a.weight");
    check(file(&one("I64", "[1]", "[0,8]"), 8), "I64");
    check(
        file(
            &one("F32", "[4294967296,4294967296,4294967296]", "[0,8]"),
            8,
        ),
        "overflows",
    );
    let entry = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    check(file(&format!("{{{entry},{entry}}}"), 4), "twice");
    let other = r#""b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}"#;
    check(file(&format!("{{{entry},{other}}}"), 6), "overlaps");
    let mut invalid = file(&one("F32", "[2]", "[0,8]"), 8);
    invalid[12] = 0xff;
    check(invalid, "UTF-8");
    check(
        file(
            &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
            0,
        ),
        "not valid",
    );
}

#[test]
fn a_hostile_index_is_refused_by_name() {
    let folder = copied("edge-bf16");
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let second = "model-00002-of-00002.safetensors";
    let check = |changed: String, named: &str| {
        fs::write(&index, changed).unwrap();
        let error = Checkpoint::open(folder.path())
            .err()
            .expect(named)
            .to_string();
        assert!(error.contains(named), "expected {named:?} in {error:?}");
    };
    for hostile in [
        "../x.safetensors",
        "/etc/passwd",
        "a/b",
        "",
        "..",
        ".",
        "./x",
    ] {
        check(text.replace(second, hostile), "name of a file");
    }
    check(
        text.replace(second, "model-00003.safetensors"),
        "model-00003.safetensors is missing",
    );
    check(
        text.replacen(second, "model-00001-of-00002.safetensors", 1),
        "index",
    );
    check(
        text.replace("thinker.lm_head.weight", "thinker.other.weight"),
        "thinker.other.weight",
    );
    check(
        text.replacen(
            "thinker.audio_tower.conv2d1.weight",
            "thinker.audio_tower.conv2d1.bias",
            1,
        ),
        "twice",
    );
    check("{".into(), "index.json");
    check("{}".into(), "weight_map");
    fs::write(&index, text).unwrap();
    fs::remove_file(folder.path().join(second)).unwrap();
    assert!(Checkpoint::open(folder.path()).is_err());
    let partial = Checkpoint::open_incomplete(folder.path()).unwrap();
    assert_eq!(partial.missing_shards(), [second]);
    assert!(partial.tensor("thinker.lm_head.weight").is_none());
}

#[test]
fn sparse_layers_follow_step_and_exceptions() {
    let dense = Checkpoint::open(fixture("edge-dense-layers")).unwrap();
    assert_eq!(
        dense
            .config()
            .thinker
            .text
            .sparse_layers()
            .collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(ExpertMatrix::Down.shape(2048, 768), [2048, 768]);
    let tied = Checkpoint::open(fixture("edge-tied")).unwrap();
    assert!(tied.config().thinker.text.tie_word_embeddings);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to a few bytes of a small checkpoint, opening it answers or refuses, and never panics.
    #[test]
    fn mutated_checkpoints_never_panic(
        which in 0_usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = copied("edge-tied");
        let name = ["config.json", "model.safetensors", "model.safetensors"][which];
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let header_bytes = bytes.len().min(18_600);
        for (at, value) in &edits {
            bytes[at.index(header_bytes)] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            let expected = expected_tensors(checkpoint.config());
            for tensor in expected.iter().take(5_000) {
                if checkpoint.tensor(&tensor.name).is_some() {
                    let _ = checkpoint.bytes(&tensor.name).unwrap();
                }
            }
        }
    }
}
