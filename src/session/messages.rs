//! A conversation in a file: messages as OpenAI's API and Qwen's examples have them.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::core::request::RequestContent;
use crate::input::{read_file_text, without_mark};
use crate::media::medium::{Medium, MediumKind};
use crate::text::Message;
use crate::text::template::{MessageContent, MessagePart};

/// A longer file is no conversation, bytes.
const MOST_BYTES: u64 = 64 << 20;

/// A longer text is not repeated in a complaint, characters.
const MOST_SHOWN_CHARACTERS: usize = 60;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
const PARTS: &str = "text, image, audio, image_url or input_audio";
const MESSAGE: &str = "an object with `role` and `content`";
const MESSAGES: &str = "a list of objects with `role` and `content`";

/// Messages and tools, their media read.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The messages, the last one to be answered.
    pub content: RequestContent,
    /// Schemas of the tools that may be called.
    pub tools: Vec<Value>,
}

impl Conversation {
    /// Reads `[{"role": …, "content": …}, …]`, or an object with these as `messages` and with `tools`. A part
    /// `{"type": "image", "image": FILE}` or `{"type": "audio", "audio": FILE}` names a file, relative to this one's folder;
    /// `image_url` and `input_audio`, as OpenAI's API has them, do with a data URL or base64.
    ///
    /// # Errors
    /// What is wrong with the file, in words that name it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = read_file_text(path, MOST_BYTES).map_err(|error| format!("{shown}: {error}"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(|problem| format!("{shown}: {problem}"))
    }

    /// As [`Conversation::read`], from text; files are relative to `folder`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let whole: Value = serde_json::from_str(without_mark(text))
            .map_err(|error| format!("{error}; expected messages as JSON"))?;
        let (messages, tools) = match whole {
            Value::Object(mut fields) => {
                let tools = fields.remove("tools").unwrap_or(Value::Null);
                let messages = fields.remove("messages");
                let expected = "has no `messages`; expected a list of them, or an object with one";
                (messages.ok_or_else(|| expected.to_owned())?, tools)
            }
            list => (list, Value::Null),
        };
        let tools = match tools {
            Value::Null => Vec::new(),
            Value::Array(tools) => tools,
            other => return Err(wrong("tools", Some(&other), "a list of schemas")),
        };
        let Value::Array(messages) = messages else {
            return Err(wrong("messages", Some(&messages), MESSAGES));
        };
        let mut media = Vec::new();
        let numbered = messages.into_iter().enumerate();
        let messages = numbered.map(|(number, message)| {
            let at = format!("messages[{number}]");
            message_of(message, &at, folder, &mut media)
        });
        let messages = messages.collect::<Result<Vec<Message>, String>>()?;
        let Some(last) = messages.last() else {
            return Err("there are no messages; expected one at least".to_owned());
        };
        if says_nothing(last) {
            let at = format!("messages[{}].content", messages.len() - 1);
            return Err(format!(
                "`{at}` is empty; expected something that is to be answered"
            ));
        }
        Ok(Self {
            content: RequestContent::Messages { messages, media },
            tools,
        })
    }
}

/// What is wrong with the value of a key: its path, the value, and what was expected.
fn wrong(at: &str, value: Option<&Value>, expected: &str) -> String {
    let Some(value) = value else {
        return format!("`{at}` is missing; expected {expected}");
    };
    let value = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > MOST_SHOWN_CHARACTERS => {
            "a long text".to_owned()
        }
        value => value.to_string(),
    };
    format!("`{at}` is {value}; expected {expected}")
}

/// The last message asks nothing.
fn says_nothing(last: &Message) -> bool {
    match &last.content {
        None => last.tool_calls.is_none(),
        Some(MessageContent::Text(text)) => text.trim().is_empty(),
        Some(MessageContent::Parts(parts)) => parts.iter().all(|part| match part {
            MessagePart::Text { text, .. } => text.trim().is_empty(),
            MessagePart::Other(_) => false,
        }),
    }
}

