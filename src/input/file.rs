//! Files that are read whole: never a device, never more than they should hold.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serializer;

/// Most bytes of a file that stands beside a model's weights: configuration, index, tokenizer, manifest. The released tokenizer has
/// 11 MB.
pub const MOST_MODEL_FILE_BYTES: u64 = 256 << 20;

/// Why a file cannot be read; whoever shows it names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a device, a pipe.
    #[error("is {found}, expected a file")]
    NotAFile {
        /// What it is.
        found: &'static str,
    },
    /// More than such a file holds.
    #[error("is larger than {most_bytes} bytes, the most that such a file may have")]
    TooLarge {
        /// Bound, bytes.
        most_bytes: u64,
    },
    /// Not text.
    #[error("is not UTF-8 text (byte {at})")]
    NotText {
        /// The first byte that is part of no character.
        at: usize,
    },
}

impl FileError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// As an error of the system, for places that know no other.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
        }
    }
}

/// Opens a file and nothing else: opening a pipe would wait for its writer, and a device need not end.
///
/// # Errors
/// When it is no regular file, or cannot be opened.
pub fn open_file(path: &Path) -> Result<File, FileError> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(File::open(path)?);
    }
    let found = if kind.is_dir() {
        "a folder"
    } else {
        "a device, a pipe or a socket"
    };
    Err(FileError::NotAFile { found })
}

/// The bytes of a file.
///
/// # Errors
/// When it is no regular file, cannot be read, or has more than `most_bytes`.
pub fn read_file(path: &Path, most_bytes: u64) -> Result<Vec<u8>, FileError> {
    let file = open_file(path)?;
    let stated = file.metadata()?.len();
    if stated > most_bytes {
        return Err(FileError::TooLarge { most_bytes });
    }
    // A file of the system's may state no length and hold something; one that grows meanwhile is not followed.
    let mut bytes = Vec::with_capacity(stated as usize);
    file.take(most_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(FileError::TooLarge { most_bytes });
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// As [`read_file`], and when it is not UTF-8.
pub fn read_file_text(path: &Path, most_bytes: u64) -> Result<String, FileError> {
    String::from_utf8(read_file(path, most_bytes)?).map_err(|error| FileError::NotText {
        at: error.utf8_error().valid_up_to(),
    })
}

/// That `path` can be given to a new file: it is free, or an ordinary file that the new one replaces. A device or a pipe must not
/// give way to a file.
///
/// # Errors
/// When something else has that name.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a folder, a device or a pipe; name a file",
        )),
        // A folder that is not there is said by whoever writes in it.
        _ => Ok(()),
    }
}

/// A path in JSON; what is not UTF-8 in it is replaced.
///
/// # Errors
/// The serialiser's.
pub fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// As [`path_as_text`], where there may be none.
///
/// # Errors
/// The serialiser's.
pub fn maybe_path_as_text<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_some(&path.to_string_lossy()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_only_so_much_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("five");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read_file(&path, 5).expect("five bytes"), b"12345");
        let said = |error: FileError| error.to_string();
        assert!(said(read_file(&path, 4).expect_err("one too many")).contains("4 bytes"));
        assert!(said(read_file(folder.path(), 5).expect_err("a folder")).contains("a folder"));
        let device = Path::new("/dev/zero");
        assert!(said(read_file(device, 5).expect_err("a device")).contains("a device"));
        assert!(
            read_file(&folder.path().join("none"), 5)
                .expect_err("none")
                .is_missing()
        );
        std::fs::write(&path, [b'a', 0xff]).expect("written");
        assert!(said(read_file_text(&path, 5).expect_err("no text")).contains("byte 1"));
        // A file of the system's that states no length.
        assert!(
            !read_file(Path::new("/proc/self/status"), 1 << 20)
                .expect("read")
                .is_empty()
        );
    }
}
