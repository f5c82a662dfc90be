//! `sage sensors`, and what a run says of the machine's sensors.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{CliError, CommandOutcome, Printer, Table};
use crate::sensors::{Garbled, Live, Sample, SensorKind, SensorSettings, Sensors};

const EXAMPLES: &str = "Examples:
  sage sensors
  sage sensors --json
  sage sensors --sysfs FOLDER      # a tree with proc and sys that stands for a machine
  sage run SCENARIO --live-sensors # these sensors as observations of a run

What each reading means, and what it leaves of its reserve: docs/states.md. A sensor that is not there is normal, a
file that makes no sense is shown as skipped; the exit code is 0 in both cases.";

/// Arguments of `sage sensors`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SensorsArgs {
    /// Folder that holds `proc` and `sys` [default: /]
    #[arg(long, value_name = "DIR")]
    sysfs: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct SensorsReport {
    sensors: Vec<FoundSensor>,
    not_here: Vec<&'static str>,
    skipped: Vec<Garbled>,
}

#[derive(Serialize)]
struct FoundSensor {
    #[serde(flatten)]
    kind: SensorKind,
    value: f64,
    level: f64,
    from: Vec<String>,
}

/// Runs the command.
pub fn run(args: &SensorsArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let sysfs = folder(args.sysfs.as_deref())?;
    let report = report(Sensors::new(sysfs).read());
    if printer.is_json() {
        printer.json(&report)?;
        return Ok(CommandOutcome::Done);
    }
    let mut table = Table::new(["sensor", "value", "unit", "left"]);
    for found in &report.sensors {
        table.row([
            found.kind.name.to_owned(),
            format!("{:.1}", found.value),
            found.kind.unit.to_owned(),
            format!("{:.0} %", found.level * 100.0),
        ]);
    }
    if !report.sensors.is_empty() {
        printer.table(&table)?;
    }
    for found in &report.sensors {
        printer.line(format_args!(
            "{}: {}",
            found.kind.name,
            found.from.join(", ")
        ))?;
    }
    for name in &report.not_here {
        printer.line(format_args!("{name}: not here"))?;
    }
    for garbled in &report.skipped {
        printer.warn(format_args!("a reading is skipped: {garbled}"));
    }
    Ok(CommandOutcome::Done)
}

fn report(samples: impl IntoIterator<Item = (&'static SensorKind, Sample)>) -> SensorsReport {
    let mut report = SensorsReport {
        sensors: Vec::new(),
        not_here: Vec::new(),
        skipped: Vec::new(),
    };
    for (kind, sample) in samples {
        report.skipped.extend(sample.garbled);
        match sample.value {
            Some(value) => report.sensors.push(FoundSensor {
                kind: *kind,
                value,
                level: kind.level(value),
                from: sample.from,
            }),
            None => report.not_here.push(kind.name),
        }
    }
    report
}

/// The sensors of a run.
pub(super) fn live(sysfs: Option<&Path>, settings: SensorSettings) -> Result<Live, CliError> {
    Ok(Live::new(folder(sysfs)?, settings))
}

/// Says what a run has to say of its sensors.
pub(super) fn say(live: &mut Live, printer: &Printer) {
    for note in live.take_notes() {
        printer.note(format_args!("note: {note}"));
    }
    if live.skipped() > 0 {
        printer.warn(format_args!(
            "{} files of sensors made no sense when they were read",
            live.skipped()
        ));
    }
}

/// A folder that was named must be there: a slip of the pen is no machine without sensors.
fn folder(sysfs: Option<&Path>) -> Result<Option<&Path>, CliError> {
    match sysfs {
        Some(folder) if !folder.is_dir() => Err(CliError::request(format!(
            "--sysfs {}: there is no such folder; expected one that holds `proc` and `sys`",
            folder.display()
        ))),
        sysfs => Ok(sysfs),
    }
}
