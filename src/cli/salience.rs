//! `sage salience`.

use std::path::PathBuf;

use clap::Args;

use super::opening::{self, SettingsArgs};
use super::text::TextArgs;
use super::{CliError, CommandOutcome, Printer, Table};
use crate::core::Limit;
use crate::eval::salience::{
    self, Mean, Proportion, SURPRISED, SalienceEvalReport, SalienceEvalSettings,
};

const EXAMPLES: &str = "Examples:
  sage salience models/tiny --text models/tiny/heldout/*.txt
  sage salience MODEL --text NOVEL.txt CODE.txt LAW.txt --cuts 5 --json

Every file is a domain. It is read as a run would read it: observations of about --piece-tokens tokens, none of them
urgent, by a fresh mind. Inside: a domain from beginning to end. Cuts: of every ordered pair of domains some pieces of
the first, then some of the second, from another source; a domain followed by another place of its own is the control.
Intervals are Wilson's, 95 %.";

/// Arguments of `sage salience`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SalienceArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// Texts, a file a domain; documents are separated by <|endoftext|>
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Tokens of an observation, about
    #[arg(long, default_value_t = 48, value_name = "N")]
    piece_tokens: usize,
    /// Cuts of every ordered pair of domains; 0: none
    #[arg(long, default_value_t = 3, value_name = "N")]
    cuts: usize,
    /// Pieces read before a cut
    #[arg(long, default_value_t = 20, value_name = "N")]
    before: usize,
    /// Pieces read after a cut
    #[arg(long, default_value_t = 4, value_name = "N")]
    after: usize,
    /// What follows a cut comes from the same source: its context goes on
    #[arg(long)]
    same_source: bool,
    /// Memory limit of the whole process: none, 512MiB, 25%, 48slots, … [default: none]
    #[arg(long)]
    limit: Option<Limit>,
    /// Tokens of context
    #[arg(long, default_value_t = 512, value_name = "N")]
    context_tokens: usize,
    #[command(flatten)]
    untrusted: TextArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Threads of the arithmetic [default: all cores]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl SalienceArgs {
    fn settings(&self) -> Result<SalienceEvalSettings, CliError> {
        let least = [
            ("piece-tokens", self.piece_tokens, 2),
            ("before", self.before, 1),
            ("after", self.after, 1),
            ("context-tokens", self.context_tokens, 2),
        ];
        for (name, value, least) in least {
            opening::at_least(name, value, least)?;
        }
        let (mind, limit) = opening::of_instrument(&self.settings, self.threads, self.limit)?;
        Ok(SalienceEvalSettings {
            texts: self.text.clone(),
            control_tokens: self.untrusted.allow_control_tokens,
            piece_tokens: self.piece_tokens,
            cuts: self.cuts,
            before: self.before,
            after: self.after,
            same_source: self.same_source,
            mind,
            limit,
            context_tokens: self.context_tokens,
        })
    }
}

/// Runs the command.
pub fn run(args: &SalienceArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let settings = args.settings()?;
    let source = opening::source(&args.model)?;
    let bar = printer.steps("reading", salience::readings(&settings) as u64);
    let mut progress = |done: usize| bar.set_position(done as u64);
    let measured = salience::measure(&source, &settings, &mut progress);
    let report = opening::runtime()?.block_on(measured)?;
    bar.finish_and_clear();
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        show(&report, printer)?;
    }
    Ok(CommandOutcome::Done)
}

fn show(report: &SalienceEvalReport, printer: &Printer) -> Result<(), CliError> {
    printer.line(format_args!(
        "inside one domain: pieces of {} tokens with a surprise above {SURPRISED}",
        report.piece_tokens
    ))?;
    let mut table = table("domain", "pieces");
    for inside in &report.inside {
        let name = inside.domain.clone();
        table.push(row(
            name,
            &inside.surprised,
            &inside.focus,
            Some(&inside.mean),
        ));
    }
    let (surprised, focus) = (&report.inside_surprised, &report.inside_focus);
    table.push(row("all".into(), surprised, focus, None));
    printer.table(&table)?;
    if report.cuts.is_empty() {
        return Ok(());
    }
    let source = if report.same_source {
        "the same"
    } else {
        "another"
    };
    printer.line(format_args!(
        "\nbehind a cut, from {source} source: the next piece's surprise, and Focus within {} pieces",
        report.after
    ))?;
    let mut table = self::table("cut", "cuts");
    for cut in &report.cuts {
        let name = format!("{} > {}", cut.from, cut.to);
        table.push(row(name, &cut.surprised, &cut.focus, Some(&cut.mean)));
    }
    let (surprised, focus) = (&report.control_surprised, &report.control_focus);
    table.push(row("same domain".into(), surprised, focus, None));
    let (surprised, focus) = (&report.cut_surprised, &report.cut_focus);
    table.push(row("other domain".into(), surprised, focus, None));
    printer.table(&table)
}

fn table(what: &str, counted: &str) -> Table {
    let means = ["mean S", "mean N", "mean C", "drive"];
    let titles = [&[what, counted, "surprised", "to focus"][..], &means].concat();
    Table::with_titles(titles.into_iter().map(str::to_owned).collect())
}

fn row(
    name: String,
    surprised: &Proportion,
    focus: &Proportion,
    mean: Option<&Mean>,
) -> Vec<String> {
    let mut cells = vec![
        name,
        surprised.of.to_string(),
        percent(surprised),
        percent(focus),
    ];
    if let Some(mean) = mean {
        let means = [mean.surprise, mean.novelty, mean.conflict, mean.drive];
        cells.extend(means.map(|mean| format!("{mean:.2}")));
    }
    cells
}

/// `12.3 % [11.0, 13.9]`.
fn percent(share: &Proportion) -> String {
    let [value, low, high] = [share.value, share.low, share.high].map(|x| x * 100.0);
    format!("{value:.1} % [{low:.1}, {high:.1}]")
}
