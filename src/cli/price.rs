//! `sage price`.

use std::path::PathBuf;

use clap::Args;

use super::opening::{self, RunningArgs, RunningSettings, SettingsArgs};
use super::text::TextArgs;
use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::core::Limit;
use crate::core::shadow::{self, Shadow};
use crate::eval::{Correlation, Document, Material, MaterialOptions, PricedExpert, Prices, price};
use crate::sensors::Machine;
use crate::session::SessionPlan;
use crate::session::exact::apply_exact_mode;
use crate::session::opening::EngineOptions;
use crate::text::Text;

const EXAMPLES: &str = "Examples:
  sage price MODEL --text BOOK.txt
  sage price MODEL --text models/tiny/heldout/*.txt --split --segments 4
  sage price MODEL --text BOOK.txt --other ANOTHER.txt --json
  sage price MODEL --text BOOK.txt --json > prices.json     for sage extract --experts price:N --prices prices.json

Every expert is denied once in every piece of text that used it, and its price is what the tokens that had used it lose:
the mean increase of their loss, nats. Convergence and trust are what the ledger makes of it together with what it
learned while reading. With other text (--other, or --split: the second half of every file's pieces) the ledger's trust
is compared with the prices there, which it has not seen: Spearman's rank correlation, intervals of 95 % over experts.";

/// Arguments of `sage price`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PriceArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// Texts to price on; documents are separated by <|endoftext|>
    #[arg(long, num_args = 1.., value_name = "FILE", required = true)]
    text: Vec<PathBuf>,
    /// Texts to hold the prices against
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with = "split")]
    other: Vec<PathBuf>,
    /// Price on the first half of every file's pieces, and hold the prices against the second
    #[arg(long)]
    split: bool,
    /// Pieces of each file (of each half) at most, spread over it [default: all]
    #[arg(long, value_name = "N")]
    segments: Option<usize>,
    /// Tokens of a piece at most [default: 160, or what memory is planned for in a large model]
    #[arg(long, value_name = "N")]
    segment_tokens: Option<usize>,
    /// Experts shown of each end of a layer
    #[arg(long, default_value_t = 4, value_name = "N")]
    top: usize,
    /// Memory limit of the whole process: 512MiB, 6GiB, 25% (of everything resident), 64slots (experts)
    #[arg(long)]
    limit: Option<Limit>,
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

/// Runs the command.
pub fn run(args: &PriceArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let running = RunningArgs {
        limit: args.limit,
        settings: args.settings.clone(),
        threads: args.threads,
        ..RunningArgs::default()
    };
    running.set_threads()?;
    let source = opening::source(&args.model)?;
    let config = &source.config().thinker.text;
    let most = shadow::segment_tokens(config);
    let tokens = args.segment_tokens.unwrap_or(most);
    if !(2..=most).contains(&tokens) {
        return Err(CliError::request(format!(
            "--segment-tokens is {tokens}; expected 2 to {most} for this model"
        )));
    }
    if args.segments == Some(0) {
        return Err(CliError::request("--segments is 0; expected at least 1"));
    }
    let text = args.untrusted.load(&*source)?;
    let (texts, other) = material(args, &text, tokens)?;
    let RunningSettings { settings, mut mind } = running.resolve(None, |_| ())?;
    apply_exact_mode(&mut mind);
    let options = EngineOptions {
        context_tokens: tokens,
        chunk_tokens: Some(tokens),
        mind,
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    let all = config.sparse_layers().count() * config.num_experts;
    let prices = opening::runtime()?.block_on(async {
        let plan = SessionPlan::of_engine(options);
        let mut session = opening::session(source, plan, printer).await?;
        let engine = session.engine_mut();
        let slots = engine.plan.limit_bytes.map_or(all, |_| 1);
        let mut shadow = Shadow::new(engine, slots)?;
        let bar = printer.steps("pricing", (texts.len() + other.len()) as u64);
        let progress = |done| bar.set_position(done as u64);
        let prices = price(engine, &mut shadow, &texts, &other, progress).await;
        bar.finish_and_clear();
        session.close().await?;
        Ok::<_, CliError>(prices?)
    })?;
    if printer.is_json() {
        printer.json(&prices)?;
    } else {
        show(&prices, args.top, printer)?;
    }
    Ok(CommandOutcome::Done)
}

/// Pieces to price on, and pieces to hold the prices against.
fn material(
    args: &PriceArgs,
    text: &Text,
    tokens: usize,
) -> Result<(Vec<Document>, Vec<Document>), CliError> {
    let reading = MaterialOptions {
        max_tokens_per_document: tokens,
        documents: None,
        items: None,
    };
    let pieces = |file: &PathBuf| -> Result<Vec<Document>, CliError> {
        let files = std::slice::from_ref(file);
        Ok(Material::read(text, files, &[], reading)?.documents)
    };
    let (mut texts, mut other) = (Vec::new(), Vec::new());
    for file in &args.text {
        let mut own = pieces(file)?;
        if args.split {
            let second = own.split_off(own.len().div_ceil(2));
            other.extend(spread(second, args.segments));
        }
        texts.extend(spread(own, args.segments));
    }
    for file in &args.other {
        other.extend(spread(pieces(file)?, args.segments));
    }
    Ok((texts, other))
}

/// At most so many of the pieces, evenly spread.
fn spread(pieces: Vec<Document>, most: Option<usize>) -> Vec<Document> {
    let (all, most) = (pieces.len(), most.unwrap_or(usize::MAX));
    if all <= most {
        return pieces;
    }
    (0..most)
        .filter_map(|at| pieces.get(at * all / most).cloned())
        .collect()
}

fn show(prices: &Prices, top: usize, printer: &Printer) -> Result<(), CliError> {
    printer.line(format_args!(
        "{} pieces scored, {} of other text; {} of experts read in shadow",
        prices.segments,
        prices.other_segments,
        human_bytes(prices.bytes_read)
    ))?;
    let mut table = Table::new([
        "layer", "expert", "tokens", "price", "conv.", "trust", "on other",
    ]);
    for layer in prices.experts.chunk_by(|a, b| a.layer == b.layer) {
        let mut layer: Vec<&PricedExpert> = layer.iter().filter(|e| e.increase.is_some()).collect();
        layer.sort_by(|a, b| b.convergence.total_cmp(&a.convergence));
        let least = layer.len().saturating_sub(top).max(top.min(layer.len()));
        let shown = layer[..top.min(layer.len())].iter().chain(&layer[least..]);
        for expert in shown {
            let nats =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:+.4}"));
            table.row([
                expert.layer.to_string(),
                expert.expert.to_string(),
                format!("{:.0}", expert.tokens),
                nats(expert.increase),
                format!("{:.2}", expert.convergence),
                format!("{:.2}", expert.trust),
                nats(expert.other_increase),
            ]);
        }
    }
    printer.table(&table)?;
    let Some(held) = &prices.held else {
        return Ok(());
    };
    printer.line(format_args!(
        "\nrank correlation with the prices on other text ({} experts):",
        held.experts
    ))?;
    let mut table = Table::new(["", "within layers", "over all"]);
    for (name, found) in [
        ("trust", &held.trust),
        ("convergence", &held.convergence),
        ("trust, shuffled", &held.shuffled),
    ] {
        table.row([name.to_owned(), within(found), pooled(found)]);
    }
    printer.table(&table)
}

fn within(c: &Correlation) -> String {
    estimate(c.within_layers, c.within_low, c.within_high)
}

fn pooled(c: &Correlation) -> String {
    estimate(c.pooled, c.pooled_low, c.pooled_high)
}

fn estimate(value: Option<f64>, low: f64, high: f64) -> String {
    value.map_or("-".to_owned(), |value| {
        format!("{value:+.2} [{low:+.2}, {high:+.2}]")
    })
}
