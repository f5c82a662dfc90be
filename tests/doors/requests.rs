//! Every event of a request names it, and no other does: in runs and in conversations.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::layouts::{sage, text};
use crate::common::runs::typed;
use crate::common::sounds::hum;
use crate::common::speaking::speaking_model;

/// Kinds of observations that are read or answered.
const REQUESTS: [&str; 5] = ["text", "question", "alarm", "sound", "picture"];

/// Events of requests, whatever they are.
const OF_REQUESTS: [&str; 11] = [
    "perceived",
    "cache",
    "denied",
    "read",
    "progress",
    "perceiving",
    "token",
    "answer",
    "audio",
    "spoken",
    "forgotten",
];

/// The names of the events of every request.
fn named(events: &[Value]) -> BTreeMap<u64, BTreeSet<&str>> {
    let mut named: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    let mut done = BTreeSet::new();
    for event in events {
        let kind = event["type"].as_str().expect("a type");
        let is_request = match kind {
            "observation" | "refused" | "shed" => {
                REQUESTS.contains(&event["kind"].as_str().expect("a kind"))
            }
            kind => OF_REQUESTS.contains(&kind),
        };
        let request = event.get("request").and_then(Value::as_u64);
        assert_eq!(request.is_some(), is_request, "{event}");
        let Some(request) = request else { continue };
        if let Some(id) = event.get("id") {
            assert_eq!(id.as_u64(), Some(request), "{event}");
        }
        assert!(!done.contains(&request), "behind its end: {event}");
        let of = named.entry(request).or_default();
        assert_eq!(
            kind == "observation",
            of.is_empty(),
            "it begins with it: {event}"
        );
        of.insert(kind);
        if kind == "spoken" {
            done.insert(request);
        }
    }
    named
}

fn lines(said: &str) -> Vec<Value> {
    let lines = said.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect()
}

/// A scenario of requests of every kind, and of what is none.
fn scenario(folder: &Path) -> String {
    std::fs::write(folder.join("hum.wav"), hum(0.4, 0)).expect("written");
    let mut script =
        "name = \"all\"\nticks = 400\ncontext_tokens = 96\nmedia_tokens = 32\nanswer_tokens = 5\n\
                      [sensors.boiler]\nrange = [40, 90]\nresolution = 1\n"
            .to_owned();
    for (at, observed) in [
        "kind = \"text\"\nsource = \"book\"\ntext = \"In those days. \"",
        "kind = \"question\"\nsource = \"me\"\ntext = \"Hello\"",
        "kind = \"question\"\nsource = \"me\"\ntext = \"Hello\"\nspeak = true",
        "kind = \"sound\"\nsource = \"room\"\nsound = \"hum.wav\"",
        "kind = \"question\"\nsource = \"room\"\nsound = \"hum.wav\"\ntext = \"What?\"",
        "kind = \"alarm\"\nsource = \"watch\"\ntext = \"Fire?\"",
        "kind = \"sensor\"\nsensor = \"boiler\"\nvalue = 50",
        "kind = \"feedback\"\nvalue = 1",
        "kind = \"limit\"\nlimit = \"60slots\"",
    ]
    .iter()
    .enumerate()
    {
        script += &format!("[[observe]]\nat = {}\n{observed}\n", at * 40);
    }
    let path = folder.join("all.toml");
    std::fs::write(&path, script).expect("written");
    text(&path).to_owned()
}

