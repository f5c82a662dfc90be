//! `sage verify --reference candle`: both agree on every fixture, and a weight that differs is found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::process::Command;

/// Exit code, standard output, standard error.
fn verify(model: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sage"))
        .arg("verify")
        .arg(model)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_asked_for_is_one_thing() {
    let model = crate::common::fixture("edge-tied");
    let (code, _, said) = verify(&model, &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--goldens"), "{said}");
    let both = ["--goldens", "goldens", "--reference", "candle"];
    let (code, _, said) = verify(&model, &both);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("cannot be used with"), "{said}");
    let (code, _, said) = verify(&model, &["--goldens", "goldens", "--layers", "1"]);
    assert_eq!(code, 2, "{said}");
}

#[cfg(not(feature = "candle"))]
#[test]
fn a_program_without_candle_says_how_to_build_one_with() {
    let model = crate::common::fixture("edge-tied");
    let (code, out, said) = verify(&model, &["--reference", "candle"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        said.contains("cargo build --release --features candle"),
        "{said}"
    );
}

#[cfg(feature = "candle")]
mod with_candle {
    use std::path::Path;

    use sage::checkpoint::Checkpoint;
    use sage::store::ExtractSelection;
    use serde_json::Value;

    use super::verify;
    use crate::common::runs::root;
    use crate::common::scramble::scramble;
    use crate::common::{FIXTURES, copied, extract, fixture};

    /// Exit code and report.
    fn against(model: &Path, more: &[&str]) -> (i32, Value) {
        let more = [&["--reference", "candle", "--json"], more].concat();
        let (code, out, said) = verify(model, &more);
        let report = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{said}"));
        (code, report)
    }

    fn names(report: &Value) -> Vec<&str> {
        let tensors = report["cases"][0]["tensors"].as_array().unwrap();
        let names = tensors.iter().map(|tensor| tensor["name"].as_str());
        names.map(Option::unwrap).collect()
    }

    fn assert_passes(what: &str, (code, report): &(i32, Value)) {
        let case = &report["cases"][0];
        assert_eq!(*code, 0, "{what}: {}", case["first_difference"]);
        assert_eq!(case["status"], "pass", "{what}");
        assert_eq!(case["first_difference"], Value::Null, "{what}");
        assert_eq!(
            (&report["passed"], &report["failed"]),
            (&1.into(), &0.into())
        );
    }

    #[test]
    fn every_fixture_passes() {
        for name in FIXTURES.into_iter().chain(["qwen3-moe-tiny"]) {
            let checked = against(&fixture(name), &[]);
            assert_passes(name, &checked);
            let names = names(&checked.1);
            for expected in [
                "thinker.inputs_embeds",
                "thinker.router_logits.2",
                "thinker.topk_index.2",
                "thinker.topk_weight.2",
                "thinker.layer_out.2",
                "thinker.final_norm",
                "greedy.logits",
                "greedy.tokens",
            ] {
                // Layers of some fixtures are dense.
                let has = names.contains(&expected)
                    || (expected.ends_with(".2") && !expected.contains("layer_out"));
                assert!(has, "{name}: {expected} was not compared: {names:?}");
            }
            let reference = &checked.1["reference"];
            assert_eq!(reference["tokens"].as_array().unwrap().len(), 31, "{name}");
            assert!(reference["choices"].as_u64().unwrap() >= 31, "{name}");
        }
    }

    /// With a tokenizer, words; under a limit, in small chunks, from a store.
    #[test]
    fn words_a_limit_and_a_store_change_nothing() {
        let model = root().join("models/tiny");
        assert_passes("words", &against(&model, &[]));
        let store = tempfile::tempdir().unwrap();
        extract(&model, store.path(), &ExtractSelection::all());
        let checkpoint = model.to_str().unwrap();
        let more = [
            "--limit",
            "16slots",
            "--chunk",
            "5",
            "--prompt",
            "Laura lives in London.",
            "--max-tokens",
            "3",
            "--reference-weights",
            checkpoint,
        ];
        let checked = against(store.path(), &more);
        assert_passes("a store", &checked);
        assert!(
            !checked.1["reference"]["said"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn some_layers_can_be_compared_alone() {
        let ids = ["--prompt-tokens", "17 4 250", "--layers", "2"];
        let checked = against(&fixture("tiny-thinker"), &ids);
        assert_passes("two layers", &checked);
        let names = names(&checked.1);
        assert!(names.contains(&"thinker.layer_out.1"), "{names:?}");
        assert!(!names.contains(&"thinker.layer_out.2"), "{names:?}");
        assert!(!names.contains(&"thinker.final_norm"), "{names:?}");
        assert_eq!(
            checked.1["reference"]["tokens"],
            serde_json::json!([17, 4, 250])
        );
    }

    /// A verification that cannot fail verifies nothing.
    #[test]
    fn scrambled_experts_are_found_and_their_first_layer_named() {
        let model = root().join("models/tiny");
        let copy = tempfile::tempdir().unwrap();
        scramble(&model, copy.path(), |layer, _| layer >= 2);
        let weights = ["--reference-weights", model.to_str().unwrap()];
        let (code, report) = against(copy.path(), &weights);
        assert_eq!((code, &report["failed"]), (1, &1.into()));
        let first = report["cases"][0]["first_difference"].as_str().unwrap();
        assert!(first.starts_with("thinker.layer_out.2: token "), "{first}");
    }

    #[test]
    fn one_damaged_weight_of_one_expert_is_found() {
        let name = "edge-all-experts";
        let copy = copied(name);
        let checkpoint = Checkpoint::open(copy.path()).unwrap();
        let weight = "thinker.model.layers.1.mlp.experts.4.up_proj.weight";
        let tensor = checkpoint.tensor(weight).unwrap().clone();
        let shard = checkpoint.shard_path(tensor.shard).to_path_buf();
        let mut bytes = std::fs::read(&shard).unwrap();
        let at = tensor.offset as usize;
        let number = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&(number + 0.01).to_le_bytes());
        std::fs::write(&shard, bytes).unwrap();
        let original = fixture(name);
        let weights = ["--reference-weights", original.to_str().unwrap()];
        let (code, report) = against(copy.path(), &weights);
        assert_eq!((code, &report["failed"]), (1, &1.into()));
        let first = report["cases"][0]["first_difference"].as_str().unwrap();
        assert!(first.starts_with("thinker.layer_out.1: token "), "{first}");
        // Against itself it is a model like another: who has only the damaged copy cannot know.
        assert_passes("the copy alone", &against(copy.path(), &[]));
    }

    #[test]
    fn models_of_different_shapes_are_refused() {
        let other = fixture("edge-top1");
        let more = [
            "--reference",
            "candle",
            "--reference-weights",
            other.to_str().unwrap(),
        ];
        let (code, _, said) = verify(&fixture("tiny-thinker"), &more);
        assert_eq!(code, 2);
        assert!(said.contains("different shapes"), "{said}");
    }
}
