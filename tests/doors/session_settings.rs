//! Settings of a session and of its sampling: whatever says them, every way to run a model obeys, in one order.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::embedding::MODEL;
use crate::common::layouts::text;
use crate::common::speaking::speaking_model;
use sage::Sage;
use sage::session::{Request, Sources};

/// Where a setting is said, the least first.
#[derive(Clone, Copy, Default)]
struct Said<'a> {
    /// In the file of `--config`.
    file: Option<&'a str>,
    /// In a scenario.
    scenario: Option<&'a str>,
    /// By variables.
    variables: &'a [(&'a str, &'a str)],
    /// By `--set` and options.
    arguments: &'a [&'a str],
}

/// A model that never ends by itself, so that every answer is as long as it may be.
struct World {
    model: TempDir,
    out: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            model: speaking_model(),
            out: tempfile::tempdir().expect("a folder"),
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.out.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// What `sage` says, one object a line, and what it complains of.
    fn run(&self, command: &[&str], said: Said<'_>) -> (i32, Vec<Value>, String) {
        let config = self.file("config.toml", said.file.unwrap_or_default());
        let mut child = Command::new(env!("CARGO_BIN_EXE_sage"))
            .args(command)
            .args(["--json", "--config", text(&config)])
            .args(said.arguments)
            .envs(said.variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sage runs");
        let mut stdin = child.stdin.take().expect("its input");
        // A program that refuses its settings reads nothing.
        let _ = stdin.write_all(b"Hello\n");
        drop(stdin);
        let output = child.wait_with_output().expect("its end");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = lines.lines();
        let lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code().expect("a code"),
            lines.collect(),
            errors,
        )
    }

    fn events(&self, name: &str, said: Said<'_>) -> Vec<Value> {
        let (code, events, errors) = self.run_named(name, said);
        assert_eq!(code, 0, "{name}: {errors}");
        events
    }

    /// One of the three commands that answer `Hello`.
    fn run_named(&self, name: &str, said: Said<'_>) -> (i32, Vec<Value>, String) {
        let model = text(self.model.path());
        match name {
            "generate" => self.run(&["generate", model, "--prompt", "Hello"], said),
            "chat" => self.run(&["chat", model], said),
            _ => {
                let script = format!(
                    "name = \"one\"\nticks = 10\n{}\n[[observe]]\nat = 0\nkind = \"question\"\nsource = \"user\"\n\
                     text = \"Hello\"\n",
                    said.scenario.unwrap_or_default()
                );
                let script = self.file("one.toml", &script);
                self.run(&["run", text(&script), "--model", model], said)
            }
        }
    }

    /// The tokens of the answer, and its words.
    fn answer(&self, name: &str, said: Said<'_>) -> (usize, String) {
        let events = self.events(name, said);
        let length = |value: &Value| value.as_u64().expect("a number") as usize;
        let words = |value: &Value| value["text"].as_str().expect("a text").trim().to_owned();
        if name == "generate" {
            let report = &events[0];
            return (
                report["tokens"].as_array().expect("ids").len(),
                words(report),
            );
        }
        let answer = events.iter().find(|event| event["type"] == "answer");
        let answer = answer.expect("an answer");
        (length(&answer["tokens"]), words(answer))
    }
}

const COMMANDS: [&str; 3] = ["generate", "chat", "run"];

#[test]
fn the_length_of_answers_is_said_in_every_layer() {
    let world = World::new();
    let file = Some("[session]\nanswer_tokens = 3\n");
    let variables = &[("SAGE_SESSION__ANSWER_TOKENS", "4")][..];
    let set = &["--set", "session.answer_tokens=5"][..];
    for name in COMMANDS {
        let answered = |said| world.answer(name, said).0;
        let of_file = Said {
            file,
            ..Said::default()
        };
        assert_eq!(answered(of_file), 3, "{name}");
        let of_variable = Said {
            variables,
            ..of_file
        };
        assert_eq!(answered(of_variable), 4, "{name}");
        let of_set = Said {
            arguments: set,
            ..of_variable
        };
        assert_eq!(answered(of_set), 5, "{name}");
        if name == "run" {
            let scenario = Some("answer_tokens = 7");
            assert_eq!(
                answered(Said {
                    scenario,
                    ..Said::default()
                }),
                7
            );
            assert_eq!(
                answered(Said {
                    scenario,
                    ..of_file
                }),
                7,
                "a scenario over files"
            );
            assert_eq!(
                answered(Said {
                    scenario,
                    ..of_variable
                }),
                4,
                "a variable over it"
            );
            assert_eq!(answered(Said { scenario, ..of_set }), 5, "--set over it");
        } else {
            let arguments = &["--set", "session.answer_tokens=5", "--max-tokens", "6"];
            assert_eq!(
                answered(Said {
                    arguments,
                    ..of_variable
                }),
                6,
                "{name}"
            );
        }
    }
}

