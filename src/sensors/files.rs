//! Reading the files that a machine shows itself in: small, bounded, never trusted.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

/// The largest file that is read: a list of mounts can be long.
const MOST_BYTES: u64 = 4 << 20;

/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 1024;

/// Letters of a file that a message repeats.
const SHOWN_CHARS: usize = 40;

/// A file that is there and makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct Garbled {
    /// Which.
    #[serde(serialize_with = "crate::input::path_as_text")]
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

impl Garbled {
    /// A file whose text is not what it should be.
    pub fn text(file: &Path, text: &str, expected: &str) -> Self {
        let shown: String = text.trim().chars().take(SHOWN_CHARS).collect();
        Self {
            file: file.to_owned(),
            reason: format!("expected {expected}, found {shown:?}"),
        }
    }
}

/// The folder that `/proc` and `/sys` are read below.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// `/` on a machine.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Where an absolute path lies; one that would lead out of the root leads to the root.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let parts = absolute.as_ref().components();
        let parts = parts.filter(|part| matches!(part, Component::Normal(_)));
        self.0.join(parts.collect::<PathBuf>())
    }

    /// The names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, absolute: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(absolute)) else {
            return Vec::new();
        };
        let names = entries.flatten().take(MOST_ENTRIES);
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// The text of a file; none if there is no such file.
pub fn text(path: &Path) -> Result<Option<String>, Garbled> {
    let garbled = |reason: String| Garbled {
        file: path.to_owned(),
        reason,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(error.kind()) => return Ok(None),
        Err(error) => return Err(garbled(error.to_string())),
    };
    let mut bytes = Vec::new();
    match file.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
        // Withdrawn between opening and reading: a battery that was taken out.
        Err(error) if error.raw_os_error() == Some(NO_DEVICE) => return Ok(None),
        Err(error) => return Err(garbled(error.to_string())),
        Ok(_) => {}
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(garbled(format!("is larger than {} MiB", MOST_BYTES >> 20)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(garbled("is not UTF-8 text".to_owned())),
    }
}

/// `ENODEV`.
const NO_DEVICE: i32 = 19;

fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The one number in a file.
pub fn number<T: FromStr>(path: &Path, expected: &str) -> Result<Option<T>, Garbled> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Garbled::text(path, &text, expected)),
    }
}

/// The number that stands behind `name` on a line of its own.
pub fn field(text: &str, name: &str) -> Option<u64> {
    // `oom_kill` is not `oom_kill_disable`.
    let mut lines = text
        .lines()
        .map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.find_map(|rest| rest?.trim().parse().ok())
}
