//! Messages of a conversation, as OpenAI's API and chat templates have them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: Cow<'static, str>,
    /// What was said; none where an assistant only calls tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<MessageContent>,
    /// What an assistant thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls of tools, as OpenAI's API has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Json>>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who spoke, or which tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whatever else a template may know.
    #[serde(flatten)]
    pub other: Map<String, Json>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MessageContent {
    /// Text alone.
    Text(String),
    /// Texts and media in their order.
    Parts(Vec<MessagePart>),
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MessagePart {
    /// `{"type": "text", "text": …}`.
    Text {
        /// Always `text`.
        #[serde(rename = "type")]
        kind: TextKind,
        /// What was said.
        text: String,
    },
    /// A medium, as `{"type": "image"}`, or whatever a template may know.
    Other(Map<String, Json>),
}

/// The type of a part that is text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// `text`.
    #[default]
    Text,
}

impl MessagePart {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text {
            kind: TextKind::Text,
            text: text.into(),
        }
    }

    /// A medium: `image`, `audio` or `video`.
    pub fn medium(kind: &str) -> Self {
        Self::Other(Map::from_iter([("type".to_owned(), Json::from(kind))]))
    }
}

impl From<String> for MessageContent {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for MessageContent {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<MessagePart>> for MessageContent {
    fn from(parts: Vec<MessagePart>) -> Self {
        Self::Parts(parts)
    }
}

impl Message {
    /// What `role` said.
    pub fn new(role: impl Into<Cow<'static, str>>, content: impl Into<MessageContent>) -> Self {
        Self {
            role: role.into(),
            content: Some(content.into()),
            ..Self::default()
        }
    }

    /// Its texts, one after the other; empty where it has none.
    pub fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(MessageContent::Text(text)) => text.clone(),
            Some(MessageContent::Parts(parts)) => {
                let texts = parts.iter().filter_map(|part| match part {
                    MessagePart::Text { text, .. } => Some(text.as_str()),
                    MessagePart::Other(_) => None,
                });
                texts.collect()
            }
        }
    }

    /// As a template sees it. A key without a value is left out, and thoughts are there under every name that templates know,
    /// as transformers does it.
    pub(super) fn to_json(&self) -> Json {
        let Ok(Json::Object(mut fields)) = serde_json::to_value(self) else {
            return Json::Null;
        };
        fields.retain(|_, value| !value.is_null());
        let names = ["reasoning_content", "thinking", "reasoning"];
        let thoughts = names.iter().find_map(|name| fields.get(*name).cloned());
        if let Some(thoughts) = thoughts {
            fields.entry("thinking").or_insert(thoughts.clone());
            fields.insert("reasoning_content".to_owned(), thoughts);
        }
        Json::Object(fields)
    }
}