#[test]
fn every_event_of_a_request_in_a_run_names_it() {
    let (model, folder) = (speaking_model(), tempfile::tempdir().expect("a folder"));
    let script = scenario(folder.path());
    let said = folder.path().join("said");
    let run = [
        "run",
        &script,
        "--model",
        text(model.path()),
        "--json",
        "--limit",
        "70slots",
    ];
    let speak = ["--speak", text(&said), "--max-codes", "8"];
    let (code, said, errors) = sage(&[&run[..], &speak].concat());
    assert_eq!(code, 0, "{errors}");
    let events = lines(&said);
    let named = named(&events);
    let expected: [(u64, &[&str]); 6] = [
        (0, &["observation", "cache", "read"]),
        (1, &["observation", "cache", "token", "answer"]),
        (
            2,
            &["observation", "cache", "token", "answer", "audio", "spoken"],
        ),
        (
            3,
            &["observation", "cache", "perceiving", "perceived", "read"],
        ),
        (
            4,
            &[
                "observation",
                "cache",
                "perceiving",
                "perceived",
                "token",
                "answer",
            ],
        ),
        (5, &["observation", "cache", "token", "answer"]),
    ];
    assert_eq!(Vec::from_iter(named.keys().copied()), [0, 1, 2, 3, 4, 5]);
    for (id, kinds) in expected {
        for kind in kinds {
            assert!(
                named[&id].contains(kind),
                "{id} has no {kind}: {:?}",
                named[&id]
            );
        }
        for kind in ["answer", "audio", "read", "perceiving", "perceived"] {
            assert_eq!(
                named[&id].contains(kind),
                kinds.contains(&kind),
                "{id}: {kind}"
            );
        }
    }
    // The tower says how far it is, piece by piece.
    let perceiving = |event: &&Value| event["type"] == "perceiving" && event["request"] == 3;
    let pieces: Vec<_> = events.iter().filter(perceiving).collect();
    assert!(pieces.len() > 2, "{pieces:?}");
    for (at, piece) in pieces.iter().enumerate() {
        assert_eq!(piece["pieces_done"], at);
        assert_eq!(piece["pieces"], pieces.len());
    }
    for other in ["sensor", "feedback"] {
        let observed = |event: &&Value| event["type"] == "observation" && event["kind"] == other;
        assert_eq!(
            events.iter().filter(observed).count(),
            1,
            "{other} is observed"
        );
    }
}

#[test]
fn every_event_of_a_turn_names_it() {
    let model = speaking_model();
    let mut chat = Command::new(env!("CARGO_BIN_EXE_sage"));
    chat.args([
        "chat",
        text(model.path()),
        "--json",
        "--context",
        "48",
        "--max-tokens",
        "6",
    ]);
    let output = typed(&mut chat, "Hello\n/good\nAgain\n/bad\nAnd once more\n");
    assert!(output.status.success());
    let events = lines(&String::from_utf8(output.stdout).expect("UTF-8"));
    let named = named(&events);
    let answered = named.values().filter(|kinds| kinds.contains("answer"));
    assert!(answered.count() >= 3, "{named:?}");
    let forgotten = named.values().any(|kinds| kinds.contains("forgotten"));
    assert!(forgotten, "the context is too short for all of it");
}

/// A prompt of more than one step is heard of while it is read, for every reader alike.
#[test]
fn a_long_prompt_says_how_far_it_is_read() {
    use sage::events::EventKind;
    use sage::session::opening::EngineOptions;
    let source = sage::store::open_model(crate::common::fixture("tiny-omni")).expect("a model");
    let options = EngineOptions {
        chunk_tokens: Some(8),
        context_tokens: 64,
        ..EngineOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut session = crate::common::sessions::open(source.into(), options).await;
        for (tokens, due) in [(20, vec![(8, 20), (16, 20), (20, 20)]), (8, vec![])] {
            let request = crate::common::sessions::request((0..tokens).collect(), 2);
            let mut heard = Vec::new();
            let mut sink = |event: sage::events::Event| {
                if let EventKind::Progress {
                    read_tokens,
                    prompt_tokens,
                    ..
                } = event.kind
                {
                    heard.push((read_tokens, prompt_tokens));
                }
                true
            };
            let answered = session.answer(request, None, &mut sink).await;
            answered.expect("an answer");
            assert_eq!(heard, due);
            assert_eq!(session.engine().progress().state(), None, "it is over");
        }
    });
}
