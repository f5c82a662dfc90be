//! Why a ledger cannot be written, opened or read.

use crate::input::{Attributed, Fault};
use std::io;
use std::path::{Path, PathBuf};

use super::{VERSION, log_path};

/// Why a ledger cannot be written, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is no trust ledger: {problem}", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// How that is known.
        problem: String,
    },
    /// Another version.
    #[error(
        "{} is a trust ledger of version {found}; this program knows version {VERSION}\n  hint: use the program that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// What was learned of one model says nothing of another.
    #[error(
        "{} is the trust ledger of model {found}, not of {expected}\n  hint: give every model a ledger of its own",
        path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// Fingerprint in the ledger.
        found: String,
        /// Fingerprint of the model.
        expected: String,
    },
    /// The fingerprints agree and the shapes do not.
    #[error("{} is of a {found}; the model is a {expected}", path.display())]
    OtherShape {
        /// The file.
        path: PathBuf,
        /// Shape in the ledger.
        found: String,
        /// Shape of the model.
        expected: String,
    },
    /// There is one writer.
    #[error("{} is in use by another process; wait for it to end", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// What the file says cannot be.
    #[error(
        "{} is damaged: {problem}\n  hint: put a copy in its place, or remove it (and {}, if it is there) to begin anew",
        path.display(), log_path(path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The log is damaged before its end.
    #[error(
        "{} is damaged at byte {offset}: {problem}\n  hint: put a copy in its place, or remove it: the ledger is as of its last epoch then",
        path.display()
    )]
    DamagedLog {
        /// The log.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A log that was left of another ledger, or of the same at another time.
    #[error(
        "{} does not go on from {}\n  hint: put back the ledger that it belongs to, or remove the log: what it holds is lost then",
        log.display(), path.display()
    )]
    ForeignLog {
        /// The log.
        log: PathBuf,
        /// The ledger beside it.
        path: PathBuf,
    },
    /// Nothing is overwritten unasked.
    #[error("{} exists\n  hint: --force puts the other in its place", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An export that cannot be imported.
    #[error("{}: {problem}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// The database could not do it.
    #[error("cannot {action} {}: {source}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// It was opened to be looked at, or was closed.
    #[error("{} is not open to be written", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// A write failed before.
    #[error("{}: nothing more is kept after a write that failed", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
}

/// What an error of the database comes to.
pub(super) enum Cause {
    Busy,
    Damaged(String),
    Io(io::Error),
    Other(Box<redb::Error>),
}

impl From<redb::Error> for Cause {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::Busy,
            redb::Error::Corrupted(problem) => Self::Damaged(problem),
            redb::Error::Io(error) if is_damage(error.kind()) => Self::Damaged(error.to_string()),
            redb::Error::Io(error) => Self::Io(error),
            error => Self::Other(Box::new(error)),
        }
    }
}

/// Errors that come of what a file says, not of reading it.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
    )
}

impl LedgerError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(super) fn database(
        action: &'static str,
        path: &Path,
        error: impl Into<Cause>,
    ) -> LedgerError {
        let path = path.to_owned();
        match error.into() {
            Cause::Busy => Self::Busy { path },
            Cause::Damaged(problem) => Self::Damaged { path, problem },
            Cause::Io(source) => Self::Io {
                action,
                path,
                source,
            },
            Cause::Other(source) => Self::Database {
                action,
                path,
                source,
            },
        }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn foreign_log(path: &Path) -> Self {
        Self::ForeignLog {
            log: log_path(path),
            path: path.to_owned(),
        }
    }
}

impl Attributed for LedgerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { source, .. } => Fault::of_io(source),
            Self::NotALedger { .. }
            | Self::Version { .. }
            | Self::OtherModel { .. }
            | Self::OtherShape { .. }
            | Self::Damaged { .. }
            | Self::DamagedLog { .. }
            | Self::ForeignLog { .. }
            | Self::Exists { .. }
            | Self::Export { .. } => Fault::Request,
            Self::Busy { .. }
            | Self::Database { .. }
            | Self::Closed { .. }
            | Self::Broken { .. } => Fault::Run,
        }
    }
}
