//! `generate --messages FILE.json`: a conversation in a file is answered as the same conversation that is held, and every mistake
//! in it is named.

#![allow(clippy::expect_used, clippy::panic)] // a test stops at the first thing that is wrong

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::embedding::{HELEN, MODEL};
use crate::common::fixture;
use crate::common::layouts::{sage, text};
use crate::common::runs::typed;
use crate::common::sounds::hum;
use crate::common::speaking::speaking_model;

const SHORT: [&str; 3] = ["--max-tokens", "8", "--exact"];

/// A file with this in it.
fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("written");
    path
}

/// The report of `generate` with these arguments.
fn generated(model: &str, arguments: &[&str]) -> Value {
    let base = [&["generate", model, "--json"][..], &SHORT].concat();
    let (code, said, errors) = sage(&[&base[..], arguments].concat());
    assert_eq!(code, 0, "{arguments:?}: {errors}");
    serde_json::from_str(&said).expect("JSON")
}

/// What comes of messages.
fn answered(model: &str, messages: &Value, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), "messages.json", messages.to_string());
    generated(model, &[&["--messages", text(&path)][..], more].concat())
}

/// The answers of a conversation that is held line by line.
fn held(lines: &str, more: &[&str]) -> Vec<String> {
    let mut chat = Command::new(env!("CARGO_BIN_EXE_sage"));
    chat.args(["chat", MODEL, "--json"]).args(SHORT).args(more);
    let output = typed(&mut chat, lines);
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("an event a line"));
    let answers = events.filter(|event| event["type"] == "answer");
    answers
        .map(|answer| answer["text"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn messages_are_answered_as_the_conversation_that_is_held() {
    let second = "Where does Tom live?";
    let system = "Answer in one word.";
    for more in [&[][..], &["--system", system]] {
        let held = held(&format!("{HELEN}\n{second}\n"), more);
        assert_eq!(held.len(), 2);
        let mut messages = vec![
            json!({ "role": "user", "content": HELEN }),
            json!({ "role": "assistant", "content": held[0] }),
            json!({ "role": "user", "content": [{ "type": "text", "text": second }] }),
        ];
        if !more.is_empty() {
            messages.insert(0, json!({ "role": "system", "content": system }));
        }
        let found = answered(MODEL, &messages.into(), &[]);
        assert_eq!(found["text"].as_str().expect("a text").trim(), held[1]);
    }
    // What was said before is seen: without it Tom lives nowhere.
    let alone = answered(MODEL, &json!([{ "role": "user", "content": second }]), &[]);
    let held = held(&format!("{HELEN}\n{second}\n"), &[]);
    assert_ne!(alone["text"].as_str().expect("a text").trim(), held[1]);
}

#[test]
fn one_message_is_a_prompt() {
    let prompt = generated(MODEL, &["--prompt", HELEN]);
    let messages = json!([{ "role": "user", "content": HELEN }]);
    let of_openai = json!({ "model": "any", "messages": messages });
    for messages in [&messages, &of_openai] {
        let found = answered(MODEL, messages, &[]);
        assert_eq!(found["tokens"], prompt["tokens"]);
        assert_eq!(found["prompt_tokens"], prompt["prompt_tokens"]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let marked = format!("\u{feff}{messages}");
    let path = file(folder.path(), "marked.json", marked);
    let found = generated(MODEL, &["--messages", text(&path)]);
    assert_eq!(found["tokens"], prompt["tokens"]);
}

/// Sounds and pictures are found beside the file, or are in it, and are perceived as those of the command line.
#[test]
fn parts_are_heard_and_seen() {
    let model = speaking_model();
    let model = text(model.path());
    let folder = tempfile::tempdir().expect("a folder");
    let sound = file(folder.path(), "hum.wav", hum(0.5, 1));
    let picture = std::fs::read_dir(fixture("pictures"))
        .expect("pictures")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "png"))
        .min()
        .expect("a picture");
    let beside = folder.path().join("seen.png");
    std::fs::copy(&picture, &beside).expect("a copy");
    let question = "What is it?";
    let base64 = |path: &Path| {
        let bytes = std::fs::read(path).expect("a file");
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
    };
    let data = base64(&sound);
    let url = format!("data:image/png;base64,{}", base64(&beside));
    let (sound, picture) = (text(&sound), text(&beside));
    let cases = [
        (
            ["--audio", sound],
            [
                json!({ "type": "audio", "audio": "hum.wav" }),
                json!({ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } }),
            ],
        ),
        (
            ["--image", picture],
            [
                json!({ "type": "image", "image": "seen.png" }),
                json!({ "type": "image_url", "image_url": { "url": url } }),
            ],
        ),
    ];
    for (option, parts) in cases {
        let expected = generated(model, &[&option[..], &["--prompt", question]].concat());
        for part in parts {
            let words = json!({ "type": "text", "text": question });
            let messages = json!([{ "role": "user", "content": [part, words] }]);
            let path = file(folder.path(), "messages.json", messages.to_string());
            let found = generated(model, &["--messages", text(&path)]);
            assert_eq!(found["tokens"], expected["tokens"], "{messages}");
            assert_eq!(found["prompt_tokens"], expected["prompt_tokens"]);
        }
        let deaf = generated(model, &["--prompt", question]);
        assert_ne!(deaf["prompt_tokens"], expected["prompt_tokens"]);
    }
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let user = |content: Value| json!([{ "role": "user", "content": content }]);
    let part = |part: Value| user(json!([{ "type": "text", "text": "Look:" }, part]));
    let cases: Vec<(String, &str)> = vec![
        ("hello".into(), "expected messages as JSON"),
        ("[".repeat(100_000), "expected messages as JSON"),
        ("null".into(), "`messages` is null; expected a list"),
        ("[]".into(), "there are no messages"),
        ("{}".into(), "has no `messages`"),
        (
            json!({ "messages": "hello" }).to_string(),
            "`messages` is \"hello\"; expected a list",
        ),
        (
            json!({ "messages": user("x".into()), "tools": 7 }).to_string(),
            "`tools` is 7; expected a list of schemas",
        ),
        (
            json!(["hello"]).to_string(),
            "`messages[0]` is \"hello\"; expected an object",
        ),
        (
            json!([{ "content": "x" }]).to_string(),
            "`messages[0].role` is missing; expected system",
        ),
        (
            json!([{ "role": 7, "content": "x" }]).to_string(),
            "`messages[0].role` is 7; expected",
        ),
        (
            json!([{ "role": "user", "content": "x" }, { "role": "boss", "content": "x" }])
                .to_string(),
            "`messages[1].role` is \"boss\"; expected system, developer, user, assistant, tool",
        ),
        (
            json!([{ "role": "user" }]).to_string(),
            "`messages[0].content` is missing; expected a text",
        ),
        (
            user(7.into()).to_string(),
            "`messages[0].content` is 7; expected a text or a list",
        ),
        (
            user("  ".into()).to_string(),
            "`messages[0].content` is empty",
        ),
        (
            user(json!([])).to_string(),
            "`messages[0].content` is empty",
        ),
        (
            user(json!([7])).to_string(),
            "`messages[0].content[0]` is 7; expected an object",
        ),
        (
            part(json!({ "type": "text", "text": 7 })).to_string(),
            "`messages[0].content[1].text` is 7",
        ),
        (
            part(json!({ "type": "text" })).to_string(),
            "`messages[0].content[1].text` is missing",
        ),
        (
            part(json!({ "type": "smell" })).to_string(),
            "`messages[0].content[1].type` is \"smell\"; expected text, image, audio, image_url or input_audio",
        ),
        (
            part(json!({ "text": "x" })).to_string(),
            "`messages[0].content[1].type` is missing",
        ),
        (
            part(json!({ "type": "image" })).to_string(),
            "`messages[0].content[1].image` is missing",
        ),
        (
            part(json!({ "type": "image", "image": "no.png" })).to_string(),
            "`messages[0].content[1].image`: ",
        ),
        (
            part(json!({ "type": "audio", "audio": "." })).to_string(),
            "is a folder",
        ),
        (
            part(
                json!({ "type": "image_url", "image_url": { "url": "https://example.org/a.png" } }),
            )
            .to_string(),
            "`messages[0].content[1].image_url.url`: https://example.org/a.png is on a network",
        ),
        (
            part(json!({ "type": "image_url", "image_url": "data:image/png;base64,!" }))
                .to_string(),
            "`messages[0].content[1].image_url` is no base64",
        ),
        (
            part(json!({ "type": "input_audio", "input_audio": "x" })).to_string(),
            "`messages[0].content[1].input_audio.data` is missing",
        ),
        (
            part(json!({ "type": "video", "video": "a.mp4" })).to_string(),
            "is a video",
        ),
        (
            json!([{ "role": "user", "content": "x", "name": 7 }]).to_string(),
            "`messages[0].name` is 7; expected a text",
        ),
    ];
    for (content, expected) in cases {
        let path = file(folder.path(), "wrong.json", &content);
        refused(&path, expected);
    }
    let huge = folder.path().join("wrong.json");
    let made = std::fs::File::create(&huge).expect("a file");
    made.set_len(70 << 20).expect("a sparse file");
    refused(&huge, "is larger than");
    refused(
        &file(folder.path(), "wrong.json", [0xff, 0xfe]),
        "is not UTF-8",
    );
    std::fs::create_dir(folder.path().join("d")).expect("a folder");
    let unnamed = [
        (folder.path().join("d"), "is a folder"),
        (folder.path().join("no.json"), "No such file"),
    ];
    for (path, expected) in unnamed {
        refused(&path, expected);
    }
}

/// Exit code 2, and a complaint that names the file and this.
fn refused(path: &Path, expected: &str) {
    let (code, said, errors) = sage(&["generate", MODEL, "--messages", text(path)]);
    assert_eq!((code, said.as_str()), (2, ""), "{errors}");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(errors.contains(name), "{name} is not named: {errors}");
    assert!(
        errors.contains(expected),
        "{expected} is not said: {errors}"
    );
}

#[test]
fn messages_stand_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let messages = json!([{ "role": "user", "content": "x" }]).to_string();
    let path = file(folder.path(), "messages.json", messages);
    for more in [
        ["--prompt", "x"],
        ["--system", "x"],
        ["--prompt-tokens", "1"],
        ["--image", "x.png"],
    ] {
        let arguments = [
            "generate",
            MODEL,
            "--messages",
            text(&path),
            more[0],
            more[1],
        ];
        let (code, _, errors) = sage(&arguments);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains(more[0]), "{errors}");
    }
}
