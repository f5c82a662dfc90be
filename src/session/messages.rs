//! A conversation in a file: messages as OpenAI's API and Qwen's examples have them.

use std::path::Path;

use serde_json::{Map, Value};

use crate::core::request::Content;
use crate::input::read_file_text;
use crate::media::medium::{Medium, MediumKind};
use crate::text::Message;
use crate::text::template::{Content as Said, Part};

/// A longer file is no conversation, bytes.
const MOST_BYTES: u64 = 64 << 20;

/// Messages and tools, their media read.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The messages, the last one to be answered.
    pub content: Content,
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
        let whole: Value = serde_json::from_str(text)
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
        let mut messages: Vec<Message> = serde_json::from_value(messages).map_err(|error| {
            format!("`messages`: {error}; expected [{{\"role\": …, \"content\": …}}, …]")
        })?;
        let tools = match tools {
            Value::Null => Vec::new(),
            Value::Array(tools) => tools,
            _ => return Err("`tools` is no list; expected one of schemas".to_owned()),
        };
        if messages.is_empty() {
            return Err("there are no messages; expected one at least".to_owned());
        }
        let mut media = Vec::new();
        for (at, message) in messages.iter_mut().enumerate() {
            let known = ["system", "developer", "user", "assistant", "tool"];
            if !known.contains(&&*message.role) {
                return Err(format!(
                    "message {at}: the role is `{}`; expected {}",
                    message.role,
                    known.join(", ")
                ));
            }
            let Some(Said::Parts(parts)) = &mut message.content else {
                continue;
            };
            for part in parts {
                if let Part::Other(fields) = part {
                    let medium = medium_of(fields, folder);
                    let medium = medium.map_err(|problem| format!("message {at}: {problem}"))?;
                    *part = Part::medium(match medium.kind {
                        MediumKind::Picture => "image",
                        MediumKind::Sound => "audio",
                    });
                    media.push(medium);
                }
            }
        }
        Ok(Self {
            content: Content::Messages { messages, media },
            tools,
        })
    }
}

/// The medium that a part of a message names or holds.
fn medium_of(fields: &Map<String, Value>, folder: &Path) -> Result<Medium, String> {
    let kind = fields
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("(none)");
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let (medium, place) = match kind {
        "image" => (MediumKind::Picture, text(fields.get("image"))),
        "audio" => (MediumKind::Sound, text(fields.get("audio"))),
        "image_url" => {
            let url = fields.get("image_url");
            let url = text(url.and_then(|url| url.get("url"))).or(text(url));
            (MediumKind::Picture, url)
        }
        "input_audio" => {
            let data = fields
                .get("input_audio")
                .and_then(|audio| audio.get("data"));
            let data = text(data).map(|data| format!("data:audio;base64,{data}"));
            (MediumKind::Sound, data)
        }
        "video" | "video_url" => {
            return Err(
                "a part is a video, which is not decoded; give its frames as images".into(),
            );
        }
        kind => {
            return Err(format!(
                "a part is of type `{kind}`; expected text, image, audio, image_url or input_audio"
            ));
        }
    };
    let place = place.ok_or_else(|| format!("a part of type `{kind}` names no file"))?;
    if let Some(data) = place.strip_prefix("data:") {
        let (_, data) = data
            .split_once("base64,")
            .ok_or("a data URL is not base64")?;
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data)
            .map_err(|error| format!("a data URL: {error}"))?;
        return Ok(Medium::new(medium, bytes));
    }
    if place.contains("://") && !place.starts_with("file://") {
        return Err(format!(
            "`{place}` is on a network; expected a file or a data URL"
        ));
    }
    let file = place.strip_prefix("file://").unwrap_or(&place);
    Medium::read(medium, &folder.join(file)).map_err(|error| error.to_string())
}
