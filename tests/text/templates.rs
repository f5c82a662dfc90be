//! Chat templates: rendered as transformers renders them, and as programs of strangers.
//!
//! `tests/export_templates.py` made what is compared with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "templates/hostile.rs"]
mod hostile;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sage::store::open_model;
use sage::text::TextError;
use sage::text::template::{ChatTemplate, Message, TemplateArgs, TemplateInput};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The model of the repository without its template; `files` beside it.
fn model(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny");
    for entry in fs::read_dir(own).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "chat_template.json" {
            symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }
    folder
}

fn load(folder: &Path, args: TemplateArgs) -> Result<ChatTemplate, TextError> {
    ChatTemplate::load(&*open_model(folder).unwrap(), args)
}

fn args(pairs: &[&str]) -> TemplateArgs {
    let mut args = TemplateArgs::default();
    for pair in pairs {
        args.parse(pair).unwrap();
    }
    args
}

fn rendered(folder: &TempDir, pairs: &[&str]) -> String {
    let template = load(folder.path(), args(pairs)).unwrap();
    let messages = [Message::new("user", "Hi")];
    let input = TemplateInput {
        messages: &messages,
        add_generation_prompt: true,
        ..TemplateInput::default()
    };
    match template.render(&input) {
        Ok(text) => text,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn conversations_render_as_transformers_renders_them() {
    let fixture = include_str!("../fixtures/templates.json");
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    let (mut compared, mut refused) = (0, 0);
    for set in fixture["sets"].as_array().unwrap() {
        let config = serde_json::to_string(&set["tokenizer_config"]).unwrap();
        let folder = model(&[("tokenizer_config.json", &config)]);
        for case in set["cases"].as_array().unwrap() {
            let of = format!("{} {}", set["name"], case);
            let messages = &fixture["conversations"][case["conversation"].as_str().unwrap()];
            let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
            let list = |key: &str| case["options"][key].as_array().cloned().unwrap_or_default();
            let (tools, documents) = (list("tools"), list("documents"));
            let mut args = TemplateArgs::default();
            args.set("strftime_now", fixture["now"].clone()).unwrap();
            for (key, value) in case["options"].as_object().unwrap() {
                if !["tools", "documents"].contains(&key.as_str()) {
                    args.set(key, value.clone()).unwrap();
                }
            }
            let result = load(folder.path(), args).unwrap().render(&TemplateInput {
                messages: &messages,
                tools: &tools,
                documents: &documents,
                add_generation_prompt: case["add_generation_prompt"] == true,
            });
            match (case["rendered"].as_str(), result) {
                (Some(expected), result) => {
                    assert_eq!(result.as_deref().ok(), Some(expected), "{of}: {result:?}");
                    compared += 1;
                }
                (None, result) => {
                    let error = result.expect_err(&of).to_string();
                    assert!(
                        error.contains(case["refused"].as_str().unwrap()),
                        "{of}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(compared >= 140 && refused >= 2, "{compared} and {refused}");
}

#[test]
fn a_template_is_found_where_transformers_finds_it() {
    let config = json!({"chat_template": "config", "eos_token": "<e>"}).to_string();
    let config = ("tokenizer_config.json", config.as_str());
    let legacy = ("chat_template.json", r#"{"chat_template": "json"}"#);
    let jinja = ("chat_template.jinja", "jinja{{ eos_token }}");
    let text_only = |files: &[(&str, &str)]| {
        let folder = model(files);
        let _ = fs::remove_file(folder.path().join("preprocessor_config.json"));
        folder
    };
    assert_eq!(rendered(&model(&[config]), &[]), "config");
    assert_eq!(rendered(&model(&[config, jinja]), &[]), "jinja<e>");
    // A processor takes its old file first; a tokenizer does not know that file.
    assert_eq!(rendered(&model(&[config, jinja, legacy]), &[]), "json");
    assert_eq!(
        rendered(&text_only(&[config, jinja, legacy]), &[]),
        "jinja<e>"
    );
    assert_eq!(rendered(&text_only(&[config, legacy]), &[]), "json");
    let named = [
        config,
        ("additional_chat_templates/default.jinja", "named"),
        ("additional_chat_templates/rag.jinja", "rag"),
    ];
    assert_eq!(rendered(&model(&named), &[]), "named");
    // Plain ChatML where there is none.
    let none = ("tokenizer_config.json", "{}");
    assert_eq!(
        rendered(&model(&[none]), &[]),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let map = json!({"chat_template": {"a": "x", "default": "mapped"}}).to_string();
    let map = model(&[("tokenizer_config.json", &map)]);
    assert_eq!(rendered(&map, &[]), "mapped");
}

#[test]
fn what_is_no_template_is_named_with_its_file_and_key() {
    for (template, expected) in [
        (
            json!(7),
            "chat_template is a number, expected a text, a list",
        ),
        (
            json!([7]),
            "chat_template[0].name is missing, expected a text",
        ),
        (
            json!([{"name": "a", "template": []}]),
            "chat_template[0].template is a list, expected a text",
        ),
        (
            json!({"default": true}),
            "chat_template.default is true or false, expected a text",
        ),
    ] {
        let config = json!({ "chat_template": template }).to_string();
        let folder = model(&[("tokenizer_config.json", &config)]);
        let error = load(folder.path(), args(&[]))
            .err()
            .expect(expected)
            .to_string();
        assert!(
            error.contains("tokenizer_config.json") && error.contains(expected),
            "{error}"
        );
    }
    let no_default =
        json!({"chat_template": [{"name": "b", "template": ""}, {"name": "a", "template": ""}]});
    let folder = model(&[("tokenizer_config.json", &no_default.to_string())]);
    let template = load(folder.path(), args(&[])).unwrap();
    let error = template
        .render(&TemplateInput::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none of the templates is named `default`; there are a, b"),
        "{error}"
    );
}

#[test]
fn arguments_are_json_or_text_and_the_clock_is_one_of_them() {
    let show = (
        "chat_template.jinja",
        "{{ [a, b, c, d] }}{{ strftime_now('%Y-%m-%d %H:%M:%S') }}",
    );
    let folder = model(&[show]);
    let given = [
        "a=false",
        "b=two words",
        "c=[1, \"x\"]",
        "d=",
        "strftime_now=2026-02-03",
    ];
    assert_eq!(
        rendered(&folder, &given),
        "[False, 'two words', [1, 'x'], '']2026-02-03 00:00:00"
    );
    // Without one it is the time at which the model was opened, and then it stays.
    let template = load(folder.path(), args(&[])).unwrap();
    let first = template.render(&TemplateInput::default()).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(template.render(&TemplateInput::default()).unwrap(), first);
    let again = load(folder.path(), template.args().clone()).unwrap();
    assert_eq!(again.render(&TemplateInput::default()).unwrap(), first);

    let error = load(folder.path(), args(&["strftime_now=noon"]))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("expected a time such as 2026-"),
        "{error}"
    );
    let parse = |pair: &str| TemplateArgs::default().parse(pair).unwrap_err();
    assert!(parse("messages=[]").contains("no argument"));
    assert!(parse("x").contains("KEY=VALUE"));
    assert!(parse("a-b=1").contains("no name"));
}

#[test]
fn a_long_conversation_has_the_fuel_that_it_needs() {
    let fixture = include_str!("../fixtures/templates.json");
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    for set in fixture["sets"].as_array().unwrap() {
        let name = set["name"].as_str().unwrap();
        if !["omni", "thinker", "coder"].contains(&name) {
            continue;
        }
        let config = serde_json::to_string(&set["tokenizer_config"]).unwrap();
        let folder = model(&[("tokenizer_config.json", &config)]);
        let turns = (0..4000).map(|n| match n % 2 {
            0 => Message::new("user", format!("Question {n} {}", "word ".repeat(n % 50))),
            _ => Message::new("assistant", format!("<think>\nhm\n</think>\n\nAnswer {n}")),
        });
        let messages: Vec<Message> = turns.collect();
        let long = [Message::new("user", "long ".repeat(2_000_000))];
        for messages in [&messages[..], &long[..]] {
            let text = load(folder.path(), args(&[]))
                .unwrap()
                .render(&TemplateInput {
                    messages,
                    add_generation_prompt: true,
                    ..TemplateInput::default()
                });
            let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(text.ends_with("<|im_start|>assistant\n"), "{name}");
        }
    }
}

#[test]
fn a_hostile_template_ends_in_order() {
    let mut wrong = String::new();
    for (name, source) in hostile::templates() {
        let folder = model(&[("chat_template.jinja", &source)]);
        let started = Instant::now();
        // Bytes that are mapped bound those that are resident; the time is the machine's, which may be busy.
        let mut command = Command::new("sh");
        let script = "ulimit -v 1500000; ulimit -t 20; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_sage")]);
        command.arg("generate").arg(folder.path());
        command.args(["--prompt", "hi", "--max-tokens", "1", "--threads", "1"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        // Nothing forbids a thousand times `not`; it only must end.
        if name == "deep-not-4000" && output.status.success() {
            continue;
        }
        let ends = output.status.code() == Some(2);
        let named = error.contains("the chat template") && error.contains("chat_template.jinja");
        let clean = !error.contains("panicked") && !error.contains('\x1b');
        if !(ends && named && clean && started.elapsed() < Duration::from_secs(20)) {
            let took = started.elapsed();
            writeln!(
                wrong,
                "{name}: {} in {took:.1?}: {error:.300}",
                output.status
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn generate(folder: &TempDir, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sage"))
        .arg("generate")
        .arg(folder.path())
        .args([
            "--prompt",
            "Tom lives in Rome. Where does Tom live?",
            "--max-tokens",
            "4",
        ])
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn arguments_of_the_command_line_reach_the_template() {
    let folder = model(&[(
        "chat_template.jinja",
        "{{ raise_exception('thinking: ' ~ enable_thinking) }}",
    )]);
    let (code, _, error) = generate(&folder, &["--template-arg", "enable_thinking=false"]);
    assert!(
        code == Some(2) && error.contains("thinking: False"),
        "{error}"
    );
    let (code, _, error) = generate(&folder, &["--template-arg", "nonsense"]);
    assert!(
        code == Some(2) && error.contains("--template-arg") && error.contains("KEY=VALUE"),
        "{error}"
    );
}

#[test]
fn thoughts_stand_apart_from_the_answer() {
    let chatml = "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}";
    let plain = model(&[("chat_template.jinja", chatml)]);
    let (_, said, _) = generate(&plain, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (said["text"].as_str(), said.get("reasoning")),
        (Some("Rome"), None)
    );
    // The prompt opens the thoughts, and the answer never closes them.
    let opened = model(&[(
        "chat_template.jinja",
        &format!("{chatml}{{{{ '<think>\\n' if open }}}}"),
    )]);
    let open = ["--template-arg", "open=true"];
    let (_, thought, _) = generate(&opened, &[&open[..], &["--json"]].concat());
    let thought: Value = serde_json::from_str(&thought).unwrap();
    assert_eq!(thought["text"], "");
    let reasoning = thought["reasoning"].as_str().unwrap_or_default();
    assert!(!reasoning.is_empty(), "{thought}");
    let (code, shown, aside) = generate(&opened, &open);
    assert!(
        code == Some(0) && shown.trim().is_empty() && aside.contains(reasoning),
        "{shown:?} {aside:?}"
    );
}
