//! The commands that run a model, as a user meets them: output, exit codes, messages.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sage(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sage"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .expect("sage runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one object of JSON")
}

const QUESTION: [&str; 4] = ["generate", "models/tiny", "--prompt", "What is 21 + 3?"];

#[test]
fn an_answer_goes_to_stdout_and_the_mode_to_stderr() {
    let output = sage(&[&QUESTION[..], &["--exact"]].concat());
    assert!(output.status.success());
    assert!(!text(&output.stdout).trim().is_empty());
    assert!(
        !text(&output.stdout).contains("<|im_end|>"),
        "special tokens are not shown"
    );
    let messages = text(&output.stderr);
    assert!(
        messages.contains("mode: exact") && messages.contains("peak memory"),
        "{messages}"
    );
    assert!(!messages.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn exact_answers_do_not_depend_on_memory_threads_or_eviction() {
    let answer = |more: &[&str]| {
        json(&sage(
            &[&QUESTION[..], &["--exact", "--json"], more].concat(),
        ))["tokens"]
            .clone()
    };
    let reference = answer(&[]);
    assert!(!reference.as_array().expect("tokens").is_empty());
    for more in [
        &["--limit", "0slots"][..],
        &["--limit", "20slots", "--eviction", "lru"],
        &["--limit", "20slots", "--eviction", "lfu"],
        &["--limit", "20slots", "--eviction", "trust"],
        &["--threads", "1"],
        &[
            "--limit",
            "1slots",
            "--threads",
            "3",
            "--eviction",
            "horizon",
        ],
    ] {
        assert_eq!(answer(more), reference, "{more:?}");
    }
}

#[test]
fn a_pool_below_one_tokens_experts_is_said_and_lru_hits_nothing_there() {
    // A window of 8 and what the limit gives beyond the floor, against every layer's experts.
    let config = std::fs::read_to_string("models/tiny/config.json").expect("config.json");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let config = &config["thinker_config"]["text_config"];
    let number = |key: &str| config[key].as_u64().expect("a number");
    let working_set = number("num_hidden_layers") * number("num_experts_per_tok");
    let run = |limit: &str, eviction: &str| {
        let more = [
            "--exact",
            "--limit",
            limit,
            "--eviction",
            eviction,
            "--json",
        ];
        let output = sage(&[&QUESTION[..], &more].concat());
        (json(&output), text(&output.stderr))
    };
    let (report, messages) = run("12slots", "lru");
    assert_eq!(report["decode_hit_rate"], 0.0);
    assert_eq!(
        report["mode"]["below_cycle"][0]["token_experts"], working_set,
        "{messages}"
    );
    assert!(
        messages.contains("warning: ")
            && messages.contains(&format!("of {working_set}: exactly 0 hits")),
        "{messages}"
    );
    let (report, messages) = run("12slots", "horizon");
    assert!(report["decode_hit_rate"].as_f64() > Some(0.0), "{report}");
    assert!(
        messages.contains("note: the pool holds fewer") && !messages.contains("warning"),
        "{messages}"
    );
    let (report, messages) = run("48slots", "lru");
    assert!(report["decode_hit_rate"].as_f64() > Some(0.0), "{report}");
    assert!(!messages.contains("fewer experts"), "{messages}");
}

#[test]
fn sampling_follows_its_seed() {
    let answer = |seed: &str| {
        let options = [
            "--temperature",
            "1.5",
            "--seed",
            seed,
            "--max-tokens",
            "24",
            "--ignore-stop",
            "--json",
        ];
        json(&sage(&[&QUESTION[..], &options].concat()))["tokens"].clone()
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
}

#[test]
fn the_priced_mode_reports_what_it_took() {
    let report = json(&sage(
        &[&QUESTION[..], &["--limit", "40slots", "--json"]].concat(),
    ));
    assert_eq!(report["mode"]["mode"], "priced");
    assert!(report["prompt_loss"].as_f64() > Some(0.0), "{report}");
    let (peak, limit) = (
        report["peak_rss_bytes"].as_u64(),
        report["mode"]["limit_bytes"].as_u64(),
    );
    assert!(peak > Some(0) && peak <= limit, "{report}");
}

#[test]
fn wrong_requests_say_what_is_wrong_and_end_with_2() {
    let settings = Path::new(env!("CARGO_TARGET_TMPDIR")).join("settings.toml");
    let settings = settings.to_str().expect("a path");
    std::fs::write(settings, "[mind]\nwindow_expert = 3").expect("written");
    let cases: [(&[&str], &str); 9] = [
        (
            &["generate", "no-such-model", "--prompt", "x"],
            "no-such-model",
        ),
        (
            &[
                "generate",
                "models/tiny",
                "--prompt",
                "x",
                "--limit",
                "3MiB",
            ],
            "would do",
        ),
        (
            &[
                "generate",
                "models/tiny",
                "--prompt",
                "x",
                "--limit",
                "3parsecs",
            ],
            "512MiB",
        ),
        (
            &[
                "generate",
                "models/tiny",
                "--prompt",
                "x",
                "--temperature=-1",
            ],
            "--temperature",
        ),
        (
            &["generate", "models/tiny", "--prompt-tokens", "1 99999"],
            "99999",
        ),
        (
            &[
                "generate",
                "models/tiny",
                "--prompt",
                "x",
                "--exact",
                "--routing",
                "sage",
            ],
            "--exact",
        ),
        (
            &[
                "generate",
                "models/tiny",
                "--prompt",
                "x",
                "--config",
                settings,
            ],
            "window_expert",
        ),
        (&["run", "no-such-scenario.toml"], "no-such-scenario.toml"),
        (
            &["verify", "models/tiny", "--goldens", "models/tiny/tasks"],
            "no golden",
        ),
    ];
    for (arguments, expected) in cases {
        let output = sage(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn verify_names_what_it_could_not_run() {
    let goldens = "tests/fixtures/tiny-thinker/goldens";
    let report = json(&sage(&[
        "verify",
        "tests/fixtures/tiny-thinker",
        "--goldens",
        goldens,
        "--json",
    ]));
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&Value::from(4), &Value::from(0)),
        "{report}"
    );
    assert!(report["cases"][0]["tensors"][0]["max_abs_error"].is_number());

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-goldens");
    std::fs::create_dir_all(&folder).expect("a folder");
    let pixels = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4])
        .expect("a tensor");
    let bytes = safetensors::serialize([("in.pixel_values", pixels)], None).expect("serialised");
    std::fs::write(folder.join("image.safetensors"), bytes).expect("written");
    let output = sage(&[
        "verify",
        "tests/fixtures/tiny-omni",
        "--goldens",
        folder.to_str().expect("a path"),
    ]);
    let shown = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "nothing was verified: {shown}"
    );
    assert!(
        shown.contains("skipped  image: has no in.input_ids"),
        "{shown}"
    );
    assert_eq!(
        shown.lines().last(),
        Some("0 passed, 0 failed, 1 skipped, 0 for orientation")
    );
}

/// A store runs alone, and a flipped byte in it is refused by name when it is needed.
#[test]
fn a_damaged_expert_is_refused_at_load() {
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged-store");
    let _ = std::fs::remove_dir_all(&store);
    let path = store.to_str().expect("a path");
    let made = sage(&["extract", "models/tiny", "--out", path]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let ask = ["generate", path, "--prompt", "What is 21 + 3?", "--exact"];
    assert_eq!(
        text(&sage(&ask).stdout),
        text(&sage(&[&QUESTION[..], &["--exact"]].concat()).stdout)
    );

    for (file, at) in [
        ("routers/thinker_router_layer_01.safetensors", 100),
        ("tokenizer.json", 5000),
    ] {
        flip(&store.join(file), |_| at);
        let output = sage(&ask);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{file} byte {at}: {message}");
        let name = file.rsplit('/').next().unwrap_or(file);
        assert!(message.contains(name), "{message}");
        flip(&store.join(file), |_| at);
    }
    // Padding of the header, then data: whichever expert is asked for first is refused.
    for (at, expected) in [(Some(2000), "header is damaged"), (None, "CRC-32")] {
        let experts = || {
            std::fs::read_dir(store.join("experts"))
                .expect("experts")
                .flatten()
        };
        experts().for_each(|expert| flip(&expert.path(), |len| at.unwrap_or(len - 1)));
        let output = sage(&ask);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(
            message.contains(expected) && message.contains("thinker expert"),
            "{message}"
        );
        assert_eq!(sage(&["extract", "--verify", path]).status.code(), Some(1));
        experts().for_each(|expert| flip(&expert.path(), |len| at.unwrap_or(len - 1)));
    }
    assert!(sage(&ask).status.success(), "all is as it was");
}

/// Flips a bit of one byte of a file; twice is none.
fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

/// What the index leaves out is missing: named, refused, and recorded where that is allowed.
#[test]
fn a_tensor_that_the_index_lacks_is_missing() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("index-lacks");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    for entry in std::fs::read_dir("tests/fixtures/tiny-thinker")
        .expect("files")
        .flatten()
    {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
        }
    }
    let tensor = "thinker.model.layers.1.mlp.experts.3.up_proj.weight";
    let path = folder.join("model.safetensors.index.json");
    let mut index: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("an index")).expect("JSON");
    index["weight_map"]
        .as_object_mut()
        .expect("a map")
        .remove(tensor)
        .expect("the tensor");
    std::fs::write(&path, index.to_string()).expect("written");
    let folder = folder.to_str().expect("a path");

    let inspected = sage(&["inspect", folder, "--json"]);
    assert_eq!(inspected.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    assert_eq!(report["missing"], serde_json::json!([tensor]));

    let store = format!("{folder}-store");
    let _ = std::fs::remove_dir_all(&store);
    let refused = sage(&["extract", folder, "--out", &store]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains(tensor),
        "{}",
        text(&refused.stderr)
    );
    assert!(
        sage(&["extract", folder, "--out", &store, "--allow-missing"])
            .status
            .success()
    );
    let goldens = "tests/fixtures/tiny-thinker/goldens";
    let verified = sage(&["verify", &store, "--goldens", goldens]);
    let shown = text(&verified.stdout);
    assert_eq!(
        verified.status.code(),
        Some(1),
        "{shown}{}",
        text(&verified.stderr)
    );
    assert!(
        shown.contains("expert 3") && shown.contains("layer 1"),
        "{shown}"
    );
}
