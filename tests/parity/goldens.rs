//! The engine equals the reference implementation on every golden, of words, sounds, pictures and speech, through the actors,
//! however little memory there is for experts.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::sync::Arc;

use sage::core::Limit;
use sage::goldens::{self, CaseReport, Status};
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, open};
use sage::store::open_model;
use sage_actors::config::{MindConfig, RoutingPolicy};

const CHECKPOINTS: [&str; 8] = [
    "tiny-thinker",
    "edge-no-norm-topk",
    "edge-dense-layers",
    "edge-all-experts",
    "edge-top1",
    "edge-tied",
    "edge-bf16",
    "qwen3-moe-tiny",
];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Runs every case of `goldens` on the model in `model`.
fn verify(model: &Path, goldens: &Path, limit: Limit, chunk_tokens: usize) -> Vec<CaseReport> {
    verify_routed(RoutingPolicy::Exact, model, goldens, limit, chunk_tokens)
}

fn verify_routed(
    routing: RoutingPolicy,
    model: &Path,
    goldens: &Path,
    limit: Limit,
    chunk_tokens: usize,
) -> Vec<CaseReport> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let source: Arc<dyn sage::store::WeightSource> =
            Arc::from(open_model(model).expect("a model"));
        let cases = goldens::cases(goldens).expect("goldens");
        let context_tokens = cases
            .iter()
            .map(|case| case.context_tokens)
            .max()
            .unwrap_or(1);
        let mind = MindConfig {
            hold: Some(EXACT),
            routing,
            ..MindConfig::default()
        };
        let codes = goldens::codes(&cases);
        let options = EngineOptions {
            limit,
            context_tokens,
            chunk_tokens: Some(chunk_tokens),
            mind,
            senses: goldens::senses(&cases),
            media_tokens: usize::MAX,
            speaks: codes.is_some(),
            codes: codes.unwrap_or_default(),
            ..EngineOptions::default()
        };
        let mut engine = open(source, options, |_, _| ()).await.expect("an engine");
        let mut reports = Vec::new();
        for case in &cases {
            reports.push(goldens::run(&mut engine, case).await.expect("a report"));
        }
        engine.shutdown().await;
        reports
    })
}

fn assert_equal(name: &str, reports: &[CaseReport]) {
    for report in reports {
        match report.status {
            Status::Pass => assert!(
                report.tensors.len() >= 4,
                "{name}/{}: nothing was compared",
                report.name
            ),
            Status::Orientation => {}
            Status::Fail | Status::Skipped => {
                panic!(
                    "{name}/{}: {:?} {:?}",
                    report.name, report.first_difference, report.reason
                )
            }
        }
    }
    assert!(
        reports.iter().any(|report| report.status == Status::Pass),
        "{name}: no case passed"
    );
}

#[test]
fn text_goldens_pass_from_the_checkpoint() {
    for name in CHECKPOINTS {
        let folder = fixture(name);
        assert_equal(
            name,
            &verify(&folder, &folder.join("goldens"), Limit::None, 128),
        );
    }
}

#[test]
fn text_goldens_pass_from_the_store() {
    for name in CHECKPOINTS {
        let folder = fixture(name);
        let store = tempfile::tempdir().expect("a folder");
        let checkpoint = sage::checkpoint::Checkpoint::open(&folder).expect("a checkpoint");
        let extraction = sage::store::Extraction::prepare(
            &checkpoint,
            store.path(),
            &sage::store::ExtractSelection::all(),
            false,
        );
        extraction.expect("a plan").run(&|_| ()).expect("a store");
        assert_equal(
            name,
            &verify(store.path(), &folder.join("goldens"), Limit::None, 128),
        );
    }
}

/// Memory changes speed, never a number: not with room for a window and nothing more, not in other chunks.
#[test]
fn text_goldens_pass_under_the_least_limit_and_in_any_chunk() {
    for name in CHECKPOINTS {
        let folder = fixture(name);
        let reference = verify(&folder, &folder.join("goldens"), Limit::None, 128);
        for (limit, chunk_tokens) in [
            (Limit::Slots(0), 128),
            (Limit::Slots(5), 7),
            (Limit::Slots(40), 1),
        ] {
            let reports = verify(&folder, &folder.join("goldens"), limit, chunk_tokens);
            assert_equal(name, &reports);
            assert_eq!(
                tensors(&reports),
                tensors(&reference),
                "{name} differs under {limit:?} in chunks of {chunk_tokens}"
            );
        }
    }
}

/// Hears, sees and speaks.
const OMNI: &str = "tiny-omni";

