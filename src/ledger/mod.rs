//! The trust ledger on disk: epochs in an embedded database, and beside it a log of the outcomes since the last of them.
//!
//! An epoch is one durable commit of everything that the ledger knows; an outcome is one write to the log. Learning is a
//! function of both, so opening reads the epoch and learns the log again. `docs/ledger.md` describes every table, key and
//! byte, and what survives what.

mod about;
mod error;
mod files;
pub(crate) mod json;
mod log;
mod quiet;
mod tables;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError};
use rustix::fs::FlockOperation;
use sage_actors::protocol::{Outcome, Tick};
use sage_actors::trust::Ledger;
use sage_actors::trust::state::LedgerState;
use sage_actors::trust::store::{LedgerStore, StoreFailure};

pub use about::LedgerSummary;
pub use error::LedgerError;
pub use files::{VERSION, log_path};
use log::Log;
use tables::Epoch;

use crate::input::{check_replaceable, open_file};

/// Memory of the database's cache; the engine's memory plan counts it.
pub const CACHE_BYTES: usize = 512 << 10;

/// How every database of this kind begins.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// An open ledger. No other process opens it meanwhile.
pub struct LedgerFile {
    path: PathBuf,
    db: Database,
    about: LedgerSummary,
    epoch: Epoch,
    log: Option<Log>,
    torn_bytes: u64,
    broken: bool,
}

impl LedgerFile {
    /// Makes a ledger; it has its name only once it is whole and on disk.
    ///
    /// # Errors
    /// When there is such a file, or a log that was left of one, or it cannot be written.
    pub fn create(
        path: &Path,
        about: &LedgerSummary,
        state: &LedgerState,
    ) -> Result<(), LedgerError> {
        let log = log_path(path);
        if log.exists() {
            return Err(LedgerError::foreign_log(path));
        }
        let scratch = written_beside(path, about, state)?;
        scratch.persist_noclobber(path).map_err(|error| {
            if error.error.kind() == std::io::ErrorKind::AlreadyExists {
                LedgerError::Exists { path: path.into() }
            } else {
                LedgerError::io("create", path)(error.error)
            }
        })?;
        sync_folder_of(path)
    }

    /// Makes a ledger in the place of another, unless a process uses that.
    ///
    /// # Errors
    /// When it is in use, or cannot be written.
    pub fn replace(
        path: &Path,
        about: &LedgerSummary,
        state: &LedgerState,
    ) -> Result<(), LedgerError> {
        let replaced = match open_file(path) {
            Ok(file) => Some(file),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(LedgerError::io("open", path)(error.into_io())),
        };
        if let Some(file) = &replaced {
            // Held until the other has taken its place.
            rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| LedgerError::Busy { path: path.into() })?;
        }
        let scratch = written_beside(path, about, state)?;
        scratch
            .persist(path)
            .map_err(|error| LedgerError::io("replace", path)(error.error))?;
        sync_folder_of(path)?;
        log::remove(&log_path(path))
    }

    /// Opens a ledger as it is: its last epoch, and what was logged since. Changes nothing that it says.
    ///
    /// # Errors
    /// When it is not there, in use, of another version, or damaged.
    pub fn open(path: &Path) -> Result<(Self, Ledger), LedgerError> {
        check_magic(path)?;
        let (db, contents) = open_database(path)?;
        let mut ledger = Ledger::restore(contents.state)
            .map_err(|wrong| LedgerError::damaged(path, wrong.to_string()))?;
        let mut tick = contents.epoch.tick;
        let tail = log::replay(path, &contents.epoch, |outcome| {
            tick = tick.max(end_of(outcome));
            ledger.learn(outcome).map_err(|error| error.to_string())
        })?;
        let file = Self {
            path: path.to_owned(),
            db,
            about: LedgerSummary {
                fingerprint: contents.fingerprint,
                outcomes: contents.epoch.outcomes + tail.outcomes,
                tick,
            },
            epoch: contents.epoch,
            log: None,
            torn_bytes: tail.torn_bytes,
            broken: false,
        };
        Ok((file, ledger))
    }

    /// Opens the ledger of a model to go on from it, or makes it; `fresh` is what a ledger of this model knows at first.
    ///
    /// # Errors
    /// As [`LedgerFile::open`], and when it is another model's.
    pub fn open_for(
        path: &Path,
        fingerprint: &str,
        fresh: &LedgerState,
    ) -> Result<(Self, Ledger), LedgerError> {
        if !path.exists() {
            let about = LedgerSummary {
                fingerprint: fingerprint.to_owned(),
                outcomes: 0,
                tick: 0,
            };
            match Self::create(path, &about, fresh) {
                // Another process was first.
                Ok(()) | Err(LedgerError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let (mut file, ledger) = Self::open(path)?;
        let state = ledger.state();
        check_model(path, &file.about.fingerprint, &state, fingerprint, fresh)?;
        if file.about.outcomes > file.epoch.outcomes {
            file.end_epoch(&state)?;
        }
        file.log = Some(Log::begin(path, &file.epoch)?);
        Ok((file, ledger))
    }

    /// What it has seen, and of which model.
    pub fn about(&self) -> &LedgerSummary {
        &self.about
    }

    /// Epochs that were committed.
    pub fn epochs(&self) -> u64 {
        self.epoch.number
    }

    /// Bytes at the end of the log that were not whole: what was being written when the process or the machine ended.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    fn end_epoch(&mut self, state: &LedgerState) -> Result<(), LedgerError> {
        let epoch = self.epoch.next(&self.about);
        tables::write(&self.db, &self.path, &epoch, &self.about.fingerprint, state)?;
        self.epoch = epoch;
        Ok(())
    }

    /// After one failure nothing is trusted: what the log holds by then is what the next opening finds.
    fn unless_broken<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, LedgerError>,
    ) -> Result<T, StoreFailure> {
        if self.broken {
            let path = self.path.clone();
            return Err(LedgerError::Broken { path }.into());
        }
        let done = act(self);
        self.broken = done.is_err();
        Ok(done?)
    }
}

