//! Logs of the earlier SAGE as scenarios: what it was told then, at the ticks at which it would come now.
//!
//! Four shapes, told apart by what is in them: `experience_buffer.json` (a list of exchanges with salience),
//! `exchanges.jsonl` (one a line), `session_NNN.json` (a conversation), `dream_*.jsonl` (a bundle of experiences without
//! words). A tick is 100 ms; a gap becomes 64 idle ticks at most.

mod logs;
mod write;

use crate::input::{Attributed, Fault};
use std::path::{Path, PathBuf};

pub use write::{Options, write};

/// Ticks of a second.
const TICKS_PER_SECOND: f64 = 10.0;
/// A gap is never longer, ticks.
const MOST_GAP_TICKS: u64 = 64;

/// Why a log cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error(transparent)]
    Unreadable(#[from] crate::input::ReadError),
    /// What is in it.
    #[error("{}{}: {problem}", path.display(), line.map_or(String::new(), |line| format!(":{line}")))]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Counted from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

/// One thing that a log says.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Idle ticks since the entry before was done with.
    pub gap_ticks: u64,
    /// What.
    pub what: What,
}

/// See [`Entry`].
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Something was said to SAGE, and it answered.
    Exchange {
        /// Who spoke.
        source: String,
        /// What was said.
        said: String,
        /// What was answered then, by another model.
        answered: Option<String>,
        /// How good it was found, in [0, 1].
        reward: Option<f64>,
    },
    /// A plugin noted a salience.
    Noted {
        /// Which.
        plugin: String,
        /// In [0, 1].
        salience: f64,
    },
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// What kind of log it is.
    pub shape: &'static str,
    /// In order of time.
    pub entries: Vec<Entry>,
    /// Entries that say nothing.
    pub left_out: usize,
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

/// The gap between two times in seconds, in ticks.
fn gap(before: Option<f64>, now: Option<f64>) -> u64 {
    let seconds = before.zip(now).map_or(0.0, |(before, now)| now - before);
    let ticks = (seconds * TICKS_PER_SECOND).round();
    // A clock that went back is no gap.
    (ticks.clamp(0.0, MOST_GAP_TICKS as f64)) as u64
}

impl Attributed for ImportError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreadable(_) | Self::Wrong { .. } => Fault::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_ten_ticks_a_second_and_64_at_most() {
        assert_eq!(gap(None, Some(5.0)), 0);
        assert_eq!(gap(Some(5.0), Some(5.31)), 3);
        assert_eq!(gap(Some(5.0), Some(5000.0)), 64);
        assert_eq!(gap(Some(5.0), Some(4.0)), 0);
        assert_eq!(gap(Some(5.0), None), 0);
    }
}
