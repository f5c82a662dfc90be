//! Stores whose experts are in several formats: how they are made, what they say of themselves, and that they run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use sage::checkpoint::{Checkpoint, Component, ExpertMatrix, expert_tensor_name};
use sage::core::{Arrivals, Limit};
use sage::cpu::slots::ExpertSlots;
use sage::formats::WeightFormat;
use sage::host_memory::Mapped;
use sage::kernels::MatrixView;
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, open};
use sage::store::{Store, StoreError, WeightSource, open_model};
use sage_actors::config::{MindConfig, ModuleShape};
use sage_actors::protocol::{Module, Phase};
use serde_json::json;

use crate::common::fixture;
use crate::common::layouts::{Layout, extracted, inspect, sage, text, verify};
use crate::layouts::{errors, refused};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// A store of `checkpoint` with experts in the formats that the rules ask for.
fn converted(checkpoint: &Path, rules: &[&str]) -> tempfile::TempDir {
    let store = tempfile::tempdir().unwrap();
    let mut args = vec!["extract", text(checkpoint), "--out", text(store.path())];
    for rule in rules {
        args.extend(["--quant", *rule]);
    }
    let (code, _, stderr) = sage(&args);
    assert_eq!(code, 0, "{stderr}");
    store
}

fn fingerprint(model: &Path) -> String {
    open_model(model).unwrap().fingerprint().unwrap()
}

/// An expert's record, as it lies in the file.
fn record(store: &Store, layer: usize, expert: usize) -> (WeightFormat, Vec<u8>) {
    let found = store.expert(Component::Thinker, layer, expert).unwrap();
    let mut bytes = vec![0; found.len_bytes];
    let file = fs::File::open(&found.segments[0].path).unwrap();
    file.read_exact_at(&mut bytes, found.segments[0].offset)
        .unwrap();
    (found.formats.gate, bytes)
}

/// Runs a few tokens exactly under a limit: bits of the outputs, and what the mind knows of the experts.
fn run(model: &Path, limit: Limit, hold: bool) -> (Vec<u32>, ModuleShape) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = EngineOptions {
            limit,
            context_tokens: 64,
            chunk_tokens: Some(8),
            mind: MindConfig {
                hold: hold.then_some(EXACT),
                ..MindConfig::default()
            },
            ..EngineOptions::default()
        };
        let source = Arc::from(open_model(model).unwrap());
        let mut engine = open(source, options, |_, _| ()).await.unwrap();
        let shape = engine.mind_config.shape(Module::Thinker).unwrap().clone();
        let mut kv = engine.new_sequence().unwrap();
        let mut bits = Vec::new();
        for step in 0..8u32 {
            let orientation = engine.orient(Arrivals::default()).await.unwrap();
            let tokens = [17 + step, 40 + 3 * step];
            let phase = Phase::Prefill;
            let forward = engine.forward(&mut kv, &tokens, phase, &orientation, None);
            let forward = forward.await.unwrap();
            bits.extend(forward.normed.iter().map(|number| number.to_bits()));
            let stats = engine.mind.cache_stats().await.unwrap();
            assert!(stats.resident_bytes <= stats.capacity_bytes, "{stats:?}");
            assert!(
                engine.host().usage().held_bytes as u64
                    <= engine.plan.floor.window_bytes + engine.plan.pool_bytes,
                "more memory for experts than was planned"
            );
        }
        engine.shutdown().await;
        (bits, shape)
    })
}

