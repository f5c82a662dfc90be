//! Checkpoints as people have them: every layout runs as the released one does, from its folder and from a store, and what
//! does not run is named at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use crate::common::fixture;
use crate::common::layouts::{Layout, Stored, extracted, inspect, refuses, sage, text, verify};
use sage::store::open_model;
use sage::text::stop_tokens;
use serde_json::{Value, json};

/// Every golden passes from the checkpoint and from its store, and inspection says before that they will.
fn passes(layout: &Layout, goldens: &str, cases: u64) {
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    let (code, report) = inspect(folder.path());
    assert_eq!(
        (code, &report["complete"], &report["runnable"]),
        (0, &json!(true), &json!(true)),
        "{report:#}"
    );
    let bytes: usize = layout
        .tensors
        .values()
        .map(|tensor| tensor.bytes.len())
        .sum();
    assert_eq!(report["total_bytes"], bytes, "every byte is accounted for");
    let store = extracted(folder.path());
    for model in [folder.path(), store.path()] {
        let report = verify(model, &fixture(goldens));
        assert_eq!(
            (&report["passed"], &report["failed"], &report["skipped"]),
            (&json!(cases), &json!(0), &json!(0)),
            "{report:#}"
        );
    }
    let open = |path: &Path| open_model(path).unwrap().fingerprint().unwrap();
    assert_eq!(open(folder.path()), open(store.path()));
    let (code, _, stderr) = sage(&["extract", "--verify", text(store.path())]);
    assert_eq!(code, 0, "{stderr}");
}

/// That inspection answers no and names it, and that extraction and generation refuse it by the same name.
pub fn refused(layout: &Layout, list: &str, named: &str, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    let (code, report) = inspect(folder.path());
    assert_eq!(
        (code, &report["runnable"]),
        (1, &json!(false)),
        "{report:#}"
    );
    assert!(report[list].to_string().contains(named), "{report:#}");
    refuses(folder.path(), &[named, expected]);
}

#[test]
fn fused_experts_of_the_model_that_speaks() {
    let mut layout = Layout::of(&fixture("tiny-omni"));
    layout.fuse(|_| true);
    assert!(
        !layout
            .tensors
            .keys()
            .any(|name| name.contains(".experts.0."))
    );
    passes(&layout, "tiny-omni/goldens", 16);
}

#[test]
fn experts_fused_in_some_layers_and_in_half_a_layer() {
    let mut layout = Layout::of(&fixture("tiny-thinker"));
    let down = |layout: &Layout| {
        let kept = layout.tensors.iter();
        let kept = kept.filter(|(name, _)| {
            name.contains(".layers.0.mlp.experts.") && name.contains("down_proj")
        });
        kept.map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect::<Vec<_>>()
    };
    let apart = down(&layout);
    layout.fuse(|layer| !layer.ends_with(".1"));
    layout
        .tensors
        .remove("thinker.model.layers.0.mlp.experts.down_proj")
        .unwrap();
    layout.tensors.extend(apart);
    passes(&layout, "tiny-thinker/goldens", 4);
}

#[test]
fn fused_experts_that_cannot_be_cut_are_named_with_their_shape() {
    let name = "thinker.model.layers.2.mlp.experts.gate_up_proj";
    let change = |change: &dyn Fn(&mut Stored)| {
        let mut layout = Layout::of(&fixture("tiny-omni"));
        layout.fuse(|_| true);
        change(layout.tensors.get_mut(name).unwrap());
        layout
    };
    let expected = change(&|_| ()).tensors[name].shape.clone();
    let shown = format!("{expected:?}");
    let turned = change(&|tensor| tensor.shape.swap(1, 2));
    refused(&turned, "misshapen", name, &shown);
    refused(&turned, "misshapen", name, "transposed");
    let fewer = change(&|tensor| {
        tensor.shape[0] -= 1;
        let bytes = tensor.bytes.len() / expected[0] * tensor.shape[0];
        tensor.bytes.truncate(bytes);
    });
    refused(&fewer, "misshapen", name, &shown);
    let flat = change(&|tensor| tensor.shape = vec![expected[0] * expected[1], expected[2]]);
    refused(&flat, "misshapen", name, &shown);

    let mut gone = change(&|_| ());
    gone.tensors.remove(name).unwrap();
    let folder = tempfile::tempdir().unwrap();
    gone.write(folder.path());
    let (code, report) = inspect(folder.path());
    assert_eq!((code, &report["missing"]), (1, &json!([name])));
}

