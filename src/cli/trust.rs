//! `sage trust`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sage_actors::protocol::{ExpertKey, Module, State, Tick};
use sage_actors::trust::state::LedgerState;
use sage_actors::trust::{ExpertTrust, Ledger};
use serde::Serialize;

use super::{CliError, CommandOutcome, Printer, Table, opening};
use crate::input::{TextFileError, read_text};
use crate::ledger::{LedgerFile, LedgerSummary, VERSION, check_model, json};
use crate::session::opening::thinker_shape;

const EXAMPLES: &str = "Examples:
  sage run SCENARIO --ledger trust.redb           learn, and keep it
  sage trust show trust.redb --top 5
  sage trust export trust.redb --out trust.json
  sage trust import trust.json --out other.redb --model MODEL

A ledger belongs to one model; another model's is refused. docs/ledger.md describes the file.";

/// Arguments of `sage trust`.
#[derive(Args)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
pub struct TrustArgs {
    #[command(subcommand)]
    command: TrustCommand,
}

#[derive(Subcommand)]
enum TrustCommand {
    /// Show the most and the least trusted experts
    Show(ShowArgs),
    /// Write a ledger as JSON, one record a line
    Export(ExportArgs),
    /// Make a ledger of exported JSON
    Import(ImportArgs),
}

#[derive(Args)]
struct ShowArgs {
    /// Ledger
    ledger: PathBuf,
    /// Only this layer, by its number in the checkpoint
    #[arg(long)]
    layer: Option<u16>,
    /// Experts at either end
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
    /// Ledger
    ledger: PathBuf,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct ImportArgs {
    /// What `sage trust export` wrote
    file: PathBuf,
    /// Ledger to make
    #[arg(long, value_name = "LEDGER")]
    out: PathBuf,
    /// Checkpoint or store that the ledger must belong to
    #[arg(value_parser = crate::cli::models::model_argument(), long)]
    model: Option<PathBuf>,
    /// Put it in the place of a ledger that is there
    #[arg(long)]
    force: bool,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

impl TrustArgs {
    /// Whether data is to be JSON.
    pub(super) fn json(&self) -> bool {
        match &self.command {
            TrustCommand::Show(args) => args.json,
            TrustCommand::Export(_) => false,
            TrustCommand::Import(args) => args.json,
        }
    }
}

/// Runs the command.
pub fn run(args: &TrustArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    match &args.command {
        TrustCommand::Show(args) => show(args, printer),
        TrustCommand::Export(args) => export(args, printer),
        TrustCommand::Import(args) => import(args, printer),
    }
}

#[derive(Serialize)]
struct TrustReport<'a> {
    #[serde(serialize_with = "crate::input::path_as_text")]
    ledger: &'a Path,
    version: u32,
    fingerprint: &'a str,
    epochs: u64,
    outcomes: u64,
    tick: Tick,
    /// In the layers shown.
    experts: usize,
    /// Of these, those that have worked or were denied.
    known: usize,
    visits: f64,
    most: Vec<TrustRow>,
    least: Vec<TrustRow>,
}

#[derive(Clone, Copy, Serialize)]
struct TrustRow {
    module: Module,
    layer: u16,
    expert: u16,
    trust: f64,
    convergence: f64,
    stability: f64,
    efficiency: f64,
    activations: f64,
    successes: f64,
    visits: f64,
    regret: f64,
    last_used: Option<Tick>,
    affinity: Affinity,
}

#[derive(Clone, Copy, Serialize)]
struct Affinity {
    wake: f64,
    focus: f64,
    rest: f64,
    dream: f64,
    threat: f64,
    depletion: f64,
}

impl TrustRow {
    fn new(key: ExpertKey, record: ExpertTrust) -> Self {
        let of = |state: State| record.affinity[state.index()];
        Self {
            module: key.layer.module,
            layer: key.layer.layer,
            expert: key.expert,
            trust: record.trust,
            convergence: record.convergence,
            stability: record.stability,
            efficiency: record.efficiency,
            activations: record.activations,
            successes: record.successes,
            visits: record.visits,
            regret: record.regret,
            last_used: record.last_used,
            affinity: Affinity {
                wake: of(State::Wake),
                focus: of(State::Focus),
                rest: of(State::Rest),
                dream: of(State::Dream),
                threat: of(State::Threat),
                depletion: of(State::Depletion),
            },
        }
    }

    /// Nothing is known of an expert that never worked and was never denied: it is at its prior.
    fn is_known(&self) -> bool {
        self.last_used.is_some() || self.regret > 0.0
    }
}

fn show(args: &ShowArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let (file, ledger) = open(&args.ledger, printer)?;
    let state = ledger.state();
    if let Some(layer) = args.layer
        && !state
            .modules
            .iter()
            .any(|module| module.head.layers.contains(&layer))
    {
        let shape = state.shape();
        return Err(CliError::request(format!(
            "--layer is {layer}; the ledger is of a {shape}"
        )));
    }
    let mut rows: Vec<TrustRow> = rows(&state)
        .filter(|row| args.layer.is_none_or(|layer| row.layer == layer))
        .collect();
    let (experts, visits) = (rows.len(), rows.iter().map(|row| row.visits).sum());
    rows.retain(TrustRow::is_known);
    // Stable: equals stay in the order of layers and experts.
    rows.sort_by(|a, b| b.trust.total_cmp(&a.trust));
    let known = rows.len();
    let most: Vec<TrustRow> = rows.iter().take(args.top).copied().collect();
    // Each expert once, also where few are known.
    let rest = &rows[most.len()..];
    let least: Vec<TrustRow> = rest.iter().rev().take(args.top).copied().collect();
    let about = file.about();
    let report = TrustReport {
        ledger: &args.ledger,
        version: VERSION,
        fingerprint: &about.fingerprint,
        epochs: file.epochs(),
        outcomes: about.outcomes,
        tick: about.tick,
        experts,
        known,
        visits,
        most,
        least,
    };
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        table(printer, &report, &state)?;
    }
    Ok(CommandOutcome::Done)
}