impl LedgerStore for LedgerFile {
    fn log(&mut self, outcome: &Outcome) -> Result<(), StoreFailure> {
        self.unless_broken(|file| {
            file.log
                .as_mut()
                .ok_or_else(closed(&file.path))?
                .append(outcome)?;
            file.about.outcomes += 1;
            file.about.tick = file.about.tick.max(end_of(outcome));
            Ok(())
        })
    }

    fn commit(&mut self, state: &LedgerState) -> Result<(), StoreFailure> {
        self.unless_broken(|file| {
            file.log.as_ref().ok_or_else(closed(&file.path))?;
            file.end_epoch(state)?;
            file.log = Some(Log::begin(&file.path, &file.epoch)?);
            Ok(())
        })
    }

    fn close(&mut self, state: &LedgerState) -> Result<(), StoreFailure> {
        self.unless_broken(|file| {
            file.log.take().ok_or_else(closed(&file.path))?;
            if file.about.outcomes > file.epoch.outcomes {
                file.end_epoch(state)?;
            }
            log::remove(&log_path(&file.path))
        })
    }
}

/// That a ledger is of this model, and of its shape.
///
/// # Errors
/// Names both.
pub fn check_model(
    path: &Path,
    found: &str,
    state: &LedgerState,
    fingerprint: &str,
    fresh: &LedgerState,
) -> Result<(), LedgerError> {
    if found != fingerprint {
        return Err(LedgerError::OtherModel {
            path: path.to_owned(),
            found: found.to_owned(),
            expected: fingerprint.to_owned(),
        });
    }
    if !state.is_of(fresh) {
        return Err(LedgerError::OtherShape {
            path: path.to_owned(),
            found: state.shape(),
            expected: fresh.shape(),
        });
    }
    Ok(())
}

/// What was opened to be looked at, or was closed, keeps nothing: its log may hold what no epoch does.
fn closed(path: &Path) -> impl FnOnce() -> LedgerError {
    let path = path.to_owned();
    || LedgerError::Closed { path }
}

fn end_of(outcome: &Outcome) -> Tick {
    outcome.tick.saturating_add(outcome.ticks.into())
}

/// A file in the same folder, to be given the name once it is whole.
fn scratch_beside(path: &Path) -> Result<tempfile::NamedTempFile, LedgerError> {
    check_replaceable(path).map_err(LedgerError::io("write", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    tempfile::Builder::new()
        .prefix(&format!(".{name}.partial-"))
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder_of(path))
        .map_err(LedgerError::io("create", path))
}

/// A whole ledger under a name of its own, on disk.
fn written_beside(
    path: &Path,
    about: &LedgerSummary,
    state: &LedgerState,
) -> Result<tempfile::NamedTempFile, LedgerError> {
    let scratch = scratch_beside(path)?;
    let file = scratch.reopen().map_err(LedgerError::io("create", path))?;
    let db = FileBackend::new(file)
        .and_then(|file| builder().create_with_backend(file))
        .map_err(|error| LedgerError::database("create", path, error))?;
    tables::write(&db, path, &Epoch::first(about), &about.fingerprint, state)?;
    drop(db);
    Ok(scratch)
}

/// What is no database at all is said to be so before anything tries to repair it.
fn check_magic(path: &Path) -> Result<(), LedgerError> {
    let file = open_file(path).map_err(|error| LedgerError::io("open", path)(error.into_io()))?;
    let mut magic = Vec::new();
    let read = file.take(MAGIC.len() as u64).read_to_end(&mut magic);
    read.map_err(LedgerError::io("read", path))?;
    if magic == MAGIC {
        return Ok(());
    }
    Err(LedgerError::NotALedger {
        path: path.to_owned(),
        problem: "it does not begin as one".to_owned(),
    })
}

/// The database, with every page that is in use checked against its checksum, and what it holds. Where the newest commit is
/// not sound, opening goes back to the one before; the log tells whether it may.
fn open_database(path: &Path) -> Result<(Database, tables::Contents), LedgerError> {
    let open = || {
        let db = builder()
            .open(path)
            .map_err(|error| LedgerError::database("open", path, error))?;
        let contents = tables::read(&db, path)?;
        Ok((db, contents))
    };
    quiet::catching(open).unwrap_or_else(|| {
        Err(LedgerError::damaged(
            path,
            "its pages contradict one another",
        ))
    })
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    // Without the check a file that somebody altered is trusted, and the database asserts what it says.
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes the name durable.
fn sync_folder_of(path: &Path) -> Result<(), LedgerError> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(LedgerError::io("sync", folder))
}

impl From<DatabaseError> for error::Cause {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Busy,
            error => redb::Error::from(error).into(),
        }
    }
}
