//! `sage scenario import`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{CliError, CommandOutcome, Printer};
use crate::core::Limit;
use crate::input::counted;
use crate::scenario::Scenario;
use crate::scenario::import::{self, Options};
use crate::store::write_file;

const EXAMPLES: &str = "Examples:
  sage scenario import experience_buffer.json > old.toml && sage run old.toml
  sage scenario import session_003.json session_006.json --out sessions.toml --limit 96slots
  sage scenario import exchanges.jsonl --with-answers --answer-tokens 16

Logs are told apart by what is in them: experience_buffer.json, exchanges.jsonl, session_NNN.json, dream_*.jsonl. What was
said becomes a question, a reward becomes feedback behind it, a plugin's salience becomes a sensor's reading. A tick is
100 ms; a gap becomes 64 idle ticks at most (docs/scenarios.md).";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// Logs, in the order in which they are to be played
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the scenario here [default: standard output]; a file that stands there is not touched
    #[arg(long, value_name = "SCENARIO")]
    out: Option<PathBuf>,
    /// Memory limit of the scenario
    #[arg(long)]
    limit: Option<Limit>,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    answer_tokens: u64,
    /// Read what was answered then, too
    #[arg(long)]
    with_answers: bool,
    /// The scenario's name [default: the first file's]
    #[arg(long)]
    name: Option<String>,
}

pub fn run(args: &ImportArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        return Err(CliError::request(format!(
            "{}: there is a file already: give another name, or remove it",
            out.display()
        )));
    }
    let logs = args.files.iter().map(|file| import::read(file));
    let logs = logs.collect::<Result<Vec<_>, _>>()?;
    if logs.iter().all(|log| log.entries.is_empty()) {
        return Err(CliError::request(
            "the logs say nothing that could be played",
        ));
    }
    let first = args.files.first().and_then(|file| file.file_stem());
    let named = || first.map(|name| name.to_string_lossy().into_owned());
    let options = Options {
        name: args.name.clone().or_else(named).unwrap_or_default(),
        limit: args.limit.map(written),
        answer_tokens: args.answer_tokens,
        with_answers: args.with_answers,
    };
    let (text, observations) =
        import::write(&logs, &options).map_err(|error| CliError::Failed(error.into()))?;
    // What is written must be what `run` reads.
    let path = args.out.as_deref().unwrap_or(Path::new("imported.toml"));
    Scenario::parse(path, &text)?;
    let left_out: usize = logs.iter().map(|log| log.left_out).sum();
    printer.note(format_args!(
        "{} of {}: {observations} observations{}",
        counted(logs.len() as u64, "log"),
        logs.iter()
            .map(|log| log.shape)
            .collect::<Vec<_>>()
            .join(", "),
        match left_out {
            0 => String::new(),
            n => format!("; {n} entries that say nothing were left out"),
        }
    ));
    match &args.out {
        Some(out) => write_file(out, text.as_bytes())?,
        None => printer.line(text.trim_end())?,
    }
    Ok(CommandOutcome::Done)
}

/// As a scenario says it.
fn written(limit: Limit) -> String {
    match limit {
        Limit::None => "none".to_owned(),
        Limit::Bytes(bytes) => format!("{bytes}B"),
        Limit::Percent(percent) => format!("{percent}%"),
        Limit::Slots(slots) => format!("{slots}slots"),
    }
}
