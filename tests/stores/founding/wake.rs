//! `sage wake`: one layer of one state looked at closely.

use std::collections::BTreeMap;
use std::sync::Arc;

use sage::core::Probe;
use sage::core::closeup::{ANSWER_TOKENS, CloseupRequest};
use sage::core::speech::{Choosing, SpeechRequest};
use sage::goldens::speech::speak;
use sage::session::opening::{EngineOptions, open};
use sage::store::{WeightSource, open_model};
use sage_actors::config::MindConfig;
use sage_actors::protocol::{Chosen, Module, Selection, State};
use serde_json::Value;

use super::{golden, json, path, prompt, refused};
use crate::common::fixture;
use crate::common::runs::sage;
use crate::common::sessions;

#[test]
fn waking_needs_half_of_the_experts_and_says_what_each_takes() {
    let report = json(&sage(&["wake", "models/tiny", "--json"]));
    let experts = report["experts"].as_array().unwrap();
    assert_eq!(
        (report["state"].as_str(), report["component"].as_str()),
        (Some("wake"), Some("thinker"))
    );
    assert_eq!((report["k"].as_u64(), experts.len()), (Some(4), 4));
    let weights: Vec<f64> = experts
        .iter()
        .map(|expert| expert["weight"].as_f64().unwrap())
        .collect();
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
    for expert in experts {
        assert_eq!(expert["resident_before"], false, "its load was cold");
        assert!(expert["load_ms"].as_f64() > Some(0.0));
        assert!(expert["forward_ms"].as_f64() > Some(0.0));
        assert_eq!(expert["trust_before"]["trust"], 0.5, "a ledger that is new");
        let after = &expert["trust_after"];
        assert_ne!(after["trust"], 0.5, "{after}");
        assert_eq!(after["convergence"], 0.5, "only denying it can say that");
    }
    // 48 KiB an expert in bf16: 4 of 64 in one layer, and in all 5.
    let memory = &report["memory"];
    assert_eq!(report["expert_bytes"], 48 << 10);
    assert_eq!(
        (
            memory["chosen_bytes"].as_u64(),
            memory["all_bytes"].as_u64()
        ),
        (Some(4 * (48 << 10)), Some(64 * (48 << 10)))
    );
    assert_eq!(memory["reduction_percent"], 93.75);
    assert_eq!(report["module_memory"]["chosen_bytes"], 5 * 4 * (48 << 10));
    assert_eq!(report["output"]["shape"][0], 1);
    assert!(report["output"]["deviation"].as_f64() > Some(0.0));
    assert!(report["router"]["total_ms"].as_f64() > Some(0.0));
    let measured = report["measured"].as_array().unwrap();
    assert!(measured.contains(&"experts[].load_ms".into()));

    let output = sage(&["wake", "models/tiny", "--state", "WAKE"]);
    let text = String::from_utf8(output.stdout).unwrap();
    // In the order of the founding text.
    let words = [
        "Component: thinker",
        "at most 4 of 64",
        "weight",
        "Memory in use",
        "shape [1, ",
        "mean",
        "4 chosen",
        "93.8 % less",
    ];
    let places: Vec<usize> = words
        .iter()
        .map(|word| text.find(word).expect(word))
        .collect();
    assert!(places.is_sorted(), "{text}");
}

/// Every layer's experts and weights for the last token are the reference's, where the state is the one it was trained in.
#[test]
fn in_focus_the_chosen_are_the_references() {
    for (model, case) in [
        ("tiny-thinker", "text"),
        ("edge-dense-layers", "text"),
        ("edge-no-norm-topk", "text"),
        ("edge-bf16", "text"),
    ] {
        let golden = golden(model, case);
        let (tokens, model) = (prompt(&golden), path(model));
        let mut looked_at = 0;
        for layer in 0..8 {
            let name = format!("thinker.topk_index.{layer}");
            let Some((shape, index)) = golden.integers(&name).unwrap() else {
                continue;
            };
            let weights = golden.floats(&format!("thinker.topk_weight.{layer}"));
            let (_, weights) = weights.unwrap().unwrap();
            let last = (shape[0] - 1) * shape[1];
            let mut expected: Vec<(u64, f64)> = index[last..]
                .iter()
                .zip(&weights[last..])
                .map(|(index, weight)| (*index as u64, f64::from(*weight)))
                .collect();
            let number = layer.to_string();
            let report = json(&sage(&[
                "wake",
                &model,
                "--state",
                "focus",
                "--layer",
                &number,
                "--prompt-tokens",
                &tokens,
                "--json",
            ]));
            let experts = report["experts"].as_array().unwrap().iter();
            let mut found: Vec<(u64, f64)> = experts
                .map(|e| (e["expert"].as_u64().unwrap(), e["weight"].as_f64().unwrap()))
                .collect();
            expected.sort_by_key(|pair| pair.0);
            found.sort_by_key(|pair| pair.0);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.0, expected.0, "{model} layer {layer}");
                let off = (found.1 - expected.1).abs();
                assert!(off < 2e-3, "{model} layer {layer}: off by {off}");
            }
            looked_at += 1;
        }
        assert!(looked_at > 0, "{model}");
    }
}

#[test]
fn every_state_has_its_number_of_experts_in_the_texts_spelling() {
    for (state, k) in [
        ("WAKE", 4),
        ("Focus", 8),
        ("CRISIS", 16),
        ("threat", 16),
        ("depletion", 2),
        ("REST", 4),
        ("dream", 8),
    ] {
        let arguments = [
            "wake",
            "models/tiny",
            "--state",
            state,
            "--layer",
            "3",
            "--json",
        ];
        let report = json(&sage(&arguments));
        assert_eq!(report["k"], k, "{state}");
        assert_eq!(report["experts"].as_array().unwrap().len(), k, "{state}");
        assert_eq!(report["layer"], 3);
    }
}