#[test]
fn every_golden_of_the_model_that_speaks_passes() {
    let folder = fixture(OMNI);
    let reports = verify(&folder, &folder.join("goldens"), Limit::None, 128);
    assert_equal(OMNI, &reports);
    let passed = reports.iter().filter(|r| r.status == Status::Pass);
    assert_eq!(passed.count(), 16, "nothing is passed over");
    for report in &reports {
        for tensor in report.tensors.iter().filter(|t| t.tolerance > 0.0) {
            println!(
                "{} {} {:.1e} of {:.1e}",
                report.name, tensor.name, tensor.max_abs_error, tensor.tolerance
            );
        }
    }
    let speech = reports.iter().find(|r| r.name == "speech-multimodal");
    let names: Vec<&str> = speech
        .expect("the case")
        .tensors
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    for name in [
        "thinker.tokens",
        "talker.input_embeds",
        "talker.topk_index.2",
        "talker.step_logits",
        "code_predictor.logits",
        "talker.codes",
        "waveform",
    ] {
        assert!(names.contains(&name), "{name} was not compared: {names:?}");
    }
}

#[test]
fn every_golden_of_the_model_that_speaks_passes_from_the_store() {
    let folder = fixture(OMNI);
    let store = tempfile::tempdir().expect("a folder");
    let checkpoint = sage::checkpoint::Checkpoint::open(&folder).expect("a checkpoint");
    let all = sage::store::ExtractSelection::all();
    let extraction = sage::store::Extraction::prepare(&checkpoint, store.path(), &all, false);
    extraction.expect("a plan").run(&|_| ()).expect("a store");
    let reports = verify(store.path(), &folder.join("goldens"), Limit::None, 128);
    assert_equal(OMNI, &reports);
}

#[test]
fn speech_depends_on_neither_memory_nor_chunks() {
    let folder = fixture(OMNI);
    let run = |limit, chunk| tensors(&verify(&folder, &folder.join("goldens"), limit, chunk));
    let reference = run(Limit::None, 128);
    for (limit, chunk) in [
        (Limit::Slots(0), 128),
        (Limit::Slots(5), 7),
        (Limit::Slots(40), 1),
    ] {
        assert!(
            run(limit, chunk) == reference,
            "differs under {limit:?} in chunks of {chunk}"
        );
    }
}

fn tensors(reports: &[CaseReport]) -> Vec<(String, u64)> {
    let tensors = reports.iter().flat_map(|report| &report.tensors);
    tensors
        .map(|t| (t.name.clone(), t.max_abs_error.to_bits()))
        .collect()
}

/// A verification that cannot fail verifies nothing.
#[test]
fn a_damaged_weight_is_found_and_its_layer_named() {
    let folder = fixture("tiny-thinker");
    let copy = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(&folder).expect("files").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
        }
    }
    let checkpoint = sage::checkpoint::Checkpoint::open(copy.path()).expect("a checkpoint");
    let tensor = checkpoint
        .tensor("thinker.model.layers.2.self_attn.q_norm.weight")
        .expect("a tensor")
        .clone();
    let shard = checkpoint.shard_path(tensor.shard).to_path_buf();
    let mut bytes = std::fs::read(&shard).expect("a shard");
    let at = tensor.offset as usize;
    bytes[at..at + 4].copy_from_slice(&1.5f32.to_le_bytes());
    std::fs::write(&shard, bytes).expect("written");
    let reports = verify(copy.path(), &folder.join("goldens"), Limit::None, 128);
    let text = reports
        .iter()
        .find(|report| report.name == "text")
        .expect("the case");
    assert_eq!(text.status, Status::Fail);
    let first = text.first_difference.as_deref().unwrap_or_default();
    assert!(
        first.starts_with("thinker.router_logits.2:"),
        "the first difference is {first}"
    );
}

/// Without its biases the default policy is the reference, down to the bit.
#[test]
fn salient_routing_without_bias_is_exact() {
    let folder = fixture("tiny-thinker");
    let goldens = folder.join("goldens");
    let exact = verify(&folder, &goldens, Limit::Slots(20), 128);
    let salient = verify_routed(
        RoutingPolicy::Salient,
        &folder,
        &goldens,
        Limit::Slots(20),
        128,
    );
    assert_equal("tiny-thinker", &salient);
    for (exact, salient) in exact.iter().zip(&salient) {
        for (exact, salient) in exact.tensors.iter().zip(&salient.tensors) {
            assert_eq!(
                exact.max_abs_error.to_bits(),
                salient.max_abs_error.to_bits(),
                "{}",
                exact.name
            );
        }
    }
}