#[test]
fn an_expert_that_is_there_twice_is_refused() {
    let mut layout = Layout::of(&fixture("tiny-thinker"));
    let name = "thinker.model.layers.0.mlp.experts.3.up_proj.weight";
    let apart = layout.tensors[name].clone();
    layout.fuse(|_| true);
    layout.tensors.insert(name.to_owned(), apart);
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    refuses(
        folder.path(),
        &[name, "thinker.model.layers.0.mlp.experts.gate_up_proj"],
    );
}

/// Errors against goldens, which f16 does not reach: two models with the same ones compute the same numbers.
pub fn errors(model: &Path, goldens: &str) -> Vec<Value> {
    let report = verify(model, &fixture(goldens));
    let cases = report["cases"].as_array().unwrap().iter();
    let tensors = cases.flat_map(|case| case["tensors"].as_array().unwrap().clone());
    let errors: Vec<Value> = tensors.collect();
    assert!(errors.len() > 20, "{report:#}");
    errors
}

#[test]
fn half_precision_is_widened_exactly() {
    for (name, goldens) in [
        ("tiny-thinker", "tiny-thinker/goldens"),
        ("tiny-omni", "tiny-omni/goldens"),
        ("qwen3-moe-tiny", "qwen3-moe-tiny/goldens"),
    ] {
        let mut half = Layout::of(&fixture(name));
        let wide = half.halved();
        let [half_folder, wide_folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        half.write(half_folder.path());
        wide.write(wide_folder.path());
        let due = errors(wide_folder.path(), goldens);
        let store = extracted(half_folder.path());
        for model in [half_folder.path(), store.path()] {
            assert_eq!(errors(model, goldens), due, "{name}");
            let (code, report) = inspect(model);
            let (_, of_wide) = inspect(wide_folder.path());
            assert_eq!((code, &report["runnable"]), (0, &json!(true)));
            let component = |report: &Value| report["components"][0].clone();
            let of = |report: &Value, key: &str| component(report)[key].as_u64().unwrap();
            assert_eq!(component(&report)["dtype"], "F16");
            for key in ["bytes", "bytes_per_expert"] {
                assert_eq!(2 * of(&report, key), of(&of_wide, key), "{key}");
            }
        }
    }
}

#[test]
fn a_single_file_goes_before_an_index() {
    let layout = Layout::of(&fixture("tiny-thinker"));
    let folder = tempfile::tempdir().unwrap();
    layout.write_sharded(folder.path(), 3);
    layout.write(folder.path());
    // Both are whole, and the shards hold another model.
    let shard = folder.path().join("model-00002-of-00003.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let end = bytes.len() - 4096;
    bytes[end..].fill(0x3c);
    fs::write(&shard, &bytes).unwrap();
    let goldens = fixture("tiny-thinker/goldens");
    let passes = |said: &str| {
        assert_eq!(verify(folder.path(), &goldens)["failed"], 0);
        let (code, report) = inspect(folder.path());
        let notes = report["notes"].to_string();
        assert!(code == 0 && notes.contains(said), "{notes}");
        assert!(notes.contains("model.safetensors is loaded"), "{notes}");
    };
    passes("both there");
    let (_, _, stderr) = sage(&["verify", text(folder.path()), "--goldens", text(&goldens)]);
    assert!(stderr.contains("model.safetensors is loaded"), "{stderr}");
    fs::remove_file(&shard).unwrap();
    passes("of which 1 are not there");
    fs::write(folder.path().join("model.safetensors.index.json"), "{").unwrap();
    assert_eq!(verify(folder.path(), &goldens)["failed"], 0);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(sage(&["inspect", text(folder.path())]).0, 2);
}

#[test]
fn a_head_of_its_own_is_used_whatever_the_flags_say() {
    for pointer in ["/thinker_config/text_config", "/thinker_config"] {
        let mut layout = Layout::of(&fixture("tiny-thinker"));
        layout.config.pointer_mut(pointer).unwrap()["tie_word_embeddings"] = true.into();
        passes(&layout, "tiny-thinker/goldens", 4);
        let folder = tempfile::tempdir().unwrap();
        layout.write(folder.path());
        let store = extracted(folder.path());
        for model in [folder.path(), store.path()] {
            let (_, report) = inspect(model);
            assert!(
                report["notes"].to_string().contains("lm_head"),
                "{report:#}"
            );
        }
    }
    // Without one, either flag ties.
    let mut tied = Layout::of(&fixture("edge-tied"));
    tied.config["thinker_config"]["text_config"]["tie_word_embeddings"] = false.into();
    passes(&tied, "edge-tied/goldens", 1);
    let mut nested = Layout::of(&fixture("edge-tied"));
    nested.config["thinker_config"]["tie_word_embeddings"] = false.into();
    passes(&nested, "edge-tied/goldens", 1);
    let mut loose = Layout::of(&fixture("edge-tied"));
    for pointer in ["/thinker_config/text_config", "/thinker_config"] {
        loose.config.pointer_mut(pointer).unwrap()["tie_word_embeddings"] = false.into();
    }
    let folder = tempfile::tempdir().unwrap();
    loose.write(folder.path());
    let (code, report) = inspect(folder.path());
    assert_eq!(
        (code, &report["missing"]),
        (1, &json!(["thinker.lm_head.weight"]))
    );
}

/// The thinker's configuration as a file of its own.
fn thinker_alone(layout: &mut Layout) {
    layout.config = layout.config["thinker_config"].take();
    layout.config["model_type"] = "qwen3_omni_moe_thinker".into();
    layout.config["architectures"] = json!(["Qwen3OmniMoeThinkerForConditionalGeneration"]);
}

/// The names that transformers 5 has in memory, behind `thinker.` or without it.
fn names_of_5(name: &str) -> Option<String> {
    let rest = name.strip_prefix("thinker.")?;
    Some(match rest.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if rest.starts_with("lm_head") => rest.to_owned(),
        None => format!("model.{rest}"),
    })
}

#[test]
fn a_thinker_saved_alone_under_either_names() {
    for fixture_name in ["tiny-thinker", "edge-dense-layers"] {
        let cases = if fixture_name == "tiny-thinker" { 4 } else { 1 };
        let goldens = format!("{fixture_name}/goldens");
        let mut layout = Layout::of(&fixture(fixture_name));
        thinker_alone(&mut layout);
        layout.rename(|name| Some(name.strip_prefix("thinker.")?.to_owned()));
        assert!(layout.tensors.contains_key("model.embed_tokens.weight"));
        assert!(
            layout
                .tensors
                .keys()
                .any(|name| name.starts_with("visual."))
        );
        passes(&layout, &goldens, cases);

        let mut layout = Layout::of(&fixture(fixture_name));
        thinker_alone(&mut layout);
        layout.fuse(|_| true);
        layout.rename(names_of_5);
        assert!(
            layout
                .tensors
                .contains_key("model.language_model.norm.weight")
        );
        passes(&layout, &goldens, cases);

        layout.tensors.remove("model.language_model.norm.weight");
        let folder = tempfile::tempdir().unwrap();
        layout.write(folder.path());
        let (code, report) = inspect(folder.path());
        assert_eq!(
            (code, &report["missing"]),
            (1, &json!(["model.language_model.norm.weight"])),
            "as the files would spell it"
        );
    }
}

#[test]
fn the_whole_model_under_the_names_of_transformers_5() {
    let mut layout = Layout::of(&fixture("tiny-omni"));
    layout.fuse(|_| true);
    layout.rename(|name| match names_of_5(name) {
        Some(name) => Some(format!("thinker.{name}")),
        None => Some(name.to_owned()),
    });
    assert!(
        layout
            .tensors
            .contains_key("thinker.model.visual.pos_embed.weight")
    );
    passes(&layout, "tiny-omni/goldens", 16);

    let norm = layout.tensors["thinker.model.language_model.norm.weight"].clone();
    layout
        .tensors
        .insert("thinker.model.norm.weight".into(), norm);
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    let both = [
        "thinker.model.norm.weight",
        "thinker.model.language_model.norm.weight",
    ];
    refuses(folder.path(), &both);
}

/// The variants without speech: Thinking keeps both towers, and Captioner's configuration differs in nothing else.
#[test]
fn a_model_that_does_not_speak_has_no_talker() {
    let mut layout = Layout::of(&fixture("tiny-omni"));
    layout.config["enable_audio_output"] = false.into();
    layout.rename(|name| name.starts_with("thinker.").then(|| name.to_owned()));
    for drop_sections in [false, true] {
        if drop_sections {
            for key in ["talker_config", "code2wav_config"] {
                layout.config.as_object_mut().unwrap().remove(key);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        layout.write(folder.path());
        let (code, report) = inspect(folder.path());
        assert_eq!((code, &report["complete"]), (0, &json!(true)), "{report:#}");
        let names: Vec<&str> = report["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["thinker", "vision", "audio"]);
        let report = verify(folder.path(), &fixture("tiny-omni/goldens"));
        assert_eq!(report["failed"], 0, "{report:#}");
        assert!(report["passed"].as_u64().unwrap() >= 9, "{report:#}");
    }
}

#[test]
fn a_decoder_of_text_alone_equals_the_reference() {
    let layout = Layout::of(&fixture("qwen3-moe-tiny"));
    passes(&layout, "qwen3-moe-tiny/goldens", 3);
    let mut fused = Layout::of(&fixture("qwen3-moe-tiny"));
    fused.fuse(|_| true);
    assert!(
        fused
            .tensors
            .contains_key("model.layers.2.mlp.experts.gate_up_proj")
    );
    // As transformers 5 spells it.
    let config = fused.config.as_object_mut().unwrap();
    let theta = config.remove("rope_theta").unwrap();
    config.remove("rope_scaling");
    config.insert(
        "rope_parameters".into(),
        json!({ "rope_theta": theta, "rope_type": "default" }),
    );
    let experts = config.remove("num_experts").unwrap();
    config.insert("num_local_experts".into(), experts);
    passes(&fused, "qwen3-moe-tiny/goldens", 3);
}

#[test]
fn answers_end_where_the_model_says() {
    let ends = |change: &dyn Fn(&mut Layout)| {
        let mut layout = Layout::of(&fixture("qwen3-moe-tiny"));
        change(&mut layout);
        let folder = tempfile::tempdir().unwrap();
        layout.write(folder.path());
        stop_tokens(&*open_model(folder.path()).unwrap()).unwrap()
    };
    let without = |layout: &mut Layout| {
        layout.files.remove("generation_config.json").unwrap();
    };
    assert_eq!(ends(&|_| ()), [300, 302]);
    assert_eq!(ends(&without), [302]);
    let nothing = |layout: &mut Layout| {
        without(layout);
        layout.config["eos_token_id"] = Value::Null;
    };
    assert_eq!(ends(&nothing), Vec::<u32>::new());
    let config = json!({ "added_tokens_decoder": { "299": { "content": "<|im_end|>" } } });
    assert_eq!(
        ends(&|layout| {
            nothing(layout);
            let config = config.to_string().into_bytes();
            layout.files.insert("tokenizer_config.json".into(), config);
        }),
        [299]
    );
    let tokenizer =
        json!({ "added_tokens": [{ "id": 298, "content": "<|im_end|>" }], "model": {} });
    assert_eq!(
        ends(&|layout| {
            nothing(layout);
            let tokenizer = tokenizer.to_string().into_bytes();
            layout.files.insert("tokenizer.json".into(), tokenizer);
        }),
        [298]
    );
}

#[test]
fn the_released_folder_is_complete_and_runnable() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("released");
    let (code, _, stderr) = sage(&["synth", "--out", text(&out), "--headers-only"]);
    assert_eq!(code, 0, "{stderr}");
    let (code, report) = inspect(&out);
    assert_eq!((code, &report["notes"]), (0, &json!([])), "{report:#}");
    assert_eq!(
        (&report["complete"], &report["runnable"]),
        (&json!(true), &json!(true))
    );
    let (_, stdout, _) = sage(&["inspect", text(&out)]);
    assert!(stdout.contains("complete and runnable"), "{stdout}");
    for name in [
        "generation_config.json",
        "preprocessor_config.json",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "chat_template.json",
    ] {
        assert!(out.join(name).is_file(), "{name}");
    }
    assert!(!out.join("tokenizer.json").exists(), "the release has none");
    let store = folder.path().join("store");
    let dry = [
        "extract",
        text(&out),
        "--out",
        text(&store),
        "--dry-run",
        "--json",
    ];
    let (code, stdout, _) = sage(&dry);
    let dry: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &dry["missing"]), (0, &json!([])));
}