#[test]
fn what_cannot_be_looked_at_is_named_with_what_can() {
    refused(
        &["wake", "models/tiny", "--layer", "5"],
        &["--layer 5", "5 layers", "0 to 4"],
    );
    let dense = path("edge-dense-layers");
    refused(
        &["wake", &dense, "--layer", "0", "--prompt-tokens", "1 2"],
        &["dense", "one of 1"],
    );
    refused(
        &["wake", "models/tiny", "--state", "asleep"],
        &["asleep", "wake", "depletion"],
    );
    refused(
        &["wake", "models/tiny", "--component", "talker"],
        &["no talker", "--component thinker"],
    );
    let omni = path("tiny-omni");
    refused(
        &[
            "wake",
            &omni,
            "--component",
            "talker",
            "--state",
            "rest",
            "--prompt-tokens",
            "1",
        ],
        &["sleeps in rest", "wake, focus"],
    );
    refused(&["wake", &omni], &["--prompt-tokens"]);
    refused(
        &["wake", &omni, "--prompt-tokens", ""],
        &["the prompt is empty"],
    );
    refused(
        &["wake", &omni, "--prompt-tokens", "1 99999"],
        &["99999", "vocabulary"],
    );
}

/// The layer that the model has by default is its first sparse one.
#[test]
fn a_dense_beginning_is_passed_over() {
    let dense = path("edge-dense-layers");
    let report = json(&sage(&[
        "wake",
        &dense,
        "--prompt-tokens",
        "1 2 3",
        "--json",
    ]));
    assert_eq!(report["layer"], 1);
}

/// Trust that is kept is where the next look begins.
#[test]
fn trust_before_is_what_was_believed_after_the_look_before() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("trust.redb");
    let ledger = ledger.to_str().unwrap();
    let look = || {
        json(&sage(&[
            "wake",
            "models/tiny",
            "--routing",
            "exact",
            "--ledger",
            ledger,
            "--json",
        ]))
    };
    let (first, second) = (look(), look());
    let beliefs = |report: &Value, key: &str| -> Vec<(Value, Value)> {
        let experts = report["experts"].as_array().unwrap().iter();
        experts
            .map(|e| (e["expert"].clone(), e[key]["efficiency"].clone()))
            .collect()
    };
    let (after, before) = (
        beliefs(&first, "trust_after"),
        beliefs(&second, "trust_before"),
    );
    for ((a, after), (b, before)) in after.iter().zip(&before) {
        assert_eq!(a, b, "the same prompt chooses the same experts");
        let off = (after.as_f64().unwrap() - before.as_f64().unwrap()).abs();
        assert!(off < 1e-3, "{after} became {before}");
    }
}

/// Hears of the first choice of every talker layer: the one for the prompt.
#[derive(Default)]
struct FirstChoices(BTreeMap<usize, Vec<Chosen>>);

impl Probe for FirstChoices {
    fn tensor(&mut self, _: &str, _: &[f32]) {}
    fn selection(&mut self, layer: usize, selection: &Selection) {
        let last = selection.row(selection.rows() - 1).to_vec();
        self.0.entry(layer).or_insert(last);
    }
}

/// What is seen of a talker's layer is what the layer does when the model speaks.
#[tokio::test(flavor = "current_thread")]
async fn the_talker_is_seen_as_it_speaks() {
    let tokens: Vec<u32> = {
        let (_, ids) = golden("tiny-omni", "speech-text")
            .integers("in.input_ids")
            .unwrap()
            .unwrap();
        ids.into_iter().map(|id| id as u32).collect()
    };
    let source: Arc<dyn WeightSource> = Arc::from(open_model(fixture("tiny-omni")).unwrap());
    let mut mind = MindConfig::default();
    mind.hold = Some(mind.budgets.wake);
    mind.hold_state = Some(State::Wake);
    let options = EngineOptions {
        context_tokens: tokens.len() + ANSWER_TOKENS,
        mind,
        speaks: true,
        codes: 2,
        ..EngineOptions::default()
    };
    let mut session = sessions::open(Arc::clone(&source), options.clone()).await;
    let request = sessions::request(tokens.clone(), ANSWER_TOKENS);
    let said = sessions::said(&mut session, request).await;
    let speech = SpeechRequest {
        speaker: "ethan".into(),
        choosing: Choosing::GREEDY,
        max_codes: 2,
        end: None,
    };
    let mut choices = FirstChoices::default();
    let probe: &mut dyn Probe = &mut choices;
    let engine = session.engine_mut();
    speak(engine, &said, &speech, &mut Some(probe), &mut Vec::new())
        .await
        .unwrap();
    session.abort().await;
    assert!(choices.0.len() > 1, "a talker of several layers");
    for (layer, expected) in choices.0 {
        let mut engine = open(Arc::clone(&source), options.clone(), |_, _| ())
            .await
            .unwrap();
        let request = CloseupRequest {
            said: Some(said.clone()),
            module: Module::Talker,
            layer,
            tokens: tokens.clone(),
            speaker: "ethan".into(),
        };
        let seen = engine.look_closely(&request).await.unwrap();
        engine.shutdown().await;
        let found: Vec<(u16, f32)> = seen.experts.iter().map(|e| (e.expert, e.weight)).collect();
        let expected: Vec<(u16, f32)> = expected.iter().map(|c| (c.expert, c.weight)).collect();
        assert_eq!(found, expected, "layer {layer}");
        assert_eq!(seen.k as usize, found.len());
        assert!(
            seen.experts
                .iter()
                .all(|e| e.load_ms.is_some() && e.trust_after.is_none())
        );
    }
}
