//! Re-hashing a whole store.

use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::assemble::Progress;
use super::journal::JOURNAL;
use super::record::StoreRecord;
use super::{Store, StoreError};
use crate::input::{MOST_MODEL_FILE_BYTES, open_file, read_file};

/// A file that is not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// File, relative to the store.
    pub file: String,
    /// What was found and expected.
    pub problem: String,
}

/// What re-hashing a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files that were read to their end.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Damaged or absent files, by name.
    pub damaged: Vec<Damage>,
    /// Whether an extraction into this store has not finished.
    pub unfinished: bool,
}

impl Store {
    /// Re-hashes every file of the store against the manifest, which was checked when the store was opened.
    ///
    /// # Errors
    /// Only if the store's folder itself cannot be used; unreadable files are reported as damage.
    pub fn verify(&self, progress: Progress) -> Result<VerifyReport, StoreError> {
        let records: Vec<&StoreRecord> = self.manifest().records.values().collect();
        let (next, damaged) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let note = |file: &str, problem: String| {
            let damage = Damage {
                file: file.to_owned(),
                problem,
            };
            damaged
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .push(damage);
        };
        super::on_threads(super::io_threads(), || {
            let mut buffer = vec![0; 1 << 20];
            while let Some(record) = records.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(problem) = check_record(self.folder(), record, &mut buffer, progress) {
                    note(&record.file, problem);
                }
            }
        });
        for copied in &self.manifest().files {
            match read_file(&self.folder().join(&copied.file), MOST_MODEL_FILE_BYTES) {
                Err(error) => note(&copied.file, error.to_string()),
                Ok(bytes) if blake3::hash(&bytes).to_hex().as_str() != copied.blake3 => {
                    note(&copied.file, "its hash is not the recorded one".to_owned());
                }
                Ok(_) => {}
            }
        }
        let mut damaged = damaged
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        damaged.sort();
        let copied = &self.manifest().files;
        Ok(VerifyReport {
            files: records.len() + copied.len(),
            bytes: records.iter().map(|record| record.file_bytes).sum::<u64>()
                + copied.iter().map(|file| file.bytes).sum::<u64>(),
            damaged,
            unfinished: self.folder().join(JOURNAL).exists(),
        })
    }
}

fn check_record(
    store: &Path,
    record: &StoreRecord,
    buffer: &mut [u8],
    progress: Progress,
) -> Result<(), String> {
    let mut file = open_file(&store.join(&record.file)).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length != record.file_bytes {
        return Err(format!(
            "has {length} bytes, recorded {}",
            record.file_bytes
        ));
    }
    let sections = [
        ("header", record.offset, &record.header_blake3),
        ("data", record.bytes, &record.data_blake3),
    ];
    for (section, bytes, recorded) in sections {
        let mut hasher = blake3::Hasher::new();
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(buffer.len() as u64) as usize;
            file.read_exact(&mut buffer[..piece])
                .map_err(|error| error.to_string())?;
            hasher.update(&buffer[..piece]);
            progress(piece as u64);
            left -= piece as u64;
        }
        if hasher.finalize().to_hex().as_str() != recorded {
            return Err(format!("the hash of its {section} is not the recorded one"));
        }
    }
    Ok(())
}
