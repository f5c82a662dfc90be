//! `sage scenario`.

mod import;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, CommandOutcome, Printer};
use crate::input::{Problem, TextFileError, counted};
use crate::scenario::{Scenario, ScenarioError};

const EXAMPLES: &str = "Examples:
  sage scenario check scenarios/wake-focus-crisis.toml
  sage scenario check scenarios/*.toml --json

Nothing is run and no model is needed. Exit code 1 says that a scenario has mistakes: all of them are shown, each with
file, line and column. Exit code 2 says that a file could not be read. The language: docs/scenarios.md";

/// Arguments of `sage scenario`.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct ScenarioArgs {
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Subcommand)]
enum ScenarioCommand {
    /// Check scenarios without running them
    Check(CheckArgs),
    /// Make a scenario of logs of the earlier SAGE
    Import(import::ImportArgs),
}

#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct CheckArgs {
    /// Scenarios
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

impl ScenarioArgs {
    /// Whether data is to be JSON.
    pub(super) fn json(&self) -> bool {
        match &self.command {
            ScenarioCommand::Check(args) => args.json,
            ScenarioCommand::Import(_) => false,
        }
    }
}

#[derive(Serialize)]
struct ScenarioReport<'a> {
    files: Vec<Checked<'a>>,
    problems: usize,
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(serialize_with = "crate::input::path_as_text")]
    file: &'a Path,
    ok: bool,
    problems: Vec<Problem>,
    error: Option<String>,
}

/// Runs the command.
pub fn run(args: &ScenarioArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    match &args.command {
        ScenarioCommand::Check(args) => check(args, printer),
        ScenarioCommand::Import(args) => import::run(args, printer),
    }
}

fn check(args: &CheckArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let mut report = ScenarioReport {
        files: Vec::new(),
        problems: 0,
    };
    let mut unreadable: Option<TextFileError> = None;
    for file in &args.files {
        let mut checked = Checked {
            file,
            ok: false,
            problems: Vec::new(),
            error: None,
        };
        match Scenario::check(file) {
            Ok(scenario) => {
                checked.ok = true;
                if !printer.is_json() {
                    printer.line(format_args!("{}: {}", file.display(), contents(&scenario)))?;
                }
            }
            Err(ScenarioError::Wrong(problems)) => {
                report.problems += problems.len();
                if !printer.is_json() {
                    show(printer, file, &problems)?;
                }
                checked.problems = problems;
            }
            // The other files are checked all the same.
            Err(ScenarioError::Unreadable(error)) => {
                checked.error = Some(error.to_string());
                if let Some(before) = unreadable.replace(error) {
                    printer.warn(before);
                }
            }
        }
        report.files.push(checked);
    }
    if printer.is_json() {
        printer.json(&report)?;
    }
    match unreadable {
        Some(error) => Err(CliError::Request(error.into())),
        None if report.problems > 0 => Ok(CommandOutcome::No),
        None => Ok(CommandOutcome::Done),
    }
}

fn show(printer: &Printer, file: &Path, problems: &[Problem]) -> Result<(), CliError> {
    for problem in problems {
        printer.line(problem)?;
    }
    let count = counted(problems.len() as u64, "problem");
    printer.line(format_args!("{}: {count}", file.display()))
}

/// What a sound scenario holds.
fn contents(scenario: &Scenario) -> String {
    format!(
        "fine: {}, {}, {}, {}",
        counted(scenario.ticks, "tick"),
        counted(scenario.observe.len() as u64, "observation"),
        counted(scenario.sensors.len() as u64, "sensor"),
        counted(scenario.expect.len() as u64, "expectation"),
    )
}
