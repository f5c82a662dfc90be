//! Recorded runs: SAGE's own, line by line (docs/traces.md), and the routing of other engines.

mod chain;
mod columns;
mod header;
mod reader;
mod record;
mod tape;
mod writer;

use crate::input::{Attributed, Fault};
use chain::Chain;
pub use header::{LedgerSnapshot, OLDEST_SCHEMA, SCHEMA, SensorMode, TraceHeader};
pub use reader::{TraceLine, TraceReader};
pub use record::TraceRecord;
pub use tape::{Sink, Tape};
pub use writer::{TraceWriter, media_path};

use std::path::PathBuf;

/// Why a recorded run cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A recording that stands there is not written over.
    #[error("{}: there is a file already: give another name, or remove it", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A line that is no line of a recording.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The whole.
    #[error("{}: {problem}", path.display())]
    Whole {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Attributed for TraceError {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { source, .. } => Fault::of_io(source),
            Self::Exists { .. } | Self::Line { .. } | Self::Whole { .. } => Fault::Request,
        }
    }
}