/// Writes a golden of tiny-thinker, with its tensors as `change` leaves them.
fn written_with(
    folder: &Path,
    change: impl Fn(&mut std::collections::BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>),
) {
    let from = fixture("tiny-thinker/goldens");
    let bytes = std::fs::read(from.join("text.safetensors")).expect("a golden");
    let parsed = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let mut tensors = parsed
        .iter()
        .map(|(name, view)| {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            (name.to_owned(), tensor)
        })
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data);
        (name.clone(), view.expect("a tensor"))
    });
    let bytes = safetensors::serialize(views, None).expect("serialised");
    std::fs::write(folder.join("text.safetensors"), bytes).expect("written");
    std::fs::copy(from.join("text.json"), folder.join("text.json")).expect("copied");
}

#[test]
fn a_golden_that_is_damaged_or_partly_unknown_never_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = fixture("tiny-thinker");
    let status = |what: &str| {
        let reports = std::panic::catch_unwind(|| run_cases(&model, folder.path()));
        reports.unwrap_or_else(|_| panic!("{what}: a panic"))
    };
    written_with(folder.path(), |_| ());
    assert_eq!(status("as it is"), Ok(Status::Pass));
    let names: Vec<String> = {
        let bytes = std::fs::read(folder.path().join("text.safetensors")).expect("a golden");
        let parsed = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
        parsed.names().into_iter().map(str::to_owned).collect()
    };
    for name in &names {
        // Under a name that nobody knows.
        written_with(folder.path(), |tensors| {
            if let Some(tensor) = tensors.remove(name) {
                tensors.insert(format!("{name}.of_tomorrow"), tensor);
            }
        });
        assert_ne!(
            status(&format!("{name} renamed")),
            Ok(Status::Pass),
            "{name} renamed"
        );
        if name == "in.attention_mask" {
            continue;
        }
        // Cut to half its rows, and to nothing.
        for keep in [2, usize::MAX] {
            written_with(folder.path(), |tensors| {
                if let Some((_, shape, data)) = tensors.get_mut(name) {
                    let at = shape.iter().position(|n| *n > 1).unwrap_or(0);
                    let row = data.len() / shape[at].max(1);
                    shape[at] /= keep;
                    data.truncate(shape[at] * row);
                    let whole = shape.iter().product::<usize>();
                    let each = if name.starts_with("in.")
                        || name.contains("index")
                        || name.ends_with("tokens")
                    {
                        8
                    } else {
                        4
                    };
                    data.resize(whole * each, 0);
                }
            });
            assert_ne!(
                status(&format!("{name} cut")),
                Ok(Status::Pass),
                "{name} cut by {keep}"
            );
        }
    }
    // Numbers that are none.
    for (what, bits) in [("infinite", f32::INFINITY), ("not a number", f32::NAN)] {
        for name in [
            "thinker.logits",
            "thinker.final_norm",
            "thinker.topk_weight.1",
        ] {
            written_with(folder.path(), |tensors| {
                if let Some((_, _, data)) = tensors.get_mut(name) {
                    data[8..12].copy_from_slice(&bits.to_le_bytes());
                }
            });
            assert_eq!(status(what), Ok(Status::Fail), "{name} {what}");
        }
    }
    // A description that is there and cannot be read says nothing that could be relied on.
    written_with(folder.path(), |_| ());
    std::fs::write(folder.path().join("text.json"), "{\"orientation_only\": tr").expect("written");
    assert!(status("a damaged description").is_err());
    std::fs::write(
        folder.path().join("text.safetensors"),
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
    )
    .expect("written");
    assert!(status("a damaged file").is_err());
}

/// What became of the one case of a folder; an error's text where it could not be run to its end.
fn run_cases(model: &Path, goldens: &Path) -> Result<Status, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let source: Arc<dyn sage::store::WeightSource> =
            Arc::from(open_model(model).expect("a model"));
        let cases = goldens::cases(goldens).map_err(|error| error.to_string())?;
        let mind = MindConfig {
            hold: Some(EXACT),
            routing: RoutingPolicy::Exact,
            ..MindConfig::default()
        };
        let options = EngineOptions {
            context_tokens: 256,
            mind,
            ..EngineOptions::default()
        };
        let mut engine = open(source, options, |_, _| ()).await.expect("an engine");
        let report = goldens::run(&mut engine, &cases[0]).await;
        engine.shutdown().await;
        Ok(report.map_err(|error| error.to_string())?.status)
    })
}
