//! `--log` and `--timeline`: who listens to the spans and events of `tracing`. Listeners are installed here and nowhere else; the
//! library only speaks.

mod filter;
mod ring;
mod timeline;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::time::uptime;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::{CliError, Printer};
use crate::eval::{TOLD, TOLD_MARK};
use timeline::Timeline;

/// Spans and events of a timeline where nothing else is said: about a hundred tokens of the released model.
const EVENTS: usize = 1 << 17;

/// How many there may be.
const EVENTS_BOUNDS: RangeInclusive<usize> = 512..=1 << 20;

/// The filter where `--log` is not given.
const LOG_VARIABLE: &str = "SAGE_LOG";

/// Options of every command: what runs is told as it runs, or afterwards.
#[derive(Args, Clone, Debug, Default)]
pub struct ListenArgs {
    /// Tell on stderr what happens: warn, info, debug, trace, off, or by name as in sage::core=debug,read=trace
    /// (docs/timeline.md) [default: what SAGE_LOG in the environment says, else off]
    #[arg(long, global = true, value_name = "FILTER", help_heading = HEADING)]
    log: Option<String>,
    /// Write where the time went into this file, for ui.perfetto.dev (docs/timeline.md)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    timeline: Option<PathBuf>,
    /// Spans and events of the timeline at most, 512 to 1048576; the newest are kept [default: 131072]
    #[arg(long, global = true, value_name = "COUNT", help_heading = HEADING)]
    timeline_events: Option<usize>,
}

const HEADING: &str = "What happens in a run";

/// Those who listen to this process.
pub struct Listening {
    timeline: Option<Timeline>,
    is_worker: bool,
}

/// The stderr of a process of `sage eval`, which that process's parent reads.
struct Marked(io::Stderr);

impl Write for Marked {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mark = TOLD_MARK.to_string();
        self.0.write_all(&[mark.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl ListenArgs {
    /// Installs who listens, for the rest of the process; call once, before anything runs. Where nothing is asked for nobody does.
    pub fn begin(&self, is_worker: bool) -> Result<Listening, CliError> {
        let filter = self.filter()?;
        let timeline = self.begin_timeline()?;
        let listening = Listening {
            timeline,
            is_worker,
        };
        if filter.is_none() && listening.timeline.is_none() {
            return Ok(listening);
        }
        let writer = match is_worker {
            true => BoxMakeWriter::new(|| Marked(io::stderr())),
            false => BoxMakeWriter::new(io::stderr),
        };
        let log = filter.map(|filter| {
            fmt::layer()
                .with_writer(writer)
                .with_ansi(Printer::new(false).has_colour())
                .with_timer(uptime())
                .with_span_events(FmtSpan::CLOSE)
                // A closed stderr is no reason to stop, nor to complain there.
                .log_internal_errors(false)
                .with_filter(filter.with_target(TOLD, Level::INFO))
        });
        let recorder = listening.timeline.as_ref().map(|timeline| {
            let all = Targets::new().with_target("sage", Level::TRACE);
            let all = all.with_target(TOLD, LevelFilter::OFF);
            timeline.layer().with_filter(all)
        });
        let installed = Registry::default().with(log).with(recorder).try_init();
        installed.map_err(|error| CliError::Failed(error.into()))?;
        Ok(listening)
    }

    /// Has the `number`th process of an evaluation tell as much: its timeline stands beside this one's.
    pub fn pass_on(&self, command: &mut Command, number: usize) {
        if let Some(filter) = &self.log {
            command.args(["--log", filter]);
        }
        if let Some(path) = &self.timeline {
            let end = path.extension().unwrap_or(OsStr::new("json"));
            let end = format!("{number}.{}", end.display());
            command.arg("--timeline").arg(path.with_extension(end));
        }
        if let Some(events) = self.timeline_events {
            command.args(["--timeline-events", &events.to_string()]);
        }
    }

    fn filter(&self) -> Result<Option<Targets>, CliError> {
        let variable = std::env::var(LOG_VARIABLE).ok();
        let variable = variable.filter(|filter| !filter.is_empty());
        let (from, text) = match (&self.log, &variable) {
            (Some(text), _) => ("--log", text),
            (None, Some(text)) => (LOG_VARIABLE, text),
            (None, None) => return Ok(None),
        };
        let filter = filter::parse(text);
        let filter = filter.map_err(|bad| CliError::request(format!("{from}: {bad}")))?;
        Ok(Some(filter))
    }

    fn begin_timeline(&self) -> Result<Option<Timeline>, CliError> {
        let Some(path) = &self.timeline else {
            return match self.timeline_events {
                Some(_) => Err(CliError::request(
                    "--timeline-events says how long a timeline may be: name its file with --timeline",
                )),
                None => Ok(None),
            };
        };
        let events = self.timeline_events.unwrap_or(EVENTS);
        if !EVENTS_BOUNDS.contains(&events) {
            let (least, most) = (EVENTS_BOUNDS.start(), EVENTS_BOUNDS.end());
            return Err(CliError::request(format!(
                "--timeline-events is {events}; expected {least} to {most}"
            )));
        }
        Timeline::begin(path, events).map(Some)
    }
}

impl Listening {
    /// Writes the timeline, if there is one, also of a run that failed.
    pub fn finish(&self, printer: &Printer) -> Result<(), CliError> {
        let Some(timeline) = &self.timeline else {
            return Ok(());
        };
        let (path, written) = (timeline.path().display(), timeline.write()?);
        if self.is_worker {
            return Ok(());
        }
        match written.dropped {
            0 => printer.note(format_args!(
                "timeline: {path}, {} spans and events",
                written.kept
            )),
            dropped => printer.warn(format_args!(
                "timeline: {path} has the newest {} spans and events; {dropped} before them are missing: --timeline-events keeps more",
                written.kept
            )),
        }
        Ok(())
    }
}
