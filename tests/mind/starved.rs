//! The repository's model answers because of its experts: with half of them it still does when they are those that
//! its tasks use, and no longer when they are those of another domain.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sage::core::reading::PrefillRun;
use sage::core::request::{Request, Stop};
use sage::core::{Arrivals, Engine, Limit};
use sage::session::exact::EXACT;
use sage::session::opening::{EngineOptions, open};
use sage::store::open_model;
use sage::text::{Message, Text};
use sage_actors::config::{MindConfig, RoutingPolicy};
use serde_json::Value;

use crate::common::sessions;

/// Experts of each layer that a partial store keeps, of 64.
const KEPT: usize = 32;
/// Items of each task whose experts are counted, and as many others that are answered.
const ITEMS: usize = 24;
const TASKS: [&str; 2] = ["check", "facts"];

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny")
}

/// (prompt, answer) of a task's held-out items.
fn items(task: &str) -> Vec<(String, String)> {
    let path = model().join("tasks").join(format!("{task}.jsonl"));
    let text = std::fs::read_to_string(path).expect("the items");
    let item = |line: &str| {
        let item: Value = serde_json::from_str(line).expect("an item");
        let field = |name: &str| item[name].as_str().expect("text").to_owned();
        (field("prompt"), field("answer"))
    };
    text.lines().map(item).collect()
}

/// The model in `folder` at its trained k, without any bias.
fn options(routing: RoutingPolicy, degrade: bool) -> EngineOptions {
    EngineOptions {
        limit: Limit::None,
        context_tokens: 512,
        chunk_tokens: Some(128),
        mind: MindConfig {
            hold: Some(EXACT),
            routing,
            ..MindConfig::default()
        },
        degrade,
        ..EngineOptions::default()
    }
}

async fn engine(folder: &Path, routing: RoutingPolicy, degrade: bool) -> Engine {
    let options = options(routing, degrade);
    let source = Arc::from(open_model(folder).expect("a model"));
    open(source, options, |_, _| ()).await.expect("an engine")
}

fn tokens(text: &Text, prompt: &str) -> Vec<u32> {
    let message = Message::new("user", prompt);
    text.prompt_tokens(&[message], "").expect("tokens")
}

/// The `KEPT` experts of every layer that work most on the texts, as lines for `--experts`.
async fn hot_experts(engine: &mut Engine, texts: &[Vec<u32>]) -> String {
    let config = engine.text_config().clone();
    let mut uses = vec![vec![0usize; config.num_experts]; config.num_hidden_layers];
    for tokens in texts {
        let mut kv = engine.new_sequence().expect("a sequence");
        let orientation = engine.orient(Arrivals::default()).await.expect("oriented");
        let mut reading = PrefillRun::new(tokens.clone(), config.hidden_size, false);
        while !reading.is_done() {
            let step = reading
                .step(engine, &mut kv, &orientation)
                .await
                .expect("read");
            for worked in step.forward.work.worked.iter().flatten() {
                uses[usize::from(worked.layer)][usize::from(worked.expert)] += 1;
            }
        }
    }
    let mut lines = String::new();
    for (layer, uses) in uses.iter().enumerate() {
        let mut order: Vec<usize> = (0..uses.len()).collect();
        order.sort_by_key(|expert| (std::cmp::Reverse(uses[*expert]), *expert));
        for expert in &order[..KEPT] {
            lines += &format!("{layer} {expert}\n");
        }
    }
    lines
}

/// How many of the items the model in `folder` answers right.
async fn right(folder: &Path, items: &[(String, String)], degrade: bool) -> usize {
    let options = options(RoutingPolicy::Salient, degrade);
    let source = Arc::from(open_model(folder).expect("a model"));
    let mut session = sessions::open(source, options).await;
    let text = Text::load(&*session.engine().source).expect("a tokenizer");
    let mut right = 0;
    for (prompt, answer) in items {
        let request = Request {
            stop: Stop::Model,
            ..sessions::request(tokens(&text, prompt), 24)
        };
        let answered = sessions::answer(&mut session, request).await;
        let said = text.decode(&answered.tokens).expect("text");
        right += usize::from(said.trim() == answer.trim());
    }
    session.abort().await;
    right
}