#[test]
fn a_mixed_store_says_what_it_holds_and_is_not_the_model_it_was_made_from() {
    let (tiny, rules) = (model(), ["f32:0-1", "f16:2"]);
    let folder = converted(&tiny, &rules);
    let store = Store::open(folder.path()).unwrap();
    let conversion = store.manifest().converted.clone().unwrap();
    assert_eq!(conversion.of, fingerprint(&tiny));
    let said: Vec<_> = conversion
        .tensors
        .iter()
        .map(|alike| {
            let part = alike.name.split('.').rev().nth(1).unwrap();
            let layers: Vec<usize> = alike.layers.iter().copied().collect();
            (
                part,
                layers,
                alike.from.name(),
                alike.to.name(),
                alike.tensors,
            )
        })
        .collect();
    let parts = ["down_proj", "gate_proj", "up_proj"];
    let of_part = |part| {
        [
            (part, vec![0, 1], "BF16", "F32", 128),
            (part, vec![2], "BF16", "F16", 64),
        ]
    };
    let due: Vec<_> = parts.into_iter().flat_map(of_part).collect();
    assert_eq!(said, due);
    // Another model, the same from the same rules, another from others; and none where nothing changes.
    let own = fingerprint(folder.path());
    assert_ne!(own, conversion.of);
    assert_eq!(own, fingerprint(converted(&tiny, &rules).path()));
    assert_ne!(own, fingerprint(converted(&tiny, &["f32:0-2"]).path()));
    let same = converted(&tiny, &["bf16"]);
    assert_eq!(fingerprint(same.path()), conversion.of);
    assert_eq!(Store::open(same.path()).unwrap().manifest().converted, None);

    let (code, report) = inspect(folder.path());
    let thinker = &report["components"][0];
    assert_eq!(
        (code, &thinker["dtype"], &thinker["expert_format"]),
        (0, &json!("mixed"), &json!("mixed"))
    );
    // 64 experts a layer of 3 x 64 x 128 numbers.
    let layer = 64 * 3 * 64 * 128_u64;
    let by_format = &thinker["bytes_by_format"];
    assert_eq!(by_format["F32"], 2 * layer * 4);
    assert_eq!(by_format["F16"], layer * 2);
    assert_eq!(thinker["bytes_per_expert"], 96 << 10);
    let (code, _, stderr) = sage(&["extract", "--verify", text(folder.path())]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn numbers_are_rounded_once_and_widen_exactly() {
    let folder = converted(&model(), &["f16:0", "f32:1"]);
    let (checkpoint, store) = (
        Checkpoint::open(model()).unwrap(),
        Store::open(folder.path()).unwrap(),
    );
    for (layer, due) in [
        (0, WeightFormat::F16),
        (1, WeightFormat::F32),
        (2, WeightFormat::BF16),
    ] {
        let (format, bytes) = record(&store, layer, 7);
        assert_eq!(format, due);
        let mut memory = Mapped::new(bytes.len()).unwrap();
        memory.pages_mut()[..bytes.len()].copy_from_slice(&bytes);
        let view = MatrixView::new(format, memory.bytes(), 64, 128).unwrap();
        let name = expert_tensor_name(Component::Thinker, layer, 7, ExpertMatrix::Gate).unwrap();
        let before = checkpoint.bytes(&name).unwrap();
        let mut row = [0.0; 128];
        for (at, before) in before.chunks_exact(256).enumerate() {
            view.widen_row(at, &mut row);
            for (found, before) in row.iter().zip(before.as_chunks::<2>().0) {
                let exact = bf16::from_le_bytes(*before).to_f32();
                let due = match format {
                    WeightFormat::F16 => f16::from_f32(exact).to_f32(),
                    _ => exact,
                };
                assert_eq!(found.to_bits(), due.to_bits());
            }
        }
    }
}

/// Twice as many bits hold the same numbers: layers in F32 give the bits of the model they were made from.
#[test]
fn an_exact_run_of_a_mixed_store_is_the_same_under_every_limit() {
    let folder = converted(&model(), &["f32:0-1,4"]);
    let (due, alike) = run(&model(), Limit::None, true);
    assert!(alike.smaller.is_empty());
    for limit in [
        Limit::None,
        Limit::Slots(0),
        Limit::Slots(13),
        Limit::Slots(90),
    ] {
        let (found, shape) = run(folder.path(), limit, true);
        assert_eq!(found, due, "{limit:?}");
        assert_eq!(shape.expert_bytes, 96 << 10);
        let smaller: Vec<_> = shape
            .smaller
            .iter()
            .map(|run| (run.layer, run.first, run.experts, run.bytes))
            .collect();
        assert_eq!(smaller, [(2, 0, 64, 48 << 10), (3, 0, 64, 48 << 10)]);
        let text = serde_json::to_string(&shape).unwrap();
        assert_eq!(serde_json::from_str::<ModuleShape>(&text).unwrap(), shape);
    }
    // What is alike is written as it always was.
    let text = serde_json::to_string(&alike).unwrap();
    assert!(!text.contains("smaller"), "{text}");
    let rounded = converted(&model(), &["f16"]);
    let (all, _) = run(rounded.path(), Limit::None, true);
    assert_eq!(run(rounded.path(), Limit::Slots(7), true).0, all);
    // Free to choose by what is in memory, it keeps to its bytes as well.
    run(folder.path(), Limit::Slots(20), false);
}

#[test]
fn what_experts_take_is_counted_one_by_one() {
    let folder = converted(&model(), &["f32:0-1"]);
    let store = Store::open(folder.path()).unwrap();
    let slots = ExpertSlots::of(&store, Component::Thinker);
    let each = (0..5).flat_map(|layer| (0..64).map(move |expert| (layer, expert)));
    let sum: usize = each
        .map(|(layer, expert)| record(&store, layer, expert).1.len().next_multiple_of(4096))
        .sum();
    assert_eq!(slots.total_bytes, sum as u64);
    assert_eq!(slots.largest_bytes, 96 << 10);
    assert_eq!(slots.total_bytes, (2 * 64 * 96 + 3 * 64 * 48) << 10);
}

#[test]
fn a_mixed_store_of_two_components_generates_and_is_held_to_the_goldens() {
    let omni = fixture("tiny-omni");
    let folder = converted(&omni, &["f16:talker", "bf16:thinker:1,3"]);
    let report = verify(folder.path(), &fixture("tiny-omni/goldens"));
    let judged = |key: &str| report[key].as_u64().unwrap();
    // Rounded weights are not the model's: each case is judged, whether or not it is within the tolerance.
    assert!(judged("passed") + judged("failed") > 0, "{report:#}");
    assert_eq!(judged("skipped"), 0, "{report:#}");
    let generated = |limit: &str| {
        let (code, stdout, stderr) = sage(&[
            "generate",
            text(folder.path()),
            "--prompt-tokens",
            "5 9 3",
            "--max-tokens",
            "6",
            "--exact",
            "--limit",
            limit,
        ]);
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    assert_eq!(generated("none"), generated("3slots"));
}

#[test]
fn what_cannot_be_stored_is_named() {
    let (out, tiny) = (tempfile::tempdir().unwrap(), model());
    for (rule, due) in [
        (
            "q5",
            "--quant q5: q5 is no format; there are q8, q4, q2, f32, bf16, f16, q8_0, q4_0",
        ),
        (
            "f16:5",
            "there is no layer 5 of this model with routed experts",
        ),
        (
            "f16:talker",
            "there is no component of this model with routed experts",
        ),
    ] {
        let store = out.path().join("store");
        let (code, _, stderr) = sage(&[
            "extract",
            text(&tiny),
            "--out",
            text(&store),
            "--quant",
            rule,
        ]);
        assert_eq!(code, 2, "{rule}: {stderr}");
        assert!(stderr.contains(due), "{rule}: {stderr}");
    }
    // A number beyond the largest half.
    let mut layout = Layout::of(&fixture("tiny-thinker"));
    let name = "thinker.model.layers.1.mlp.experts.3.up_proj.weight";
    let tensor = layout.tensors.get_mut(name).unwrap();
    tensor.bytes[..4].copy_from_slice(&70_000.0_f32.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path());
    let store = out.path().join("beyond");
    let (code, _, stderr) = sage(&[
        "extract",
        text(folder.path()),
        "--out",
        text(&store),
        "--quant",
        "f16",
    ]);
    assert_ne!(code, 0);
    for due in [name, "70000", "F16", "65504"] {
        assert!(stderr.contains(due), "{stderr}");
    }
    // Beside it nothing stands in the way.
    converted(folder.path(), &["f16", "f32:1"]);
}

/// Opens a store with a changed manifest whose seal is right again.
fn reopened(store: &Path, change: impl Fn(&str) -> String) -> Result<Store, StoreError> {
    let path = store.join("extraction_manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let (body, _) = text.rsplit_once("\"blake3\":\"").unwrap();
    let body = change(body);
    let seal = blake3::hash(body.as_bytes()).to_hex();
    fs::write(&path, format!("{body}\"blake3\":\"{seal}\"}}\n")).unwrap();
    Store::open(store)
}

#[test]
fn a_record_that_is_cut_off_or_mislabelled_is_refused_by_name() {
    let folder = converted(&model(), &["f16:0"]);
    let file = "experts/thinker_expert_007_layer_00.safetensors";
    let line = |text: &str| -> String {
        let mut lines = text.lines();
        lines.find(|line| line.contains(file)).unwrap().to_owned()
    };
    let refusal = |change: &dyn Fn(&str) -> String| {
        let whole = fs::read(folder.path().join("extraction_manifest.json")).unwrap();
        let store = reopened(folder.path(), |text| {
            let before = line(text);
            text.replace(&before, &change(&before))
        });
        let error = match store {
            Err(error) => error.to_string(),
            Ok(store) => {
                let record = store.expert(Component::Thinker, 0, 7).unwrap();
                store.check_expert(&record).unwrap_err().to_string()
            }
        };
        fs::write(folder.path().join("extraction_manifest.json"), whole).unwrap();
        assert!(error.contains(file), "{error}");
        error
    };
    let error = refusal(&|line| line.replacen("F16", "F32", 1));
    assert!(error.contains("impossible place or size"), "{error}");
    let error = refusal(&|line| line.replacen("F16", "BF16", 1));
    assert!(error.contains("F16, the manifest BF16"), "{error}");
    // All three alike and of the right size: the record itself says otherwise.
    let error = refusal(&|line| line.replace("F16", "BF16"));
    assert!(error.contains("F16, the manifest BF16"), "{error}");

    let path = folder.path().join(file);
    let bytes = fs::metadata(&path).unwrap().len();
    let shorter = fs::File::options().write(true).open(&path).unwrap();
    shorter.set_len(bytes - 4096).unwrap();
    let (code, stdout, _) = sage(&["extract", "--verify", text(folder.path())]);
    assert_eq!(code, 1);
    assert!(stdout.contains(file), "{stdout}");
}

#[test]
fn made_up_weights_are_also_made_as_halves() {
    let out = tempfile::tempdir().unwrap();
    let make = |name: &str, format: &str| {
        let path = out.path().join(name);
        let (code, _, stderr) = sage(&[
            "synth",
            "--out",
            text(&path),
            "--layers",
            "2",
            "--vocab",
            "512",
            "--hidden",
            "64",
            "--heads",
            "4",
            "--kv-heads",
            "2",
            "--head-dim",
            "16",
            "--experts",
            "8",
            "--experts-per-token",
            "2",
            "--moe-intermediate",
            "32",
            "--quant",
            format,
        ]);
        (path, code, stderr)
    };
    let (brain, code, _) = make("brain", "bf16");
    assert_eq!(code, 0);
    let (half, code, stderr) = make("half", "f16");
    assert_eq!(code, 0, "{stderr}");
    assert_ne!(fingerprint(&brain), fingerprint(&half));
    let (_, report) = inspect(&half);
    assert_eq!(report["components"][0]["dtype"], "F16");
    let (bits, _) = run(&half, Limit::Slots(1), true);
    assert!(bits.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    let (_, code, stderr) = make("third", "q3");
    assert_eq!(code, 2);
    assert!(stderr.contains("q3 is no format"), "{stderr}");
}

#[test]
fn formats_may_differ_between_tensors_and_experts_but_not_within_one() {
    let mut layout = Layout::of(&fixture("tiny-thinker"));
    let wide = layout.halved();
    let take = |layout: &mut Layout, name: &str| {
        let tensor = wide.tensors[name].clone();
        layout.tensors.insert(name.to_owned(), tensor).unwrap();
    };
    for name in [
        "norm.weight",
        "layers.1.self_attn.q_proj.weight",
        "layers.3.mlp.gate.weight",
    ] {
        take(&mut layout, &format!("thinker.model.{name}"));
    }
    let [folder, wide_folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    layout.write(folder.path());
    wide.write(wide_folder.path());
    let goldens = "tiny-thinker/goldens";
    assert_eq!(
        errors(folder.path(), goldens),
        errors(wide_folder.path(), goldens)
    );

    let name = "thinker.model.layers.2.mlp.experts.5.down_proj.weight";
    take(&mut layout, name);
    refused(&layout, "other_types", name, "F16");

    // All three of it: then the experts of one layer are of two formats.
    for part in ["gate_proj", "up_proj"] {
        take(&mut layout, &name.replace("down_proj", part));
    }
    let mixed = tempfile::tempdir().unwrap();
    layout.write(mixed.path());
    let store = extracted(mixed.path());
    for model in [mixed.path(), store.path()] {
        assert_eq!(errors(model, goldens), errors(wide_folder.path(), goldens));
        let (code, report) = inspect(model);
        let thinker = &report["components"][0];
        assert_eq!((code, &thinker["dtype"]), (0, &json!("mixed")));
        assert_eq!(thinker["expert_format"], "mixed");
        let by_format = thinker["bytes_by_format"].as_object().unwrap();
        let bytes: u64 = by_format
            .values()
            .map(|bytes| bytes.as_u64().unwrap())
            .sum();
        assert_eq!(thinker["bytes"], bytes);
        assert!(by_format.contains_key("F16") && by_format.contains_key("F32"));
    }
}
