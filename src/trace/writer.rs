//! Writes a recording.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::record::Record;
use super::tape::Sink;
use super::{Chain, Header, TraceError};

/// A recording that is being written. What was put before the last [`Sink::check`] has been handed to the system.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    chain: Chain,
    started: Instant,
    failed: Option<std::io::Error>,
}

impl Writer {
    /// Begins a recording with its header. A file that stands there is not touched.
    ///
    /// # Errors
    /// [`TraceError::Exists`]; when it cannot be made or written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, TraceError> {
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

impl Sink for Writer {
    fn put(&mut self, record: &Record) {
        // Once a tick is often enough to know when.
        self.line(record, matches!(record, Record::Salience { .. }));
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
