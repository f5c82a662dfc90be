//! `sage bench --routes`: the experts of a recording in the place of those that routers choose, and what is no such recording.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use serde_json::Value;

use crate::common::runs::{complaint, root, route_trace, sage};

const OMNI: &str = "tests/fixtures/tiny-omni";

/// Exit code and message of a bench that cannot be.
fn refused(model: &str, more: &[&str]) -> String {
    let output = sage(&[&["bench", model], more].concat());
    let message = complaint(&output);
    assert_eq!(output.status.code(), Some(2), "{more:?}: {message}");
    message
}

/// Forced routing asks for the experts that were recorded, as many a token, whatever the weights' routers say.
#[test]
fn forced_routes_are_what_decides_which_experts_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("routes.csv");
    std::fs::write(&trace, route_trace(&root().join(OMNI), 4, 6)).unwrap();
    let trace = trace.to_str().unwrap();
    let base = [
        "--prompt-tokens",
        "4",
        "--answer-tokens",
        "7",
        "--rounds",
        "1",
    ];
    let run = |more: &[&str]| -> Value {
        let command = ["bench", OMNI, "--json", "--routes", trace];
        let output = sage(&[&command, &base[..], more].concat());
        assert!(output.status.success(), "{}", complaint(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let report = run(&["--limit", "0slots"]);
    let forced = &report["forced_routing"];
    assert_eq!((&forced["k"], &forced["drawn"]), (&2.into(), &false.into()));
    assert_eq!(report["mind"], "off");
    // Of an answer's tokens the first comes of the prompt: the context's places 4 to 9 are read.
    let text = std::fs::read_to_string(folder.path().join("routes.csv")).unwrap();
    let decoded = text.lines().filter(|line| line.starts_with("1,")).count();
    assert_eq!(decoded % 6, 0);
    let again = run(&["--limit", "0slots"]);
    assert_eq!(report["answers_blake3"], again["answers_blake3"]);
    assert_eq!(
        report["cold"]["decode_hit_rate"], again["cold"]["decode_hit_rate"],
        "the same experts"
    );
    let all = run(&["--limit", "none"]);
    assert_eq!(
        report["answers_blake3"], all["answers_blake3"],
        "the same experts in any memory"
    );
    let free = [&["bench", OMNI, "--json", "--mind", "off"], &base[..]].concat();
    let free: Value = serde_json::from_slice(&sage(&free).stdout).unwrap();
    assert_ne!(report["answers_blake3"], free["answers_blake3"]);
    let drawn = run(&["--limit", "none", "--routes-experts", "3"]);
    assert_eq!(drawn["forced_routing"]["k"], 3);
    assert_ne!(drawn["answers_blake3"], all["answers_blake3"]);

    let other = "tests/fixtures/edge-bf16";
    let message = refused(other, &["--routes", trace]);
    assert!(
        message.contains("take a recording of such a model"),
        "{message}"
    );
    for mind_on in [["--against", "mind=on"], ["--mind", "on"]] {
        let message = refused(OMNI, &[&["--routes", trace], &mind_on[..]].concat());
        assert!(message.contains(&mind_on.join(" ")), "{message}");
    }
}

/// What is asked for beside the exactness is refused by the name of the option that was given.
#[test]
fn contradictions_name_options_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("routes.csv");
    std::fs::write(&trace, route_trace(&root().join(OMNI), 4, 6)).unwrap();
    let trace = trace.to_str().unwrap();
    for (exact, name) in [
        (["--mind", "off"], "--mind off"),
        (["--routes", trace], "--routes"),
        (["--against", "mind=off"], "--against mind=off"),
    ] {
        for other in [["--routing", "sage"], ["--set", "mind.routing=sage"]] {
            let message = refused(OMNI, &[exact, other].concat());
            let expected = format!("{name} routes exactly: leave {}", other[0]);
            assert!(message.contains(&expected), "{message}");
            assert!(!message.contains("--exact"), "{message}");
        }
    }
}

/// A recording that does not fit is refused with the file, the place in it, the value, and what was expected.
#[test]
fn a_recording_that_is_not_the_models_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes");
    let said = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        let message = refused(OMNI, &["--routes", path.to_str().unwrap()]);
        assert!(message.contains("routes"), "{message}");
        message
    };
    let whole = route_trace(&root().join(OMNI), 4, 6);
    let without = |start: &str| -> String {
        let lines = whole.lines().filter(|line| !line.starts_with(start));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let message = said(without("1,3,1,").as_bytes());
    assert!(
        message.contains("decoded step 3, layer 1 has no expert"),
        "{message}"
    );
    let layerless: String = whole
        .lines()
        .filter(|line| line.starts_with('#') || line.split(',').nth(2) != Some("1"))
        .map(|line| format!("{line}\n"))
        .collect();
    let message = said(layerless.as_bytes());
    assert!(
        message.contains("nothing of layer 1, which has experts in the model"),
        "{message}"
    );
    let message = said(format!("{whole}1,6,0,0\n").as_bytes());
    assert!(message.contains("decoded step 6, layer"), "{message}");
    let message = said(b"{\"layers\": [[0, 1], [0, 1]]}\n{\"layers\": [[0, 1], [0, 999]]}\n");
    assert!(
        message.contains("line 2, layer 1, uses expert 999"),
        "{message}"
    );
    let message = said(b"{\"layers\": [[0, 1], [0]]}\n");
    assert!(
        message.contains("line 1, layer 1: experts: 1; expected 2"),
        "{message}"
    );

    // Half of a compressed file is a bad file.
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zip, whole.as_bytes()).unwrap();
    let zipped = zip.finish().unwrap();
    let message = said(&zipped[..zipped.len() / 2]);
    assert!(message.contains("ends before its text does"), "{message}");
}

/// Rows of layers with experts are matched by the layers' numbers, in a model whose other layers are dense.
#[test]
fn dense_layers_are_passed_over_by_number() {
    let model = "tests/fixtures/edge-dense-layers";
    let config = std::fs::read(root().join(model).join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let text = &config["thinker_config"]["text_config"];
    let (layers, step) = (&text["num_hidden_layers"], &text["decoder_sparse_step"]);
    let dense = text["mlp_only_layers"].as_array().unwrap();
    let is_sparse = |layer: u64| {
        !dense.contains(&layer.into()) && (layer + 1).is_multiple_of(step.as_u64().unwrap())
    };
    let sparse: Vec<u64> = (0..layers.as_u64().unwrap())
        .filter(|layer| is_sparse(*layer))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.jsonl");
    let write = |numbered: &[u64]| {
        let of = |layer: u64| match numbered.contains(&layer) {
            true => vec![0, 1],
            false => Vec::new(),
        };
        let lists: Vec<Vec<u16>> = (0..layers.as_u64().unwrap()).map(of).collect();
        std::fs::write(&path, format!("{{\"layers\": {lists:?}}}\n")).unwrap();
    };
    write(&sparse);
    let plan = ["plan", model, "--no-measure", "--json", "--routes"];
    let planned = sage(&[&plan[..], &[path.to_str().unwrap()]].concat());
    assert!(planned.status.success(), "{}", complaint(&planned));
    let shifted: Vec<u64> = sparse.iter().map(|layer| layer - 1).collect();
    write(&shifted);
    let message = refused(model, &["--routes", path.to_str().unwrap()]);
    let expected = format!("nothing of layer {}", sparse[0]);
    assert!(message.contains(&expected), "{message}");
}
