//! Writes a recording.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::record::TraceRecord;
use super::tape::Sink;
use super::{Chain, TraceError, TraceHeader};
use crate::media::medium::Medium;

/// A recording that is being written. What was put before the last [`Sink::check`] has been handed to the system.
pub struct TraceWriter {
    path: PathBuf,
    out: BufWriter<File>,
    chain: Chain,
    started: Instant,
    failed: Option<std::io::Error>,
}

impl TraceWriter {
    /// Begins a recording with its header. A file that stands there is not touched.
    ///
    /// # Errors
    /// [`TraceError::Exists`]; when it cannot be made or written.
    pub fn create(path: &Path, header: &TraceHeader) -> Result<Self, TraceError> {
        let opened = OpenOptions::new().write(true).create_new(true).open(path);
        let file = opened.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => TraceError::Exists {
                path: path.to_owned(),
            },
            _ => TraceError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            out: BufWriter::with_capacity(1 << 18, file),
            chain: Chain::default(),
            started: Instant::now(),
            failed: None,
        };
        writer.line(header, false);
        // What follows begins a chain of its own: equal runs have equal digests, whatever their headers say besides.
        writer.chain = Chain::default();
        writer.check()?;
        Ok(writer)
    }

    fn line(&mut self, event: &impl Serialize, timed: bool) {
        if self.failed.is_some() {
            return;
        }
        let written = serde_json::to_string(event)
            .map_err(std::io::Error::other)
            .and_then(|body| {
                self.chain = self.chain.and(body.as_bytes());
                let digest = self.chain.hex();
                write!(self.out, "{{\"event\":{body},\"digest\":\"{digest}\"")?;
                if timed {
                    let at = self.started.elapsed().as_millis();
                    write!(self.out, ",\"measured\":{{\"at_ms\":{at}}}")?;
                }
                self.out.write_all(b"}\n")
            });
        self.failed = written.err();
    }
}

/// Where a recording's file of these contents lies.
pub fn media_path(trace: &Path, blake3: &str) -> PathBuf {
    let name = trace.file_name().unwrap_or_default().to_string_lossy();
    let short = blake3.get(..16).unwrap_or(blake3);
    trace.with_file_name(format!("{name}.media-{short}"))
}

/// A whole file or none.
fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

impl Sink for TraceWriter {
    fn put(&mut self, record: &TraceRecord) {
        // Once a tick is often enough to know when.
        self.line(record, matches!(record, TraceRecord::Salience { .. }));
    }

    fn keep(&mut self, medium: &Medium) {
        let path = media_path(&self.path, &medium.blake3);
        if self.failed.is_none() && !path.exists() {
            self.failed = write_beside(&path, medium.bytes()).err();
        }
    }

    fn check(&mut self) -> Result<(), TraceError> {
        let flushed = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        flushed.map_err(|source| TraceError::Io {
            path: self.path.clone(),
            source,
        })
    }
}