/// A message at `at`; what its parts hold of sounds and pictures goes into `media`.
fn message_of(
    mut message: Value,
    at: &str,
    folder: &Path,
    media: &mut Vec<Medium>,
) -> Result<Message, String> {
    let Value::Object(fields) = &mut message else {
        return Err(wrong(at, Some(&message), MESSAGE));
    };
    let role = fields.get("role");
    if !role
        .and_then(Value::as_str)
        .is_some_and(|role| ROLES.contains(&role))
    {
        return Err(wrong(&format!("{at}.role"), role, &ROLES.join(", ")));
    }
    for key in ["reasoning_content", "tool_call_id", "name"] {
        if let Some(value) = fields.get(key)
            && !(value.is_string() || value.is_null())
        {
            return Err(wrong(&format!("{at}.{key}"), Some(value), "a text"));
        }
    }
    let calls = fields.get("tool_calls").filter(|calls| !calls.is_null());
    if let Some(calls) = calls.filter(|calls| !calls.is_array()) {
        return Err(wrong(
            &format!("{at}.tool_calls"),
            Some(calls),
            "a list of calls",
        ));
    }
    let calls = calls.is_some();
    let at_content = format!("{at}.content");
    match fields.get_mut("content") {
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            for (number, part) in parts.iter_mut().enumerate() {
                put_part(part, &format!("{at_content}[{number}]"), folder, media)?;
            }
        }
        None | Some(Value::Null) if calls => {}
        other => {
            return Err(wrong(
                &at_content,
                other.as_deref(),
                "a text or a list of parts",
            ));
        }
    }
    serde_json::from_value(message).map_err(|error| format!("`{at}`: {error}"))
}

/// Leaves a text as it is; of a sound or a picture its place stays, and what it holds goes into `media`.
fn put_part(
    part: &mut Value,
    at: &str,
    folder: &Path,
    media: &mut Vec<Medium>,
) -> Result<(), String> {
    let Value::Object(fields) = &*part else {
        return Err(wrong(at, Some(part), "an object with `type`"));
    };
    if fields.get("type").and_then(Value::as_str) == Some("text") {
        let text = fields.get("text");
        return match text {
            Some(Value::String(_)) => Ok(()),
            text => Err(wrong(&format!("{at}.text"), text, "a text")),
        };
    }
    let medium = medium_of(fields, at, folder)?;
    *part = json!({ "type": match medium.kind {
        MediumKind::Picture => "image",
        MediumKind::Sound => "audio",
    }});
    media.push(medium);
    Ok(())
}

/// The medium that a part of a message, at `at`, names or holds.
fn medium_of(fields: &Map<String, Value>, at: &str, folder: &Path) -> Result<Medium, String> {
    let of = |key: &str| fields.get(key);
    let kind = of("type");
    let (medium, key, place) = match kind.and_then(Value::as_str) {
        Some("image") => (MediumKind::Picture, "image", of("image")),
        Some("audio") => (MediumKind::Sound, "audio", of("audio")),
        Some("image_url") => {
            let url = of("image_url");
            let inner = url.filter(|url| url.is_object());
            match inner {
                Some(url) => (MediumKind::Picture, "image_url.url", url.get("url")),
                None => (MediumKind::Picture, "image_url", url),
            }
        }
        Some("input_audio") => {
            let data = of("input_audio").and_then(|audio| audio.get("data"));
            (MediumKind::Sound, "input_audio.data", data)
        }
        Some("video" | "video_url") => {
            return Err(format!(
                "`{at}` is a video, which is not decoded; give its frames as images"
            ));
        }
        _ => return Err(wrong(&format!("{at}.type"), kind, PARTS)),
    };
    let at = format!("{at}.{key}");
    let is_data = key == "input_audio.data";
    let Some(place) = place.and_then(Value::as_str) else {
        let expected = match is_data {
            true => "the sound's file as base64",
            false => "a file or a data URL",
        };
        return Err(wrong(&at, place, expected));
    };
    if is_data {
        return decoded(medium, place, &at);
    }
    if let Some(data) = place.strip_prefix("data:") {
        let (_, data) = data
            .split_once("base64,")
            .ok_or_else(|| format!("`{at}` is a data URL without base64; expected base64"))?;
        return decoded(medium, data, &at);
    }
    if place.contains("://") && !place.starts_with("file://") {
        return Err(format!(
            "`{at}`: {place} is on a network; expected a file or a data URL"
        ));
    }
    let file = place.strip_prefix("file://").unwrap_or(place);
    Medium::read(medium, &folder.join(file)).map_err(|error| format!("`{at}`: {error}"))
}

fn decoded(medium: MediumKind, data: &str, at: &str) -> Result<Medium, String> {
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data)
        .map_err(|error| format!("`{at}` is no base64: {error}"))?;
    Ok(Medium::new(medium, bytes))
}
