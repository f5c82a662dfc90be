//! Stores in formats of blocks: what they hold, that they run alike everywhere, and that other readers can open them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sage::store::{Store, open_model};
use serde_json::json;

use crate::common::fixture;
use crate::common::layouts::{inspect, sage, text, verify};
use crate::extracting::extracted;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// How the store holds tensors whose name ends so.
fn format_of(report: &serde_json::Value, ending: &str) -> String {
    let kinds = report["components"][0]["kinds"].as_array().unwrap();
    let is_it = |kind: &&serde_json::Value| kind["name"].as_str().unwrap().ends_with(ending);
    let found: Vec<_> = kinds
        .iter()
        .filter(is_it)
        .map(|kind| &kind["format"])
        .collect();
    assert_eq!(found.len(), 1, "{ending}: {found:?}");
    found[0].as_str().unwrap().to_owned()
}

#[test]
fn every_tensor_is_in_the_format_that_fits_it() {
    // Rows of 64 and 128 numbers are no blocks of 256.
    let folder = extracted(&model(), &["q4", "q6_k:embedding"]);
    let (code, report) = inspect(folder.path());
    assert_eq!(code, 0);
    for (ending, due) in [
        ("experts.*.gate_proj.weight", "Q4_0"),
        ("experts.*.down_proj.weight", "Q4_0"),
        ("self_attn.q_proj.weight", "Q8_0"),
        ("lm_head.weight", "Q8_0"),
        ("embed_tokens.weight", "Q8_0"),
        ("mlp.gate.weight", "BF16"),
        ("thinker.model.norm.weight", "BF16"),
    ] {
        assert_eq!(format_of(&report, ending), due, "{ending}");
    }
    // 3 x 64 x 128 numbers in blocks of 32 that take 18 bytes.
    assert_eq!(
        report["components"][0]["bytes_per_expert"],
        3 * 64 * 128 / 32 * 18
    );
}

/// The bytes of one expert, by BLAKE3: quantising gives the same on every processor.
#[test]
fn quantised_bytes_are_the_same_everywhere() {
    let folder = extracted(&model(), &["q4"]);
    let store = Store::open(folder.path()).unwrap();
    let record = &store.manifest().records["experts/thinker_expert_005_layer_02.safetensors"];
    assert_eq!(record.data_blake3, Q4_EXPERT);
    let folder = extracted(&model(), &["q8"]);
    let store = Store::open(folder.path()).unwrap();
    let record = &store.manifest().records["experts/thinker_expert_005_layer_02.safetensors"];
    assert_eq!(record.data_blake3, Q8_EXPERT);
}

const Q4_EXPERT: &str = "3f9e97fb84c98ae4604900e66c6ce551948b2e19c1a16abefa7fd4def91b78a5";
const Q8_EXPERT: &str = "15830b4b3f01ed84d2fdb50431ed512db482da099e710e2d019697c052744f1d";

#[test]
fn other_readers_find_rows_of_bytes() {
    let folder = extracted(&model(), &["q4"]);
    let file = folder
        .path()
        .join("experts/thinker_expert_000_layer_00.safetensors");
    let bytes = fs::read(file).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let name = "thinker.model.layers.0.mlp.experts.0.gate_proj.weight";
    let tensor = read.tensor(name).unwrap();
    assert_eq!(
        (tensor.dtype(), tensor.shape()),
        (safetensors::Dtype::U8, &[64, 128 / 32 * 18][..])
    );
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let note = &header.metadata().as_ref().unwrap()[name];
    assert_eq!(note, "Q4_0 [64, 128]");
}

#[test]
fn a_quantised_store_runs_alike_whatever_is_in_memory_and_is_near_the_model() {
    for rule in ["q8", "q4"] {
        let folder = extracted(&model(), &[rule]);
        let generated = |limit: &str, threads: &str| {
            let (code, stdout, stderr) = sage(&[
                "generate",
                text(folder.path()),
                "--prompt-tokens",
                "5 9 3 200 17 40 41 42 43 7",
                "--max-tokens",
                "8",
                "--exact",
                "--limit",
                limit,
                "--threads",
                threads,
            ]);
            assert_eq!(code, 0, "{stderr}");
            stdout
        };
        let all = generated("none", "1");
        assert_eq!(generated("9slots", "2"), all);
    }
}

