//! `sage config`.

use clap::Args;
use serde::Serialize;

use super::opening::SettingsArgs;
use super::{CliError, CommandOutcome, Printer};
use crate::settings::{FOUND_AT_START, Setting};

const EXAMPLES: &str = "Examples:
  sage config
  sage config --set mind.budgets.wake.f=0.75
  SAGE_MIND__ROUTING=exact sage config --config mine.toml --json

The layers, each over the one before:
  config/default.toml        what holds where nobody says otherwise
  SAGE_CONFIG=FILE           a file of settings for every run
  --config FILE              a file of settings for this run
  SCENARIO                   what a scenario says of its own run, where one runs
  SAGE_MIND__BUDGETS__WAKE__F=0.75
                             the environment: two underscores between levels
  --set mind.budgets.wake.f=0.75
  --limit, --temperature, …  the options of a command that runs a model
Values are TOML; a word needs no quotes. Every command that runs a model reads its settings so. Exit code 2 says that
a setting is unknown, of the wrong type or out of its bounds; every such mistake is named with its place.";

/// Arguments of `sage config`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct ConfigReport<'a> {
    settings: &'a [Setting],
    found_at_start: Vec<FoundReport>,
}

#[derive(Serialize)]
struct FoundReport {
    key: &'static str,
    from: &'static str,
}

/// Runs the command.
pub fn run(args: &ConfigArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let settings = args.settings.load()?;
    if printer.is_json() {
        let found = FOUND_AT_START.iter().map(|found| FoundReport {
            key: found.key,
            from: found.from,
        });
        printer.json(&ConfigReport {
            settings: &settings.list,
            found_at_start: found.collect(),
        })?;
        return Ok(CommandOutcome::Done);
    }
    let title = ["setting", "value", "from"].map(str::to_owned);
    let set = settings.list.iter().map(|setting| {
        let value = setting.value.as_ref();
        [
            setting.key.clone(),
            value.map_or("(not set)".to_owned(), value_shown),
            setting.origin.to_string(),
        ]
    });
    let found = FOUND_AT_START.iter().map(|found| {
        let (key, from) = (found.key.to_owned(), found.from.to_owned());
        [key, "(found at start)".to_owned(), from]
    });
    let rows: Vec<[String; 3]> = std::iter::once(title).chain(set).chain(found).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let (keys, values) = (width(0), width(1));
    for [key, value, from] in &rows {
        printer.line(format_args!("{key:<keys$}  {value:<values$}  {from}"))?;
    }
    Ok(CommandOutcome::Done)
}

/// As it is written in a file, a word without its quotes.
fn value_shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(word) => word.clone(),
        value => value.to_string(),
    }
}
