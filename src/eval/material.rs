//! What is read and asked: text files cut into documents, task files of one item a line.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::EvalError;
use crate::input::{read_file_text, without_mark};
use crate::text::{Message, Text};

/// A text or a file of tasks is held in memory.
const MOST_TEXT_BYTES: u64 = 1 << 30;

/// Stands between two documents of a file.
pub(super) const SEPARATOR: &str = "<|endoftext|>";

/// How files become documents and items.
#[derive(Clone, Copy, Debug)]
pub struct MaterialOptions {
    /// A longer document is read in pieces of so many tokens, at least 2; every piece counts as a document.
    pub max_tokens_per_document: usize,
    /// Of each text file, at most; none: all.
    pub documents: Option<usize>,
    /// Of each task file, at most; none: all.
    pub items: Option<usize>,
}

/// A text with a context of its own.
#[derive(Clone, Debug)]
pub struct Document {
    /// File and number.
    pub name: String,
    /// At least two: the first is only read, each later one is predicted.
    pub tokens: Vec<u32>,
}

/// A task's item.
#[derive(Clone, Debug)]
pub struct TaskItem {
    /// Which task it belongs to.
    pub task: String,
    /// File and line.
    pub name: String,
    /// The prompt as the chat template renders it.
    pub tokens: Vec<u32>,
    /// What is expected.
    pub answer: String,
}

/// A line of a task file; what else a line holds is of no interest here.
#[derive(Deserialize)]
struct TaskLine {
    task: String,
    prompt: String,
    answer: String,
}

/// Everything that is read and asked, in order.
#[derive(Clone, Debug, Default)]
pub struct Material {
    pub documents: Vec<Document>,
    pub items: Vec<TaskItem>,
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read or holds nothing, a line that is no item, or text that the tokenizer refuses.
    pub fn read(
        text: &Text,
        texts: &[PathBuf],
        tasks: &[PathBuf],
        reading: MaterialOptions,
    ) -> Result<Self, EvalError> {
        let mut material = Self::default();
        for path in texts {
            material
                .documents
                .extend(documents(text, path, &content(path)?, reading)?);
        }
        for path in tasks {
            material
                .items
                .extend(items(text, path, &content(path)?, reading)?);
        }
        Ok(material)
    }

    /// Tokens that are predicted.
    pub fn scored_tokens(&self) -> usize {
        self.documents
            .iter()
            .map(|document| document.tokens.len() - 1)
            .sum()
    }
}

pub(super) fn content(path: &Path) -> Result<String, EvalError> {
    let text = read_file_text(path, MOST_TEXT_BYTES).map_err(|error| EvalError::File {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(without_mark(&text).to_owned())
}

/// The file's own name: where it lies says nothing of its content.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn documents(
    text: &Text,
    path: &Path,
    content: &str,
    reading: MaterialOptions,
) -> Result<Vec<Document>, EvalError> {
    let most = reading.documents.unwrap_or(usize::MAX);
    let mut found: Vec<Document> = Vec::new();
    for document in content
        .split(SEPARATOR)
        .filter(|document| !document.trim().is_empty())
    {
        if found.len() >= most {
            break;
        }
        let tokens = text.encode_untrusted(document)?;
        // What is left over at an end and cannot be predicted from anything is no document.
        let pieces = tokens.chunks(reading.max_tokens_per_document);
        for piece in pieces.filter(|piece| piece.len() > 1) {
            found.push(Document {
                name: format!("{} {}", file_name(path), found.len() + 1),
                tokens: piece.to_vec(),
            });
        }
    }
    found.truncate(most);
    if found.is_empty() {
        return Err(EvalError::File {
            path: path.to_owned(),
            problem: "holds no text: expected documents of two tokens or more".to_owned(),
        });
    }
    Ok(found)
}

fn items(
    text: &Text,
    path: &Path,
    content: &str,
    reading: MaterialOptions,
) -> Result<Vec<TaskItem>, EvalError> {
    let mut found = Vec::new();
    for (index, line) in content.lines().enumerate() {
        if line.trim().is_empty() || found.len() >= reading.items.unwrap_or(usize::MAX) {
            continue;
        }
        let wrong = |problem: String| EvalError::Line {
            path: path.to_owned(),
            line: index + 1,
            problem,
        };
        let line: TaskLine = serde_json::from_str(line).map_err(|error| {
            wrong(format!(
                "{error}; expected an object with `task`, `prompt` and `answer`"
            ))
        })?;
        if line.answer.trim().is_empty() {
            return Err(wrong("the answer is empty: nothing could match it".into()));
        }
        let messages = [Message::new("user", line.prompt)];
        found.push(TaskItem {
            task: line.task,
            name: format!("{} {}", file_name(path), index + 1),
            tokens: text.prompt_tokens(&messages, "")?,
            answer: line.answer.trim().to_owned(),
        });
    }
    if found.is_empty() {
        return Err(EvalError::File {
            path: path.to_owned(),
            problem: "holds no items: expected lines of JSON with `task`, `prompt` and `answer`"
                .to_owned(),
        });
    }
    Ok(found)
}
