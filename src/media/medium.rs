//! Files of sound and pictures as they arrive, known by their contents.

use std::fs::{FileType, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// A file larger than this is refused before it is read.
pub const MOST_FILE_BYTES: u64 = 64 << 20;

/// What a file is to be perceived as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediumKind {
    /// WAV or FLAC.
    Sound,
    /// PNG or JPEG.
    Picture,
}

impl MediumKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Picture => "picture",
        }
    }
}

/// Why a file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is no file that ends.
    #[error("{path} is {what}, expected a regular file: write what it should hold to a file first")]
    NotAFile {
        /// Which.
        path: std::path::PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is too large.
    #[error("{path} has {bytes} bytes; expected at most {MOST_FILE_BYTES}: cut or shrink it")]
    TooLarge {
        /// Which.
        path: std::path::PathBuf,
        /// Length in bytes.
        bytes: u64,
    },
}

/// A file's contents. Two are equal when their contents are; written down, it is its kind, its size and its hash alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Medium {
    /// What it is to be perceived as.
    pub kind: MediumKind,
    /// BLAKE3 of the contents, 64 hexadecimal digits.
    pub blake3: String,
    /// Bytes of the contents.
    pub len_bytes: u64,
    /// The contents; empty in one that was read back from a recording, until they are found.
    #[serde(skip)]
    bytes: Arc<Vec<u8>>,
}

impl PartialEq for Medium {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.blake3) == (other.kind, &other.blake3)
    }
}

impl Medium {
    /// Of the contents of a file.
    pub fn new(kind: MediumKind, bytes: impl Into<Vec<u8>>) -> Self {
        // A vector keeps its place in memory: the contents are held once, from the moment they are read.
        let bytes = Arc::new(bytes.into());
        Self {
            kind,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            len_bytes: bytes.len() as u64,
            bytes,
        }
    }

    /// A sound file (WAV or FLAC) by its bytes.
    pub fn sound(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(MediumKind::Sound, bytes)
    }

    /// A picture file (PNG or JPEG) by its bytes.
    pub fn picture(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(MediumKind::Picture, bytes)
    }

    /// Reads a regular file.
    ///
    /// # Errors
    /// When it cannot be read, is a folder, a pipe or a device, or is larger than [`MOST_FILE_BYTES`].
    pub fn read(kind: MediumKind, path: &Path) -> Result<Self, MediumError> {
        let unreadable = |source| MediumError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let too_large = |bytes| MediumError::TooLarge {
            path: path.to_owned(),
            bytes,
        };
        // Asked before it is opened: opening a pipe waits for somebody to write.
        let about = std::fs::metadata(path).map_err(unreadable)?;
        if !about.is_file() {
            return Err(MediumError::NotAFile {
                path: path.to_owned(),
                what: name_of(about.file_type()),
            });
        }
        if about.len() > MOST_FILE_BYTES {
            return Err(too_large(about.len()));
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)
            .map_err(unreadable)?;
        let mut bytes = Vec::with_capacity(about.len() as usize);
        // It may have grown since, and files of the system state no size.
        let mut some = file.take(MOST_FILE_BYTES + 1);
        some.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MOST_FILE_BYTES {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Self::new(kind, bytes))
    }

    /// Contents of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the contents are there.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.len_bytes
    }

    /// Puts the contents in their place; whether they are the right ones.
    pub fn fill(&mut self, bytes: impl Into<Vec<u8>>) -> bool {
        let bytes = Arc::new(bytes.into());
        let right = blake3::hash(&bytes).to_hex().as_str() == self.blake3;
        if right {
            self.bytes = bytes;
        }
        right
    }
}

fn name_of(file_type: FileType) -> &'static str {
    match file_type {
        _ if file_type.is_dir() => "a folder",
        _ if file_type.is_fifo() => "a pipe",
        _ if file_type.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_down_it_is_its_hash_and_only_its_own_contents_fill_it() {
        let sound = Medium::sound(*b"abc");
        let text = serde_json::to_string(&sound).unwrap();
        assert!(!text.contains("bytes\":["), "{text}");
        let mut back: Medium = serde_json::from_str(&text).unwrap();
        assert_eq!(back, sound);
        assert!(!back.is_whole());
        assert!(!back.fill(*b"abd") && !back.is_whole());
        assert!(back.fill(*b"abc") && back.is_whole());
        assert_ne!(back, Medium::picture(*b"abc"));
    }
}
