//! Logs of the earlier SAGE as scenarios: what it was told then, at the ticks at which it would come now.
//!
//! Four shapes, told apart by what is in them: `experience_buffer.json` (a list of exchanges with salience),
//! `exchanges.jsonl` (one a line), `session_NNN.json` (a conversation), `dream_*.jsonl` (a bundle of experiences without
//! words). A tick is 100 ms; a gap becomes 64 idle ticks at most.

mod entry;
mod logs;
mod write;

use crate::input::{Attributed, Fault};
use std::path::{Path, PathBuf};

pub use entry::{Imported, LogEntryKind};
pub use write::{Options, write};

/// Why a log cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Unreadable(#[from] crate::input::TextFileError),
    /// What is in it.
    #[error("{}{}: {problem}", path.display(), line.map_or(String::new(), |line| format!(":{line}")))]
    Wrong {
        path: PathBuf,
        /// Counted from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

impl Attributed for ImportError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreadable(_) | Self::Wrong { .. } => Fault::Request,
        }
    }
}

/// Reads a log.
///
/// # Errors
/// When it cannot be read, is of none of the four shapes, or an entry lacks what it needs.
pub fn read(path: &Path) -> Result<Imported, ImportError> {
    let text = crate::input::read_text(path)?;
    logs::parse(&text).map_err(|(line, problem)| ImportError::Wrong {
        path: path.to_owned(),
        line,
        problem,
    })
}
