//! The commands that look at, extract and make models, run as a user runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{copied, files, fixture};
use sage::store::open_model;
use serde_json::{Value, json};

fn sage() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sage"));
    command.stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// Runs `sage` with `args`; answers with exit code, stdout and stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = sage().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn run_json(args: &[&str]) -> (i32, Value) {
    let (code, stdout, stderr) = run(args);
    let value =
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{args:?}: {stdout:?} {stderr:?}"));
    (code, value)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A number from 0 to 1, another one each time.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[test]
fn inspect_counts_the_released_model() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("headers");
    let (code, made) = run_json(&["synth", "--out", text(&out), "--headers-only", "--json"]);
    assert_eq!(
        (code, &made["shards"], &made["tensors"]),
        (0, &json!(15), &json!(28_010))
    );
    let began = Instant::now();
    let (code, report) = run_json(&["inspect", text(&out), "--json"]);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(code, 0);
    assert_eq!(report["total_bytes"], 70_519_637_090_u64);
    let expected = [
        ("thinker", 61_065_293_824_u64, 18_867, 48, 128, 9_437_184),
        ("talker", 6_649_192_960, 8_037, 20, 128, 2_359_296),
        ("vision", 1_077_262_816, 351, 27, 0, 0),
        ("audio", 1_295_854_336, 525, 32, 0, 0),
        ("code2wav", 432_033_154, 230, 8, 0, 0),
    ];
    for ((name, bytes, tensors, layers, experts, expert_bytes), found) in expected
        .into_iter()
        .zip(report["components"].as_array().unwrap())
    {
        let found = found.as_object().unwrap();
        assert_eq!(
            (&found["name"], &found["bytes"]),
            (&json!(name), &json!(bytes))
        );
        assert_eq!(
            (&found["tensors"], &found["layers"]),
            (&json!(tensors), &json!(layers))
        );
        assert_eq!(
            (&found["experts_per_layer"], &found["bytes_per_expert"]),
            (&json!(experts), &json!(expert_bytes))
        );
        assert_eq!(found["dtype"], "BF16");
    }
    for list in ["missing", "misshapen", "unexpected"] {
        assert_eq!(report[list], json!([]), "{list}");
    }
    assert!(!report["straddling_experts"].as_array().unwrap().is_empty());
    let focus = &report["memory_per_state"][1];
    assert_eq!(focus["modules"][0]["expert_bytes"], 3456_u64 << 20);
    assert_eq!(focus["modules"][0]["token_experts"], 384);
    assert_eq!(focus["modules"][0]["lru_hits_nothing_up_to_experts"], 376);
    assert_eq!(focus["modules"][1]["expert_bytes"], 270_u64 << 20);
    assert_eq!(focus["always_resident_bytes"], 6_497_780_834_u64);
    // Where the released files have them.
    let index = fs::read_to_string(out.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    for (tensor, shard) in [
        ("thinker.audio_tower.proj2.bias", 1),
        ("thinker.visual.merger.mlp.2.weight", 1),
        ("thinker.model.embed_tokens.weight", 1),
        ("thinker.model.norm.weight", 13),
        ("thinker.lm_head.weight", 13),
        ("talker.codec_head.weight", 14),
        (
            "talker.code_predictor.model.layers.4.mlp.down_proj.weight",
            14,
        ),
        ("talker.code_predictor.lm_head.14.weight", 15),
        ("code2wav.decoder.6.conv.bias", 15),
    ] {
        assert_eq!(
            index["weight_map"][tensor],
            format!("model-{shard:05}-of-00015.safetensors"),
            "{tensor}"
        );
    }
    let (code, plan, _) = run(&[
        "extract",
        text(&out),
        "--out",
        text(&folder.path().join("x")),
        "--dry-run",
    ]);
    assert_eq!(code, 0);
    assert!(plan.contains("thinker experts") && plan.contains("6144"));
    assert!(!folder.path().join("x").exists());
}

#[test]
fn inspect_names_what_is_missing_or_misshapen() {
    let folder = copied("edge-bf16");
    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let config = folder.path().join("config.json");
    let wider = fs::read_to_string(&config)
        .unwrap()
        .replace("\"encoder_ffn_dim\": 16", "\"encoder_ffn_dim\": 24");
    fs::write(&config, wider).unwrap();
    let (code, report) = run_json(&["inspect", text(folder.path()), "--json"]);
    assert_eq!(code, 1);
    assert_eq!(
        report["missing_shards"],
        json!(["model-00002-of-00002.safetensors"])
    );
    assert!(
        report["missing"]
            .as_array()
            .unwrap()
            .contains(&json!("thinker.lm_head.weight"))
    );
    assert_eq!(
        report["misshapen"][0]["name"],
        "thinker.audio_tower.layers.0.fc1.weight"
    );
    let (code, shown, _) = run(&["inspect", text(folder.path())]);
    assert!(
        code == 1
            && shown.contains("missing tensors")
            && shown.contains("[16, 8], expected [24, 8]"),
        "{shown}"
    );
}