fn sage(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sage"))
        .args(arguments)
        .output()
        .expect("sage runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().expect("an exit code"),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn partial_store(folder: &Path, name: &str, experts: &str) -> PathBuf {
    let list = folder.join(format!("{name}.txt"));
    std::fs::write(&list, experts).expect("a list");
    let store = folder.join(name);
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let arguments = [
        "extract",
        &path(&model()),
        "--out",
        &path(&store),
        "--experts",
        &path(&list),
    ];
    let (code, _, errors) = sage(&arguments);
    assert_eq!(code, 0, "{errors}");
    store
}

#[test]
fn answers_are_right_with_the_right_half_of_the_experts_and_wrong_with_another() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut whole = engine(&model(), RoutingPolicy::Exact, false).await;
        let text = Text::load(&*whole.source).expect("a tokenizer");
        let bible = std::fs::read_to_string(model().join("heldout/kjv.txt")).expect("a text");
        let bible: Vec<Vec<u32>> = text
            .encode_untrusted(&bible)
            .expect("tokens")
            .chunks(256)
            .map(<[u32]>::to_vec)
            .collect();
        let others = hot_experts(&mut whole, &bible).await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut stores = Vec::new();
        for task in TASKS {
            let items = items(task);
            // With the answers: they are where it is decided.
            let counted: Vec<Vec<u32>> = items[..ITEMS]
                .iter()
                .map(|(prompt, answer)| {
                    let answer = text.encode_untrusted(answer).expect("tokens");
                    [tokens(&text, prompt), answer].concat()
                })
                .collect();
            let own = hot_experts(&mut whole, &counted).await;
            let lines = |list: &str| list.lines().map(str::to_owned).collect::<BTreeSet<_>>();
            assert_ne!(lines(&own), lines(&others));
            let own = partial_store(folder.path(), task, &own);
            stores.push((own, items[ITEMS..2 * ITEMS].to_vec()));
        }
        whole.shutdown().await;

        let others_store = partial_store(folder.path(), "others", &others);
        let (mut asked, mut whole, mut own, mut others) = (0, 0, 0, 0);
        for (store, items) in &stores {
            asked += items.len();
            whole += right(&model(), items, false).await;
            own += right(store, items, true).await;
            others += right(&others_store, items, true).await;
        }
        let scores = format!(
            "of {} right: {whole} with all experts, {own} with the own half, {others} with the half of the Bible",
            asked
        );
        println!("{scores}");
        assert!(whole * 10 >= asked * 8, "{scores}");
        assert!(own * 10 >= asked * 7, "{scores}");
        assert!(others * 2 <= own, "{scores}");
    });
}

#[test]
fn a_partial_store_runs_only_where_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = std::fs::read_to_string(model().join("config.json")).expect("config.json");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let text = &config["thinker_config"]["text_config"];
    let layers = text["num_hidden_layers"].as_u64().expect("a number");
    let experts: String = (0..layers)
        .flat_map(|layer| (0..8).map(move |expert| format!("{layer} {expert}\n")))
        .collect();
    let store = partial_store(folder.path(), "few", &experts);
    let store = store.to_str().expect("UTF-8");
    let ask = |more: &[&str]| {
        let question = ["generate", store, "--prompt", "What is 2 + 3?"];
        sage(&[&question[..], more].concat())
    };

    let (code, _, errors) = ask(&[]);
    assert_ne!(code, 0);
    assert!(errors.contains("is not in the partial store"), "{errors}");

    let (code, _, errors) = ask(&["--degrade", "--max-tokens", "4"]);
    assert_eq!(code, 0, "{errors}");
    let lost = layers * (text["num_experts"].as_u64().expect("a number") - 8);
    assert!(
        errors.contains(&format!("degraded: {lost} experts are not in this store")),
        "{errors}"
    );

    for exact in [
        &["--exact"][..],
        &["--routing", "exact"],
        &["--set", "mind.routing=exact"],
    ] {
        let (code, _, errors) = ask(&[&["--degrade"], exact].concat());
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains("leave --degrade out"), "{errors}");
    }

    let one_layer: String = (0..8).map(|expert| format!("0 {expert}\n")).collect();
    let store = partial_store(folder.path(), "one-layer", &one_layer);
    let (code, _, errors) = sage(&[
        "generate",
        store.to_str().expect("UTF-8"),
        "--prompt",
        "Hello",
        "--degrade",
    ]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("no expert of thinker layer 1"), "{errors}");
}