#[test]
fn sampling_is_said_in_every_layer() {
    let world = World::new();
    let short = "[session]\nanswer_tokens = 8\n";
    let file = format!("{short}[sampling]\ntemperature = 1.5\nseed = 5\n");
    let short = Said {
        file: Some(short),
        ..Said::default()
    };
    let variables = [
        ("SAGE_SAMPLING__TEMPERATURE", "1.5"),
        ("SAGE_SAMPLING__SEED", "5"),
    ];
    let set = [
        "--set",
        "sampling.temperature=1.5",
        "--set",
        "sampling.seed=5",
    ];
    let options = ["--temperature", "1.5", "--seed", "5"];
    let other = ["--set", "sampling.seed=6"];
    let greedy = ["--set", "sampling.temperature=0"];
    for name in COMMANDS {
        let answered = |said| world.answer(name, said).1;
        let plain = answered(short);
        let drawn = answered(Said {
            file: Some(&file),
            ..Said::default()
        });
        assert_ne!(drawn, plain, "{name}: it is drawn");
        assert_eq!(
            answered(Said {
                variables: &variables,
                ..short
            }),
            drawn,
            "{name}"
        );
        assert_eq!(
            answered(Said {
                arguments: &set,
                ..short
            }),
            drawn,
            "{name}"
        );
        if name != "run" {
            assert_eq!(
                answered(Said {
                    arguments: &options,
                    ..short
                }),
                drawn,
                "{name}"
            );
        }
        let over = |arguments| Said {
            file: Some(&file),
            arguments,
            ..Said::default()
        };
        assert_ne!(answered(over(&other)), drawn, "{name}: another seed");
        assert_eq!(answered(over(&greedy)), plain, "{name}: --set over a file");
        let top = ["--set", "sampling.top_k=1"];
        assert_eq!(answered(over(&top)), plain, "{name}: one token is kept");
    }
}

#[test]
fn limit_context_and_chunks_are_obeyed() {
    let world = World::new();
    let short = Some("[session]\nanswer_tokens = 4\n");
    let base = Said {
        file: short,
        ..Said::default()
    };
    let limited = Some("[session]\nanswer_tokens = 4\nlimit = \"48MiB\"\n");
    for name in COMMANDS {
        let limit = |said| {
            let events = world.events(name, said);
            let event = &events[0];
            let mode = event
                .get("mode")
                .filter(|mode| mode.is_object())
                .unwrap_or(event);
            mode["limit_bytes"].as_u64()
        };
        let asked = limit(Said {
            file: limited,
            ..Said::default()
        });
        assert_eq!(asked, Some(48 << 20), "{name}");
        assert_eq!(limit(base), None, "{name}");
        let variables = &[("SAGE_SESSION__LIMIT", "48MiB")][..];
        for said in [
            Said { variables, ..base },
            Said {
                arguments: &["--set", "session.limit=48MiB"],
                ..base
            },
            Said {
                arguments: &["--limit", "48MiB"],
                ..base
            },
            // The option is nearer than the variable.
            Said {
                variables: &[("SAGE_SESSION__LIMIT", "44MiB")],
                arguments: &["--limit", "48MiB"],
                ..base
            },
        ] {
            assert_eq!(limit(said), asked, "{name}");
        }
        assert_eq!(
            limit(Said {
                file: limited,
                arguments: &["--limit", "none"],
                ..base
            }),
            None,
            "{name}"
        );

        // A prompt of 13 tokens and an answer of 4 need 17.
        let context = |tokens: &str| {
            let set = format!("session.context_tokens={tokens}");
            let said = Said {
                arguments: &["--set", &set],
                ..base
            };
            world.run_named(name, said)
        };
        assert_eq!(context("17").0, 0, "{name}: {}", context("17").2);
        let (code, events, errors) = context("16");
        let refused = events.iter().any(|event| event["type"] == "refused");
        assert!(
            code != 0 || refused || events.iter().all(|event| event["type"] != "answer"),
            "{name}: {errors}"
        );

        if name != "generate" {
            // Parts of the prompt: what is asked of the cache before the first token.
            let parts = |tokens: &str| {
                let set = format!("session.chunk_tokens={tokens}");
                let events = world.events(
                    name,
                    Said {
                        arguments: &["--set", &set],
                        ..base
                    },
                );
                let before = events.iter().take_while(|event| event["type"] != "token");
                before.filter(|event| event["type"] == "cache").count()
            };
            let (small, large) = (parts("4"), parts("64"));
            assert!(small >= large + 3, "{name}: {small} parts, and {large}");
        }
    }
    let scenario = Some("limit = \"60slots\"");
    let events = world.events("run", Said { scenario, ..base });
    assert!(events[0]["limit_bytes"].is_u64(), "a scenario's own limit");
}

