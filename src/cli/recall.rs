//! `sage recall`.

use std::path::PathBuf;

use clap::Args;

use super::opening::{self, SettingsArgs};
use super::{CliError, CommandOutcome, Printer, Table};
use crate::core::Limit;
use crate::eval::recall::{self, RecallArm, RecallReport, RecallSettings};

const EXAMPLES: &str = "Examples:
  sage recall models/tiny --items models/tiny/recall/facts.jsonl --most-items 2 --arms mind,recency
  sage recall MODEL --items FACTS.jsonl --set mind.memory.store_bytes=65536 --json

A line of a file is an item: {\"told\": [\"TEXT\", …], \"questions\": [{\"question\": \"…\", \"answer\": \"…\"}, …]}, and perhaps
a \"group\". Everything is told before anything is asked. Routing is exact in every arm; what differs is what stays where
the context has no room. Intervals are 95 % percentiles of 2,000 resamples of the items. docs/remembering.md says more.";

/// Arguments of `sage recall`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RecallArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// Files of items
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    items: Vec<PathBuf>,
    /// Items of each file at most [default: all]
    #[arg(long, value_name = "N")]
    most_items: Option<usize>,
    /// Rules to compare
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "unlimited,recency,uniform,similarity,salience,mind",
        value_parser = super::names::by_name::<RecallArm>()
    )]
    arms: Vec<RecallArm>,
    /// Tokens of context of every arm but the unlimited
    #[arg(long, default_value_t = 512, value_name = "N")]
    context_tokens: usize,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 16, value_name = "N")]
    answer_tokens: usize,
    /// Memory limit of the whole process: none, 512MiB, 25%, 48slots, … [default: none]
    #[arg(long)]
    limit: Option<Limit>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Threads of the arithmetic [default: all cores]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl RecallArgs {
    fn settings(&self) -> Result<RecallSettings, CliError> {
        opening::at_least("context-tokens", self.context_tokens, 64)?;
        opening::at_least("answer-tokens", self.answer_tokens, 1)?;
        let (mind, limit) = opening::of_instrument(&self.settings, self.threads, self.limit)?;
        Ok(RecallSettings {
            items: self.items.clone(),
            most_items: self.most_items,
            arms: self.arms.clone(),
            mind,
            context_tokens: self.context_tokens,
            answer_tokens: self.answer_tokens,
            limit,
        })
    }
}

/// Runs the command.
pub fn run(args: &RecallArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let settings = args.settings()?;
    let source = opening::source(&args.model)?;
    let bar = printer.steps("telling", recall::readings(&settings)? as u64);
    let mut progress = |done: usize| bar.set_position(done as u64);
    let measured = recall::measure(&source, &settings, &mut progress);
    let report = opening::runtime()?.block_on(measured)?;
    bar.finish_and_clear();
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        show(&report, printer)?;
    }
    Ok(CommandOutcome::Done)
}

fn show(report: &RecallReport, printer: &Printer) -> Result<(), CliError> {
    printer.line(format_args!(
        "{} questions about {} items, {} tokens of context, {} bytes of memory",
        report.questions, report.items, report.context_tokens, report.store_bytes
    ))?;
    let titles = [
        "arm",
        "right",
        "mind above it",
        "rebuilt",
        "recalled",
        "tokens run",
    ];
    let mut table = Table::with_titles(titles.map(str::to_owned).to_vec());
    for arm in &report.arms {
        let difference = report.differences.iter().find(|one| one.rival == arm.arm);
        let above = difference.map_or(String::new(), |one| {
            interval(one.value, one.low, one.high, "points")
        });
        table.push(vec![
            arm.arm.to_owned(),
            interval(arm.right, arm.low, arm.high, "%"),
            above,
            arm.condensed.to_string(),
            arm.recalled.to_string(),
            arm.ticks.to_string(),
        ]);
    }
    printer.table(&table)
}

/// `41.2 % [35.0, 47.5]`.
fn interval(value: f64, low: Option<f64>, high: Option<f64>, unit: &str) -> String {
    let percent = |x: f64| x * 100.0;
    match low.zip(high) {
        Some((low, high)) => format!(
            "{:.1} {unit} [{:.1}, {:.1}]",
            percent(value),
            percent(low),
            percent(high)
        ),
        None => format!("{:.1} {unit}", percent(value)),
    }
}