fn rows(state: &LedgerState) -> impl Iterator<Item = TrustRow> + '_ {
    state.modules.iter().flat_map(|module| {
        let records = module.records.iter().map(|record| record.shown());
        module
            .head
            .keys()
            .zip(records)
            .map(|(key, record)| TrustRow::new(key, record))
    })
}

fn table(printer: &Printer, report: &TrustReport<'_>, state: &LedgerState) -> Result<(), CliError> {
    printer.line(format_args!(
        "{}: {}; {} outcomes over {} ticks, {} epochs; model {}",
        report.ledger.display(),
        state.shape(),
        report.outcomes,
        report.tick,
        report.epochs,
        report.fingerprint,
    ))?;
    printer.line(format_args!(
        "of {} experts {} have worked or were denied; the others are at their prior of 0.5",
        report.experts, report.known
    ))?;
    for (title, rows) in [
        ("most trusted", &report.most),
        ("least trusted", &report.least),
    ] {
        if rows.is_empty() {
            continue;
        }
        let titles = [
            title,
            "trust",
            "convergence",
            "stability",
            "efficiency",
            "visits",
            "regret",
            "last used",
            "affinity: wake",
            "focus",
            "rest",
            "dream",
            "threat",
            "depletion",
        ];
        let mut table = Table::new(titles);
        for row in rows {
            let affinity = row.affinity;
            let module = format!("{:?}", row.module).to_lowercase();
            let two = |value: f64| format!("{value:.2}");
            let three = |value: f64| format!("{value:.3}");
            table.row([
                format!("{module} layer {} expert {}", row.layer, row.expert),
                three(row.trust),
                three(row.convergence),
                three(row.stability),
                three(row.efficiency),
                format!("{:.0}", row.visits),
                two(row.regret),
                row.last_used
                    .map_or("never".to_owned(), |tick| tick.to_string()),
                two(affinity.wake),
                two(affinity.focus),
                two(affinity.rest),
                two(affinity.dream),
                two(affinity.threat),
                two(affinity.depletion),
            ]);
        }
        printer.line("")?;
        printer.table(&table)?;
    }
    Ok(())
}

fn export(args: &ExportArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let (file, ledger) = open(&args.ledger, printer)?;
    let state = ledger.state();
    match &args.out {
        None => {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            json::write(&mut out, file.about(), &state)?;
            out.flush()?;
        }
        Some(path) => {
            json::write_file(path, file.about(), &state)?;
            printer.note(format_args!("written: {}", path.display()));
        }
    }
    Ok(CommandOutcome::Done)
}

#[derive(Serialize)]
struct Imported<'a> {
    #[serde(serialize_with = "crate::input::path_as_text")]
    ledger: &'a Path,
    fingerprint: &'a str,
    outcomes: u64,
    tick: Tick,
}

fn import(args: &ImportArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let text =
        read_text(&args.file).map_err(|error: TextFileError| CliError::Request(error.into()))?;
    let (about, state) = json::read(&args.file, &text)?;
    if let Some(model) = &args.model {
        let source = opening::source(model)?;
        // Of the shape nothing but the experts matters here.
        let shape = thinker_shape(&source.config().thinker.text, 0);
        let (fingerprint, fresh) = (source.fingerprint()?, Ledger::new(&[shape]).state());
        check_model(&args.file, &about.fingerprint, &state, &fingerprint, &fresh)?;
    }
    if args.force {
        LedgerFile::replace(&args.out, &about, &state)?;
    } else {
        LedgerFile::create(&args.out, &about, &state)?;
    }
    if printer.is_json() {
        let LedgerSummary {
            fingerprint,
            outcomes,
            tick,
        } = &about;
        printer.json(&Imported {
            ledger: &args.out,
            fingerprint,
            outcomes: *outcomes,
            tick: *tick,
        })?;
    } else {
        printer.line(format_args!(
            "{}: {}; {} outcomes over {} ticks",
            args.out.display(),
            state.shape(),
            about.outcomes,
            about.tick
        ))?;
    }
    Ok(CommandOutcome::Done)
}

/// Opens a ledger, and says where its log was not whole.
fn open(path: &Path, printer: &Printer) -> Result<(LedgerFile, Ledger), CliError> {
    let (file, ledger) = LedgerFile::open(path)?;
    opening::say_torn(file.torn_bytes(), printer);
    Ok((file, ledger))
}