/// A limit that nothing fits into is refused by every command that runs a model, wherever it is said.
#[test]
fn every_command_that_runs_a_model_reads_the_limit() {
    let world = World::new();
    let book = "models/tiny/heldout/kjv.txt";
    let own: [&[&str]; 4] = [
        &["generate", MODEL, "--prompt", "Hello"],
        &["chat", MODEL],
        &["price", MODEL, "--text", book, "--segments", "1"],
        &["salience", MODEL, "--text", book],
    ];
    let file = Some("[session]\nlimit = \"1MiB\"\n");
    for command in own {
        for said in [
            Said {
                file,
                ..Said::default()
            },
            Said {
                variables: &[("SAGE_SESSION__LIMIT", "1MiB")],
                ..Said::default()
            },
            Said {
                arguments: &["--set", "session.limit=1MiB"],
                ..Said::default()
            },
        ] {
            let (code, _, errors) = world.run(command, said);
            assert_eq!(code, 2, "{command:?}: {errors}");
            assert!(errors.contains("below the floor"), "{command:?}: {errors}");
        }
    }
}

#[test]
fn the_origin_of_each_is_shown() {
    let world = World::new();
    let file = Some("[session]\nanswer_tokens = 3\nlimit = \"6GiB\"\n");
    let said = Said {
        file,
        variables: &[
            ("SAGE_SESSION__CHUNK_TOKENS", "16"),
            ("SAGE_SESSION__LIMIT", "5GiB"),
        ],
        arguments: &[
            "--set",
            "sampling.temperature=0.5",
            "--set",
            "session.media_tokens=64",
        ],
        ..Said::default()
    };
    let (code, report, errors) = world.run(&["config"], said);
    assert_eq!(code, 0, "{errors}");
    let settings = report[0]["settings"].as_array().expect("settings");
    let of = |key: &str| {
        let found = settings.iter().find(|setting| setting["key"] == key);
        let found = found.unwrap_or_else(|| panic!("{key} is not shown"));
        (
            found["value"].clone(),
            found["origin"].as_str().expect("an origin").to_owned(),
        )
    };
    let expected: [(&str, Value, &str); 6] = [
        ("session.answer_tokens", 3.into(), "file"),
        ("session.limit", "5GiB".into(), "environment"),
        ("session.chunk_tokens", 16.into(), "environment"),
        ("session.media_tokens", 64.into(), "command_line"),
        ("sampling.temperature", 0.5.into(), "command_line"),
        ("session.context_tokens", "auto".into(), "default"),
    ];
    for (key, value, origin) in expected {
        assert_eq!(of(key), (value, origin.to_owned()), "{key}");
    }
}

/// The library reads the same layers, where it is told to.
#[tokio::test]
async fn a_library_obeys_them_too() {
    let world = World::new();
    let config = world.file(
        "library.toml",
        "[session]\nanswer_tokens = 3\nlimit = \"60slots\"\ncontext_tokens = 64\n",
    );
    let plain = || Sage::builder().model(world.model.path()).context_tokens(64);
    let of_file = || plain().settings(Sources::of_process(Some(config.clone()), Vec::new()));
    let words = async |builder: sage::session::Builder| {
        let handle = builder.build().await.expect("a loop").run();
        let mut events = handle
            .stream(Request::question("user", "Hello"))
            .expect("taken on");
        let mut found = None;
        while let Some(event) = events.next().await {
            if let sage::events::EventKind::Answer { tokens, text, .. } = event.kind {
                found = Some((tokens, text));
            }
        }
        let limit = handle.mode().expect("a mode").limit_bytes;
        handle.shutdown().await.expect("an end");
        let (tokens, text) = found.expect("an answer");
        (tokens, text, limit)
    };
    let (tokens, _, limit) = words(of_file()).await;
    assert!(tokens == 3 && limit.is_some());
    assert_eq!(words(of_file().set("session.answer_tokens=5")).await.0, 5);
    assert_eq!(
        words(of_file().set("session.answer_tokens=5").answer_tokens(6))
            .await
            .0,
        6
    );
    let (tokens, greedy, limit) = words(plain().set("session.answer_tokens=8")).await;
    assert!(tokens == 8 && limit.is_none());
    let set = plain().answer_tokens(8).set("sampling.temperature=1.5");
    let set = words(set.set("sampling.seed=5")).await.1;
    assert_ne!(set, greedy);
    let called = plain().answer_tokens(8).temperature(1.5).seed(5);
    assert_eq!(words(called).await.1, set);
    // As the program draws it.
    let options = ["--temperature", "1.5", "--seed", "5", "--max-tokens", "8"];
    let said = Said {
        arguments: &options,
        ..Said::default()
    };
    assert_eq!(world.answer("generate", said).1, set);
}
