//! The log: one write an outcome, appended, each entry with its own checksum. See `docs/ledger.md`.
//!
//! What was written before a process ends is in the system's hands, so ending a process loses no entry. Only the last one
//! can be torn, and then the call that wrote it had not returned.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use sage_actors::protocol::Outcome;

use super::tables::Epoch;
use super::{LedgerError, VERSION, log_path};
use crate::input::read_file;

/// It is read whole; an epoch ends long before.
const MOST_LOG_BYTES: u64 = 4 << 30;

const MAGIC: [u8; 8] = *b"sagelog\n";
/// Magic, version, stamp, CRC-32 of these.
const HEAD_BYTES: usize = 8 + 4 + 16 + 4;
/// Length of the outcome, its number, CRC-32 of stamp, length, number and outcome.
const ENTRY_BYTES: usize = 4 + 8 + 4;

/// A log that is being written.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    stamp: [u8; 16],
    next: u64,
}

/// What a log added to its epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    pub outcomes: u64,
    pub torn_bytes: u64,
}

/// Removes a log, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), LedgerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(LedgerError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

impl Log {
    /// An empty log that goes on from `epoch`, in the place of what the log was.
    pub fn begin(ledger: &Path, epoch: &Epoch) -> Result<Self, LedgerError> {
        let path = log_path(ledger);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = options
            .open(&path)
            .map_err(LedgerError::io("open", &path))?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend(epoch.stamp);
        head.extend(crc32fast::hash(&head).to_le_bytes());
        file.write_all(&head)
            .map_err(LedgerError::io("write", &path))?;
        Ok(Self {
            file,
            path,
            stamp: epoch.stamp,
            next: epoch.outcomes,
        })
    }

    /// Appends an outcome.
    pub fn append(&mut self, outcome: &Outcome) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        };
        let encoded = postcard::to_stdvec(outcome)
            .map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        let length = u32::try_from(encoded.len())
            .map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        let mut entry = Vec::with_capacity(ENTRY_BYTES + encoded.len());
        entry.extend(length.to_le_bytes());
        entry.extend(self.next.to_le_bytes());
        entry.extend(checksum(&self.stamp, length, self.next, &encoded).to_le_bytes());
        entry.extend(encoded);
        // One call: whole or torn, never interleaved.
        self.file.write_all(&entry).map_err(failed)?;
        self.next += 1;
        Ok(())
    }
}

fn checksum(stamp: &[u8; 16], length: u32, number: u64, outcome: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(stamp);
    hasher.update(&length.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(outcome);
    hasher.finalize()
}

/// Hands every outcome that was logged since `epoch` to `learn`.
pub(super) fn replay(
    ledger: &Path,
    epoch: &Epoch,
    mut learn: impl FnMut(&Outcome) -> Result<(), String>,
) -> Result<Tail, LedgerError> {
    let path = log_path(ledger);
    let bytes = match read_file(&path, MOST_LOG_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return Ok(Tail::default()),
        Err(error) => return Err(LedgerError::io("read", &path)(error.into_io())),
    };
    let damaged = |offset: usize, problem: String| LedgerError::DamagedLog {
        path: path.clone(),
        offset: offset as u64,
        problem,
    };
    let Some((head, _)) = bytes.split_at_checked(HEAD_BYTES) else {
        // It was being begun: nothing has been logged.
        return Ok(Tail {
            outcomes: 0,
            torn_bytes: bytes.len() as u64,
        });
    };
    let stamp = stamp_of(&path, head)?;
    if stamp == epoch.before {
        // The epoch was committed, and then the process ended.
        return Ok(Tail::default());
    }
    if stamp != epoch.stamp {
        return Err(LedgerError::foreign_log(ledger));
    }
    let (mut at, mut next) = (HEAD_BYTES, epoch.outcomes);
    while at < bytes.len() {
        let Some((number, encoded)) = entry(&bytes[at..], &stamp) else {
            let whole = (at + 1..bytes.len())
                .filter_map(|later| entry(&bytes[later..], &stamp))
                .any(|(number, _)| number > next);
            if whole {
                return Err(damaged(
                    at,
                    "an entry is damaged and whole ones follow".into(),
                ));
            }
            break;
        };
        if number != next {
            let problem = format!("entry {number} where {next} was expected");
            return Err(damaged(at, problem));
        }
        let outcome = postcard::from_bytes(encoded)
            .map_err(|error| damaged(at, format!("an outcome that cannot be: {error}")))?;
        learn(&outcome).map_err(|problem| damaged(at, problem))?;
        at += ENTRY_BYTES + encoded.len();
        next += 1;
    }
    Ok(Tail {
        outcomes: next - epoch.outcomes,
        torn_bytes: (bytes.len() - at) as u64,
    })
}

/// Which epoch a log goes on from.
fn stamp_of(path: &Path, head: &[u8]) -> Result<[u8; 16], LedgerError> {
    let damaged = |problem: &str| LedgerError::DamagedLog {
        path: path.to_owned(),
        offset: 0,
        problem: problem.to_owned(),
    };
    let (fields, crc) = head.split_at(HEAD_BYTES - 4);
    if !fields.starts_with(&MAGIC) {
        return Err(damaged("it does not begin as a log of outcomes"));
    }
    if crc32fast::hash(fields).to_le_bytes() != crc {
        return Err(damaged("its head is not what was written"));
    }
    let (_, rest) = fields.split_at(MAGIC.len());
    let (version, stamp) = rest.split_at(4);
    let version = version.try_into().map(u32::from_le_bytes);
    match (version, stamp.try_into()) {
        (Ok(VERSION), Ok(stamp)) => Ok(stamp),
        (Ok(found), Ok(_)) => Err(LedgerError::Version {
            path: path.to_owned(),
            found,
        }),
        _ => Err(damaged("its head is too short")),
    }
}

/// Number and outcome of a whole entry at the beginning of `bytes`.
fn entry<'a>(bytes: &'a [u8], stamp: &[u8; 16]) -> Option<(u64, &'a [u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (length, number) = (u32::from_le_bytes(*length), u64::from_le_bytes(*number));
    let encoded = rest.get(..usize::try_from(length).ok()?)?;
    (checksum(stamp, length, number, encoded).to_le_bytes() == *crc).then_some((number, encoded))
}
