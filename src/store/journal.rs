//! The journal of an extraction under way: one finished record a line, each line with its own checksum.
//!
//! A process may be killed between any two bytes. A line that is torn or damaged is as if it had not been written: its
//! record is extracted again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::manifest::check_record;
use super::record::StoreRecord;

/// The file name.
pub(crate) const JOURNAL: &str = "extraction_manifest.journal";

pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

/// The fingerprint of the model being extracted, if the line that says so is sound, and its finished records.
pub(crate) struct Recovered {
    pub(crate) fingerprint: Option<String>,
    pub(crate) records: Vec<StoreRecord>,
}

impl Journal {
    /// Opens the journal for appending. If it was just begun, or its last line is torn, a new line is begun first.
    pub(crate) fn open(store: &Path, fingerprint: &str) -> Result<Self, StoreError> {
        let path = store.join(JOURNAL);
        let before = fs::read(&path).unwrap_or_default();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        let mut journal = Self { file, path };
        if before.last().is_some_and(|&byte| byte != b'\n') {
            journal.append_bytes(b"\n")?;
        }
        if parse(&before).fingerprint.is_none() {
            journal.append_line(&format!("{{\"fingerprint\":\"{fingerprint}\"}}"))?;
        }
        Ok(journal)
    }

    pub(crate) fn append(&mut self, record: &StoreRecord) -> Result<(), StoreError> {
        let line = serde_json::to_string(record).map_err(|error| StoreError::Manifest {
            path: self.path.clone(),
            problem: error.to_string(),
        })?;
        self.append_line(&line)
    }

    fn append_line(&mut self, line: &str) -> Result<(), StoreError> {
        // One write call: the line is there whole or torn, never interleaved.
        self.append_bytes(format!("{:08x} {line}\n", crc32fast::hash(line.as_bytes())).as_bytes())
    }

    fn append_bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(StoreError::io("write", &self.path))
    }

    /// Removes the journal; its records are in the manifest by now.
    pub(crate) fn remove(self) -> Result<(), StoreError> {
        fs::remove_file(&self.path).map_err(StoreError::io("remove", &self.path))
    }
}

/// What an earlier run had finished.
pub(crate) fn recover(store: &Path) -> Result<Option<Recovered>, StoreError> {
    let path = store.join(JOURNAL);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(parse(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

fn parse(bytes: &[u8]) -> Recovered {
    let mut recovered = Recovered {
        fingerprint: None,
        records: Vec::new(),
    };
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some(json) = sound(line) else { continue };
        if let Ok(record) = serde_json::from_slice::<StoreRecord>(json) {
            if check_record(&record).is_ok() {
                recovered.records.push(record);
            }
        } else if let Ok(head) = serde_json::from_slice::<serde_json::Value>(json) {
            let fingerprint = head.get("fingerprint").and_then(|value| value.as_str());
            recovered.fingerprint = fingerprint.map(str::to_owned).or(recovered.fingerprint);
        }
    }
    recovered
}

/// The JSON of a line whose checksum is right.
fn sound(line: &[u8]) -> Option<&[u8]> {
    let (crc, rest) = line.split_at_checked(8)?;
    let json = rest.strip_prefix(b" ")?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    (crc32fast::hash(json) == crc).then_some(json)
}