#[test]
fn wrong_requests_exit_with_2_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().join("out"), fixture("edge-bf16"));
    let (out, model) = (text(&out), text(&model));
    let cases: [(&[&str], &str); 14] = [
        (&["inspect", "/no/such/model"], "no such folder"),
        (&["inspect", text(folder.path())], "neither"),
        (&["extract", model], "--out"),
        (&["extract", model, "--out", model], "the checkpoint itself"),
        (
            &["extract", model, "--out", out, "--quant", "q5"],
            "q5 is no format; there are q8, q4, q2, f32, bf16, f16",
        ),
        (
            &[
                "extract",
                model,
                "--out",
                out,
                "--components",
                "thinker,nose",
            ],
            "nose",
        ),
        (
            &[
                "extract",
                model,
                "--out",
                out,
                "--component",
                "thinker",
                "--layer",
                "0",
            ],
            "--expert",
        ),
        (
            &[
                "extract",
                model,
                "--out",
                out,
                "--component",
                "thinker",
                "--layer",
                "9",
                "--expert",
                "0",
            ],
            "layers 0 to",
        ),
        (
            &[
                "extract",
                model,
                "--out",
                out,
                "--component",
                "talker",
                "--layer",
                "0",
                "--expert",
                "0",
            ],
            "no experts",
        ),
        (
            &["extract", model, "--out", out, "--experts", "top:0"],
            "at least 1",
        ),
        (
            &["extract", model, "--out", out, "--experts", "/no/such/file"],
            "/no/such/file",
        ),
        (&["extract", "--verify", model], "is a checkpoint"),
        (
            &["synth", "--out", out, "--layers", "1", "--vocab", "10"],
            "too small",
        ),
        (
            &["synth", "--out", out, "--layers", "1", "--heads", "3"],
            "num_attention_heads",
        ),
    ];
    for (args, named) in cases {
        let (code, stdout, stderr) = run(args);
        assert!(
            code == 2 && stdout.is_empty() && stderr.contains(named),
            "{args:?}: {code} {stderr}"
        );
        assert!(!Path::new(out).exists(), "{args:?}");
    }
}

#[test]
fn expert_lists_select_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("tiny-omni");
    let lists = [
        (
            "0 3\n# a comment\n4 15\n\ntalker 2 7 # one of the talker\n",
            3,
        ),
        (
            "[[0, 3], [\"talker\", 2, 7], {\"layer\": 4, \"expert\": 15}]",
            3,
        ),
    ];
    let mut stores = Vec::new();
    for (index, (list, count)) in lists.into_iter().enumerate() {
        let (file, out) = (
            folder.path().join("list"),
            folder.path().join(format!("store-{index}")),
        );
        fs::write(&file, list).unwrap();
        let (code, report) = run_json(&[
            "extract",
            text(&model),
            "--out",
            text(&out),
            "--experts",
            text(&file),
            "--json",
        ]);
        assert_eq!((code, &report["complete"]), (0, &json!(false)));
        assert_eq!(fs::read_dir(out.join("experts")).unwrap().count(), count);
        assert_eq!(fs::read_dir(out.join("routers")).unwrap().count(), 8);
        assert_eq!(run(&["extract", "--verify", text(&out)]).0, 0);
        let (code, report) = run_json(&["inspect", text(&out), "--json"]);
        assert_eq!((code, &report["missing"]), (0, &json!([])));
        assert_eq!(report["not_extracted"], 3 * (5 * 16 + 3 * 12 - count));
        stores.push(files(&out));
    }
    assert!(stores[0] == stores[1]);
    let (code, _, stderr) = run(&[
        "extract",
        text(&model),
        "--out",
        text(&folder.path().join("top")),
        "--experts",
        "top:2",
    ]);
    assert!(code == 0 && stderr.contains("norm of their router rows"));
    assert_eq!(
        fs::read_dir(folder.path().join("top/experts"))
            .unwrap()
            .count(),
        2 * (5 + 3)
    );
    for wrong in ["x y\n", "1\n", "nose 1 2\n", "[1]", "[[0,", "", "\u{0}"] {
        let file = folder.path().join("wrong");
        fs::write(&file, wrong).unwrap();
        let (code, ..) = run(&[
            "extract",
            text(&model),
            "--out",
            "/nowhere/x",
            "--experts",
            text(&file),
        ]);
        assert_eq!(code, 2, "{wrong:?}");
    }
}

