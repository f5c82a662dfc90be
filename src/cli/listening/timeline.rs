//! `--timeline`: spans and events as trace events in JSON, which ui.perfetto.dev and chrome://tracing open.
//!
//! There is a crate that writes such files, tracing-chrome; it writes them while the run goes on, without a bound, and what it has
//! written of a run that fails is no JSON.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::ring::{FIELDS_BYTES, Ring, TimelineEntry};
use crate::cli::CliError;
use crate::input::check_replaceable;
use crate::store::AtomicFile;

/// Bytes of JSON that wait to be written.
const WRITTEN_BYTES: usize = 1 << 16;

/// A timeline that is being made.
pub struct Timeline {
    shared: Arc<Shared>,
    path: PathBuf,
}

/// What was kept of a run.
pub struct TimelineSummary {
    /// Spans and events in the file.
    pub kept: u64,
    /// Older ones that are not.
    pub dropped: u64,
}

struct Shared {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    ring: Ring,
    names: Vec<&'static Metadata<'static>>,
    threads: Vec<(ThreadId, String)>,
    failed: Option<io::Error>,
}

impl Timeline {
    /// Of the newest `most` spans and events. Its scratch file lies beside `path`, without a name.
    ///
    /// # Errors
    /// When `path` is no place for a file.
    pub fn begin(path: &Path, most: usize) -> Result<Self, CliError> {
        let refused = |error: io::Error| {
            CliError::request(format!(
                "--timeline {}: cannot write there ({error}); expected a file in a folder that can be written",
                path.display()
            ))
        };
        check_replaceable(path).map_err(refused)?;
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let file = tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map_err(refused)?;
        Ok(Self {
            shared: Arc::new(Shared {
                began: Instant::now(),
                inner: Mutex::new(Inner {
                    ring: Ring::new(file, most),
                    names: Vec::new(),
                    threads: Vec::new(),
                    failed: None,
                }),
            }),
            path: path.to_owned(),
        })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What listens for it.
    pub fn layer(&self) -> Recorder {
        Recorder(Arc::clone(&self.shared))
    }

    /// Writes the file; it appears under its name when it is whole.
    ///
    /// # Errors
    /// When the scratch file could not be written, or the file cannot be.
    pub fn write(&self) -> Result<TimelineSummary, CliError> {
        let failed = |error: io::Error| {
            let path = self.path.display();
            CliError::Failed(anyhow::anyhow!("--timeline {path}: {error}"))
        };
        let mut inner = self.shared.lock();
        if let Some(error) = inner.failed.take() {
            return Err(failed(error));
        }
        let mut out = Out {
            file: AtomicFile::create(&self.path)
                .map_err(|error| failed(io::Error::other(error)))?,
            waiting: String::new(),
        };
        let written = inner.write(&mut out).and_then(|written| {
            out.flush()?;
            Ok(written)
        });
        let written = written.map_err(failed)?;
        let committed = out.file.commit().map_err(io::Error::other);
        committed.map_err(failed)?;
        Ok(written)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// JSON on its way into the file.
struct Out {
    file: AtomicFile,
    waiting: String,
}

impl Out {
    fn line(&mut self, line: &str) -> io::Result<()> {
        self.waiting.push_str(line);
        if self.waiting.len() >= WRITTEN_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write(self.waiting.as_bytes());
        self.waiting.clear();
        written.map_err(io::Error::other)
    }
}

impl Inner {
    fn write(&mut self, out: &mut Out) -> io::Result<TimelineSummary> {
        let written = TimelineSummary {
            kept: self.ring.kept(),
            dropped: self.ring.dropped(),
        };
        let about = json!({
            "program": super::super::version::short(),
            "kept": written.kept,
            "dropped": written.dropped,
            "keeps": "the newest spans and events, by their end",
        });
        out.line(&format!(
            "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[\n"
        ))?;
        let pid = std::process::id();
        let name = json!({
            "ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "sage"},
        });
        out.line(&name.to_string())?;
        for (tid, (_, name)) in self.threads.iter().enumerate() {
            let name = json!({
                "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name},
            });
            out.line(&format!(",\n{name}"))?;
        }
        let (names, mut missing) = (&self.names, written.dropped);
        self.ring.read(&mut |entry| {
            if missing > 0 {
                let name = format!("{missing} spans and events that ended before this are missing");
                let at = micros(entry.start_ns);
                out.line(&format!(
                    ",\n{{\"ph\":\"i\",\"s\":\"g\",\"name\":\"{name}\",\"cat\":\"timeline\",\"pid\":{pid},\"tid\":0,\"ts\":{at}}}"
                ))?;
                missing = 0;
            }
            let Some(metadata) = names.get(usize::from(entry.name)) else {
                return Ok(());
            };
            out.line(&line(metadata, pid, &entry))
        })?;
        out.line("\n]}\n")?;
        Ok(written)
    }

    /// The number of a span's or an event's name.
    fn name(&mut self, metadata: &'static Metadata<'static>) -> u16 {
        let mut names = self.names.iter();
        let at = names.position(|known| std::ptr::eq(*known, metadata));
        at.unwrap_or_else(|| {
            self.names.push(metadata);
            self.names.len() - 1
        }) as u16
    }

    fn thread(&mut self) -> u16 {
        let thread = std::thread::current();
        let mut threads = self.threads.iter();
        let at = threads.position(|(known, _)| *known == thread.id());
        at.unwrap_or_else(|| {
            let name = thread.name().unwrap_or("without a name").to_owned();
            self.threads.push((thread.id(), name));
            self.threads.len() - 1
        }) as u16
    }

    fn push(&mut self, entry: &TimelineEntry) {
        if self.failed.is_none() {
            self.failed = self.ring.push(entry).err();
        }
    }
}

fn line(metadata: &Metadata<'_>, pid: u32, entry: &TimelineEntry) -> String {
    let (name, fields) = (metadata.name(), &entry.fields);
    let category = metadata.target().trim_end_matches(name);
    let category = category.trim_end_matches("::");
    let (kind, took) = match entry.took_ns {
        Some(took) => ("\"X\"", format!(",\"dur\":{}", micros(took))),
        None => ("\"i\",\"s\":\"t\"", String::new()),
    };
    let (tid, at) = (entry.thread, micros(entry.start_ns));
    format!(
        ",\n{{\"ph\":{kind},\"name\":\"{name}\",\"cat\":\"{category}\",\"pid\":{pid},\"tid\":{tid},\"ts\":{at}{took},\"args\":{{{fields}}}}}"
    )
}

/// Microseconds with all digits that there are.
fn micros(ns: u64) -> String {
    format!("{}.{:03}", ns / 1000, ns % 1000)
}

/// Hears of spans and events.
pub struct Recorder(Arc<Shared>);

/// A span that has not ended.
struct Open {
    thread: u16,
    name: u16,
    start_ns: u64,
    fields: Fields,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let (thread, name) = {
            let mut inner = self.0.lock();
            (inner.thread(), inner.name(attributes.metadata()))
        };
        span.extensions_mut().insert(Open {
            thread,
            name,
            start_ns: self.0.now_ns(),
            fields,
        });
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let start_ns = self.0.now_ns();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut inner = self.0.lock();
        let entry = TimelineEntry {
            name: inner.name(event.metadata()),
            thread: inner.thread(),
            start_ns,
            took_ns: None,
            fields: fields.0,
        };
        inner.push(&entry);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let now_ns = self.0.now_ns();
        let Some(span) = context.span(&id) else {
            return;
        };
        let Some(open) = span.extensions_mut().remove::<Open>() else {
            return;
        };
        self.0.lock().push(&TimelineEntry {
            name: open.name,
            thread: open.thread,
            start_ns: open.start_ns,
            took_ns: Some(now_ns.saturating_sub(open.start_ns)),
            fields: open.fields.0,
        });
    }
}

/// Members of a JSON object. One for which there is no room is left out: what was said is no part of a timeline, and is the only thing that
/// is long.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn add(&mut self, field: &Field, value: impl fmt::Display) {
        let before = self.0.len();
        let comma = if before == 0 { "" } else { "," };
        // Writing into a string does not fail.
        let _ = write!(self.0, "{comma}\"{}\":{value}", field.name());
        if self.0.len() > FIELDS_BYTES {
            self.0.truncate(before);
        }
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if value.len() <= FIELDS_BYTES {
            self.add(field, json!(value));
        }
    }

    /// States, modules and purposes, as they are called elsewhere.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, json!(format!("{value:?}").to_lowercase()));
    }
}
