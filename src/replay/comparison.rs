//! A recording's lines beside those of the run that repeats it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sage_actors::protocol::Tick;

use super::ReplayDifference;
use crate::core::core_loop::Heed;
use crate::trace::{Sink, TraceError, TraceLine, TraceReader, TraceRecord};

/// Shared by the tape, which compares, and the driver, which looks ahead.
#[derive(Clone)]
pub struct ReplayComparison(Arc<Mutex<Inner>>);

struct Inner {
    reader: TraceReader,
    next: Option<TraceLine>,
    lines: u64,
    difference: Option<ReplayDifference>,
    failed: Option<TraceError>,
}

impl Inner {
    fn advance(&mut self) {
        self.lines += u64::from(self.next.is_some());
        self.next = match self.reader.next_line() {
            Ok(line) => line,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        };
    }
}

impl ReplayComparison {
    /// Of a recording whose header was read.
    ///
    /// # Errors
    /// When its next line cannot be read.
    pub fn new(reader: TraceReader) -> Result<Self, TraceError> {
        let mut inner = Inner {
            reader,
            next: None,
            lines: 0,
            difference: None,
            failed: None,
        };
        inner.advance();
        match inner.failed.take() {
            Some(error) => Err(error),
            None => Ok(Self(Arc::new(Mutex::new(inner)))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next recorded line; none at the recording's end, and behind the first difference.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&self) -> Result<Option<TraceRecord>, TraceError> {
        let mut inner = self.lock();
        if let Some(error) = inner.failed.take() {
            return Err(error);
        }
        if inner.difference.is_some() {
            return Ok(None);
        }
        let Some(line) = &inner.next else {
            return Ok(None);
        };
        let record = line.record();
        record.map(Some).map_err(|error| {
            inner
                .reader
                .problem(format!("{error}; expected an event of a recording"))
        })
    }

    /// The next recorded line, if it is of this type; none behind a difference.
    fn upcoming(&self, name: &str) -> Option<TraceRecord> {
        let inner = self.lock();
        let line = inner.next.as_ref()?;
        // Asked before every layer: not every line is parsed for it.
        let begins = line.body.strip_prefix("{\"type\":\"")?.starts_with(name);
        if !begins || inner.difference.is_some() {
            return None;
        }
        line.record().ok().filter(|record| record.name() == name)
    }

    /// Passes over a line that nobody repeats.
    pub fn pass(&self) {
        self.lock().advance();
    }

    /// Lines so far, the chain's digest, and the first difference.
    pub fn so_far(&self) -> (u64, String, Option<ReplayDifference>) {
        let inner = self.lock();
        let digest = inner.next.as_ref().map(|line| line.digest.clone());
        (
            inner.lines,
            digest.unwrap_or_else(|| inner.reader.digest()),
            inner.difference.clone(),
        )
    }
}

/// What was heeded when it was recorded is heeded again.
impl Heed for ReplayComparison {
    fn due(&self, tick: Tick) -> Option<Tick> {
        match self.upcoming("cut")? {
            TraceRecord::Cut { tokens, .. } => Some(tick.saturating_add(tokens as Tick)),
            _ => None,
        }
    }

    fn waits(&self) -> bool {
        self.upcoming("given_up").is_some()
    }
}

impl Sink for ReplayComparison {
    fn put(&mut self, record: &TraceRecord) {
        let mut inner = self.lock();
        if inner.difference.is_some() {
            return;
        }
        // Beyond a recording that was cut there is nothing to compare with.
        let Some(line) = &inner.next else { return };
        let body = serde_json::to_string(record).unwrap_or_default();
        if line.body == body {
            inner.advance();
        } else {
            inner.difference = Some(ReplayDifference::of(line, record.name(), &body));
        }
    }

    fn check(&mut self) -> Result<(), TraceError> {
        self.lock().failed.take().map_or(Ok(()), Err)
    }
}
