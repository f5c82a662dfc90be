//! `sage extract` by the founding text's spellings, and by measured price.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sage::store::open_model;

use super::{json, path, refused};
use crate::common::files;
use crate::common::runs::{complaint, sage};

#[test]
fn the_texts_spellings_extract_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = path("tiny-omni");
    let made = |name: &str, more: &[&str]| -> BTreeSet<String> {
        let store = folder.path().join(name);
        let to = store.to_str().unwrap();
        let output = sage(&[&["extract", &checkpoint, "--out", to][..], more].concat());
        assert!(output.status.success(), "{more:?}: {}", complaint(&output));
        let names = files(&store).into_keys();
        let names: BTreeSet<String> = names.map(|path| path.display().to_string()).collect();
        assert!(names.contains("extraction_manifest.json"));
        names
            .into_iter()
            .filter(|name| name.contains('/'))
            .collect()
    };
    let one = made("one", &["--extract-expert", "5", "--layer", "0"]);
    assert_eq!(
        one,
        BTreeSet::from(["experts/thinker_expert_005_layer_00.safetensors".to_owned()])
    );
    let talkers = made(
        "talkers",
        &[
            "--extract-expert",
            "3",
            "--layer",
            "1",
            "--component",
            "talker",
        ],
    );
    assert_eq!(
        talkers,
        BTreeSet::from(["experts/talker_expert_003_layer_01.safetensors".to_owned()])
    );
    let routers = made("routers", &["--extract-routers", "--component", "thinker"]);
    assert!(routers.contains("routers/thinker_router_layer_00.safetensors"));
    assert!(
        routers
            .iter()
            .all(|name| name.starts_with("routers/thinker"))
    );
    let (all, plain) = (made("all", &["--extract-all"]), made("plain", &[]));
    assert_eq!(all, plain);
    assert!(all.is_superset(&routers) && all.is_superset(&one));

    let out = folder.path().join("none");
    let base = ["extract", &checkpoint, "--out", out.to_str().unwrap()];
    let not = |more: &[&str], words: &[&str]| refused(&[&base[..], more].concat(), words);
    not(&["--extract-expert", "5"], &["--layer"]);
    not(&["--layer", "5"], &["--expert"]);
    not(&["--extract-all", "--extract-routers"], &["--extract-all"]);
    not(
        &["--extract-expert", "99", "--layer", "0"],
        &["99", "thinker"],
    );
    assert!(!out.exists());
    let help = sage(&["extract", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for spelling in ["--extract-expert", "--extract-routers", "--extract-all"] {
        assert!(help.contains(spelling), "{spelling}");
    }
}

#[test]
fn a_store_holds_the_experts_of_the_highest_price() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (prices, store) = (at("prices.json"), at("store"));
    let text = at("text.txt");
    fs::write(
        &text,
        "Laura lives in London. Tom lives in Oslo. ".repeat(4),
    )
    .unwrap();
    let priced = sage(&[
        "price",
        "models/tiny",
        "--text",
        &text,
        "--segment-tokens",
        "12",
        "--segments",
        "1",
        "--json",
    ]);
    let report = json(&priced);
    fs::write(&prices, &priced.stdout).unwrap();
    let base = ["extract", "models/tiny", "--out", &store];
    let output = sage(&[&base[..], &["--experts", "price:12", "--prices", &prices]].concat());
    assert!(output.status.success(), "{}", complaint(&output));

    let mut expected = BTreeSet::new();
    for layer in 0..5u64 {
        let experts = report["experts"].as_array().unwrap().iter();
        let mut ranked: Vec<(f64, u64)> = experts
            .filter(|expert| expert["layer"] == layer)
            .map(|expert| {
                let tokens = expert["tokens"].as_f64().unwrap();
                let evidence = tokens / (tokens + 256.0);
                let price = expert["increase"]
                    .as_f64()
                    .map(|increase| increase * evidence);
                let price = price.unwrap_or(f64::NEG_INFINITY);
                (-price, expert["expert"].as_u64().unwrap())
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        expected.extend(
            ranked[..12].iter().map(|(_, expert)| {
                format!("thinker_expert_{expert:03}_layer_{layer:02}.safetensors")
            }),
        );
    }
    let found = files(&Path::new(&store).join("experts")).into_keys();
    let found: BTreeSet<String> = found.map(|path| path.display().to_string()).collect();
    assert_eq!(found, expected);

    // By usage it is what most tokens used.
    let used = at("used");
    let base = ["extract", "models/tiny", "--out", &used];
    let output = sage(&[&base[..], &["--experts", "usage:1", "--prices", &prices]].concat());
    assert!(output.status.success(), "{}", complaint(&output));
    let found = files(&Path::new(&used).join("experts")).into_keys();
    for (layer, file) in found.map(|path| {
        let name = path.display().to_string();
        let (_, layer) = name.split_once("_layer_").unwrap();
        (layer[..2].parse::<u64>().unwrap(), name)
    }) {
        let experts = report["experts"].as_array().unwrap().iter();
        let of_layer = experts.filter(|expert| expert["layer"] == layer);
        let most = of_layer.max_by(|a, b| {
            let tokens = |expert: &serde_json::Value| expert["tokens"].as_f64().unwrap();
            let number = |expert: &serde_json::Value| expert["expert"].as_u64().unwrap();
            tokens(a)
                .total_cmp(&tokens(b))
                .then(number(b).cmp(&number(a)))
        });
        let number = most.unwrap()["expert"].as_u64().unwrap();
        assert_eq!(
            file,
            format!("thinker_expert_{number:03}_layer_{layer:02}.safetensors")
        );
    }

    // It runs when it may do without the others, and says so.
    let question = [
        "generate",
        &store,
        "--prompt",
        "Where does Tom live?",
        "--max-tokens",
        "4",
    ];
    let output = sage(&[&question[..], &["--degrade"]].concat());
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(complaint(&output).contains("260 experts are not in this store"));
    let woken = json(&sage(&[
        "wake",
        &store,
        "--degrade",
        "--layer",
        "2",
        "--json",
    ]));
    let numbers = woken["experts"].as_array().unwrap().iter();
    for number in numbers.map(|expert| expert["expert"].as_u64().unwrap()) {
        let name = format!("thinker_expert_{number:03}_layer_02.safetensors");
        assert!(expected.contains(&name), "{name} is not there");
    }
}

#[test]
fn prices_that_are_not_this_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (store, file) = (at("store"), at("prices.json"));
    let base = ["extract", "models/tiny", "--out", &store, "--experts"];
    let not = |more: &[&str], words: &[&str]| refused(&[&base[..], more].concat(), words);
    not(&["price:8"], &["sage price", "--json", "--prices"]);
    not(&["price:0", "--prices", &file], &["price:N"]);
    not(&["price:many", "--prices", &file], &["price:N"]);
    not(&["usage:0", "--prices", &file], &["usage:N"]);
    not(&["top:3", "--prices", &file], &["leave --prices out"]);
    not(&["price:8", "--prices", &file], &["prices.json"]);
    not(&["price:8", "--prices", "/dev/zero"], &["a device"]);
    let written = |text: &str, words: &[&str]| {
        fs::write(&file, text).unwrap();
        not(&["price:8", "--prices", &file], words);
    };
    written("[1, 2", &["no output of `sage price --json`"]);
    written(r#"{"experts":[]}"#, &["does not say which model"]);
    written(
        r#"{"fingerprint":"ab","experts":[]}"#,
        &["another model", "ab"],
    );
    let fingerprint = open_model("models/tiny").unwrap().fingerprint().unwrap();
    written(
        &format!(
            r#"{{"fingerprint":"{fingerprint}","experts":[{{"layer":0,"expert":1,"increase":0.5}}]}}"#
        ),
        &["1 experts of layer 0", "64"],
    );
    assert!(!Path::new(&store).exists());
}
