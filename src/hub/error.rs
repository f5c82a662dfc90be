//! Why a model cannot be had from a hub.

use std::path::{Path, PathBuf};

use crate::checkpoint::CheckpointError;
use crate::input::{Attributed, Fault};
use crate::store::StoreError;

/// Why a model cannot be had from a hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What names a model is no name.
    #[error("`{name}` {problem}; expected OWNER/NAME or OWNER/NAME@REVISION")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The address of the hub is none.
    #[error("the hub's address is `{address}`; expected one that begins with https:// or http://")]
    Address {
        /// As it was given.
        address: String,
    },
    /// The certificates to trust cannot be read.
    #[error("cannot take certificates from {}: {problem}; expected a PEM file with certificates (SSL_CERT_FILE names it)", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The hub says no.
    #[error("{url}: the hub answers {status}: {advice}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Its HTTP status.
        status: u16,
        /// What that means, and what to do.
        advice: String,
    },
    /// Too many attempts failed one after the other.
    #[error(
        "{url}: {tries} attempts failed, the last one because {reason}; what was fetched is kept, run the same command again"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Attempts since anything came.
        tries: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// What the hub says cannot be true, or is not what it said before.
    #[error("{url}: {problem}")]
    Wrong {
        /// What was asked for.
        url: String,
        /// What was found and expected.
        problem: String,
    },
    /// A file's bytes are not those that the hub lists.
    #[error(
        "{file} has SHA-256 {found}, the hub says {expected}: it was damaged on the way or on the hub, and is thrown away; run the same command again"
    )]
    Checksum {
        /// The file.
        file: String,
        /// Of what was fetched.
        found: String,
        /// Of the listing.
        expected: String,
    },
    /// The repository holds no checkpoint that can be extracted.
    #[error("{repo} at {commit} {problem}")]
    NotACheckpoint {
        /// The repository.
        repo: String,
        /// The commit.
        commit: String,
        /// What is missing.
        problem: String,
    },
    /// There is something where the store is to be, or another pull was begun there.
    #[error("{}: {problem}", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there, and what to do.
        problem: String,
    },
    /// The disk is too small.
    #[error("{} has {free_bytes} bytes free; the store and the shards on the way need {needed_bytes}: free some, choose another --out, or a smaller --quant", path.display())]
    NoSpace {
        /// Where the store is to be.
        path: PathBuf,
        /// Bytes free there.
        free_bytes: u64,
        /// Bytes still to be written, at most at one time.
        needed_bytes: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HubError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<CheckpointError> for HubError {
    fn from(error: CheckpointError) -> Self {
        Self::Store(error.into())
    }
}

impl Attributed for HubError {
    fn fault(&self) -> Fault {
        match self {
            Self::Name { .. }
            | Self::Address { .. }
            | Self::Certificates { .. }
            | Self::Refused { .. }
            | Self::NotACheckpoint { .. }
            | Self::Occupied { .. } => Fault::Request,
            Self::Unreachable { .. }
            | Self::Wrong { .. }
            | Self::Checksum { .. }
            | Self::NoSpace { .. }
            | Self::Io { .. } => Fault::Run,
            Self::Store(error) => error.fault(),
        }
    }
}