#[test]
fn an_extraction_killed_anywhere_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (model, whole) = (fixture("tiny-omni"), folder.path().join("whole"));
    let began = Instant::now();
    assert_eq!(run(&["extract", text(&model), "--out", text(&whole)]).0, 0);
    let duration = began.elapsed();
    let expected = files(&whole);
    let mut killed = 0;
    for round in 0..20 {
        let out = folder.path().join(format!("round-{round}"));
        let mut child = sage()
            .args(["extract", text(&model), "--out", text(&out)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64(random()));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal() == Some(9));
        if !out.join("extraction_manifest.json").exists() {
            // What is there has final names only for whole files, and does not pass for a model.
            assert!(open_model(&out).is_err());
        }
        assert_eq!(run(&["extract", text(&model), "--out", text(&out)]).0, 0);
        assert!(files(&out) == expected, "round {round}");
    }
    assert!(
        killed >= 5,
        "only {killed} of 20 extractions were killed before they ended"
    );
}

#[test]
fn a_torn_or_foreign_journal_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (fixture("edge-bf16"), folder.path().join("store"));
    assert_eq!(run(&["extract", text(&model), "--out", text(&out)]).0, 0);
    let expected = files(&out);
    let journal = out.join("extraction_manifest.journal");
    for garbage in [
        "",
        "00000000 {}\n",
        "\u{feff}\n\n",
        "12345678 {\"fingerprint\":\"x\"}\ntorn",
    ] {
        fs::write(&journal, garbage).unwrap();
        fs::remove_file(out.join("extraction_manifest.json")).unwrap();
        fs::write(out.join("experts/x.safetensors.partial-1"), "left behind").unwrap();
        assert_eq!(run(&["extract", text(&model), "--out", text(&out)]).0, 0);
        assert!(files(&out) == expected, "{garbage:?}");
    }
}

#[test]
fn verify_names_the_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("store");
    assert_eq!(
        run(&["extract", text(&fixture("edge-tied")), "--out", text(&out)]).0,
        0
    );
    for file in [
        "experts/thinker_expert_002_layer_01.safetensors",
        "preprocessor_config.json",
        "config.json",
    ] {
        let path = out.join(file);
        let before = fs::read(&path).unwrap();
        let mut changed = before.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 0x20;
        fs::write(&path, changed).unwrap();
        let (code, stdout, _) = run(&["extract", "--verify", text(&out)]);
        assert!(code == 1 && stdout.contains(file), "{code} {stdout}");
        let (code, report) = run_json(&["extract", "--verify", text(&out), "--json"]);
        assert_eq!((code, &report["ok"]), (1, &json!(false)));
        fs::write(&path, before).unwrap();
    }
    assert_eq!(run(&["extract", "--verify", text(&out)]).0, 0);
}

#[test]
fn synthetic_stores_follow_from_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        let shape = [
            "--layers",
            "3",
            "--vocab",
            "400",
            "--hidden",
            "64",
            "--heads",
            "4",
            "--kv-heads",
            "2",
        ];
        let experts = [
            "--head-dim",
            "16",
            "--experts",
            "8",
            "--experts-per-token",
            "2",
            "--moe-intermediate",
            "32",
        ];
        let args = [
            &["synth", "--out", text(&out), "--seed", seed][..],
            &shape[..],
            &experts[..],
        ]
        .concat();
        assert_eq!(run(&args).0, 0);
        files(&out)
    };
    let [a, b, c] = [make("a", "1"), make("b", "1"), make("c", "2")];
    assert!(a == b && a != c);
    let out = folder.path().join("a");
    assert_eq!(run(&["extract", "--verify", text(&out)]).0, 0);
    let model = open_model(&out).unwrap();
    let config = model.config();
    assert_eq!(
        (
            config.thinker.text.num_hidden_layers,
            config.im_end_token_id
        ),
        (3, Some(389))
    );
    let tokenizer =
        tokenizers::Tokenizer::from_file(model.file("tokenizer.json").unwrap()).unwrap();
    assert_eq!(tokenizer.token_to_id("<|im_end|>"), config.im_end_token_id);
    assert!(
        model.file("chat_template.json").is_some()
            && model.file("generation_config.json").is_some()
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let model = fixture("tiny-omni");
    let mut child = sage()
        .args(["inspect", text(&model)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