/// Made-up weights whose rows are whole blocks of 256 numbers.
fn made_up(folder: &Path, rules: &[&str]) {
    let sizes = "--layers 2 --vocab 512 --hidden 256 --heads 4 --kv-heads 2 --head-dim 64 --experts 8 \
                 --experts-per-token 2 --moe-intermediate 256";
    let mut args = vec!["synth", "--out", text(folder)];
    args.extend(sizes.split_whitespace());
    for rule in rules {
        args.extend(["--quant", *rule]);
    }
    let (code, _, stderr) = sage(&args);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn blocks_of_256_run_alike_whatever_is_in_memory() {
    for (rules, due) in [
        (&["q4"][..], "Q4_K"),
        (&["q2", "q6_k:trunk", "q4_k:embedding"], "Q2_K"),
        (&["q6_k"], "Q6_K"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        made_up(folder.path(), rules);
        let (code, report) = inspect(folder.path());
        assert_eq!(
            (code, &report["components"][0]["expert_format"]),
            (0, &json!(due))
        );
        let generated = |limit: &str, threads: &str, chunk: &str| {
            let prompt = "5 9 3 200 17 40 41 42 43 7 88 21 450 3 3 19 77";
            let (code, stdout, stderr) = sage(&[
                "generate",
                text(folder.path()),
                "--prompt-tokens",
                prompt,
                "--max-tokens",
                "8",
                "--ignore-stop",
                "--exact",
                "--limit",
                limit,
                "--threads",
                threads,
                "--set",
                chunk,
            ]);
            assert_eq!(code, 0, "{stderr}");
            stdout
        };
        let all = generated("none", "1", "session.chunk_tokens=128");
        assert_eq!(all.split_whitespace().count(), 8, "{all}");
        assert_eq!(generated("3slots", "2", "session.chunk_tokens=128"), all);
        // Rows together are rows alone.
        assert_eq!(generated("none", "2", "session.chunk_tokens=1"), all);
    }
}

#[test]
fn a_speaking_model_is_quantised_and_judged_by_the_goldens() {
    let folder = extracted(&fixture("tiny-omni"), &["q8"]);
    let report = verify(folder.path(), &fixture("tiny-omni/goldens"));
    let judged = |key: &str| report[key].as_u64().unwrap();
    assert!(judged("passed") + judged("failed") > 0, "{report:#}");
    assert_eq!(judged("skipped"), 0, "{report:#}");
}

#[test]
fn a_recording_names_the_arithmetic_of_blocks_and_comes_again_on_every_instruction_set() {
    let folder = extracted(&model(), &["q4"]);
    let scratch = tempfile::tempdir().unwrap();
    let trace = scratch.path().join("run.trace");
    let scenario = "scenarios/wake-focus-crisis.toml";
    let args = [
        "run",
        scenario,
        "--model",
        text(folder.path()),
        "--record",
        text(&trace),
    ];
    let (code, _, stderr) = sage(&args);
    assert_eq!(code, 0, "{stderr}");
    let header = fs::read_to_string(&trace).unwrap();
    let first = header.lines().next().unwrap();
    assert!(
        first.contains("dot-lanes-32/3, int8-blocks-32/1"),
        "{first}"
    );
    for kernels in ["portable", "avx2", "avx512"] {
        let (code, stdout, stderr) = sage(&[
            "replay",
            text(&trace),
            "--verify",
            "--model",
            text(folder.path()),
            "--kernels",
            kernels,
            "--json",
        ]);
        let is_there =
            !stderr.contains("this processor has no") && !stdout.contains("this processor has no");
        assert!(code == 0 || !is_there, "{kernels}: {stdout}{stderr}");
    }
    // The model that it was made from is another one.
    let (code, stdout, stderr) = sage(&[
        "replay",
        text(&trace),
        "--verify",
        "--model",
        text(&model()),
    ]);
    assert_ne!(code, 0, "{stdout}{stderr}");
}

#[test]
fn a_number_that_no_block_holds_is_named() {
    use crate::common::layouts::Layout;
    let mut layout = Layout::of(&model());
    let name = "thinker.model.layers.1.mlp.experts.3.up_proj.weight";
    let tensor = layout.tensors.get_mut(name).unwrap();
    tensor.bytes[..2].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    let out = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = sage(&[
        "extract",
        text(folder.path()),
        "--out",
        text(out.path()),
        "--quant",
        "q8",
    ]);
    assert_ne!(code, 0, "{stdout}");
    assert!(stderr.contains(name) && stderr.contains("inf"), "{stderr}");
    assert!(open_model(out.path()).is_err());
    assert_eq!(json!(stdout.contains("panicked")), json!(false));
}
