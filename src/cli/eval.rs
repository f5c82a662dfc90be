//! `sage eval`.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use clap::Args;
use sage_actors::config::EvictionPolicy;
use sage_actors::protocol::State;

use super::listening::ListenArgs;
use super::names::by_name;
use super::opening::{self, RunningArgs, SettingsArgs};
use super::printable::printable;
use super::text::TextArgs;
use super::{CliError, CommandOutcome, Printer, SizeError, Table, human_bytes};
use crate::eval::{
    self, ArmPolicy, ArmReport, Estimate, EvalReport, EvalSettings, Evaluation, Job,
    MaterialOptions, NamedLimit, TasksReport, TextReport, arms,
};
use crate::input::KvPrecision;

const EXAMPLES: &str = "Examples:
  sage eval MODEL --text BOOK.txt --tasks QUESTIONS.jsonl
  sage eval MODEL --text models/tiny/heldout/*.txt --limits none,96slots,48slots --documents 8
  sage eval MODEL --text models/tiny/heldout/*.txt --states wake --documents 8 --kv bf16,q8
  sage eval MODEL --tasks models/tiny/tasks/*.jsonl --items 25 --states wake,rest --policy topk,salient,sage
  sage eval MODEL --text BOOK.txt --limits 6GiB --out prices.jsonl     killed and started again, it goes on

Every arm is a state held, a policy and a limit; the exact arm (trained k, exact routing) runs under every limit and
the others are compared with it. Each token of a text is a step of its own with real residency; the oracle of the
divergence is exact routing without a limit. An arm reads and answers in processes of its own: the limit and the peak
of memory are theirs. Within each, what is resident and trusted carries over from one document or item to the next,
so --out resumes between processes, never inside one; salience says nothing of its first eight segments of 32 tokens.
Intervals are 95 % percentiles of 2,000 resamples of documents or items; `tie`: the interval of the difference to
exact contains 0.";

/// Arguments of `sage eval`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// Checkpoint or store
    #[arg(value_parser = crate::cli::models::model_argument())]
    model: PathBuf,
    /// Texts to read; documents are separated by <|endoftext|>
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "tasks")]
    text: Vec<PathBuf>,
    /// Tasks to answer: lines of JSON with `task`, `prompt` and `answer`
    #[arg(long, num_args = 1.., value_name = "FILE")]
    tasks: Vec<PathBuf>,
    /// States to hold
    #[arg(long, value_parser = by_name::<State>(), value_delimiter = ',', default_values_t = STATES)]
    states: Vec<State>,
    /// How routers choose
    #[arg(long, value_parser = by_name::<ArmPolicy>(), value_delimiter = ',', default_values_t = [ArmPolicy::Salient])]
    policy: Vec<ArmPolicy>,
    /// Memory limits of an arm's process: none, 512MiB, 25%, 48slots, …
    #[arg(long, value_delimiter = ',', default_value = "none")]
    limits: Vec<LimitArg>,
    /// Also run exact routing with rounded keys and values: bf16, q8 (f32 is how the exact arm keeps them)
    #[arg(long, value_delimiter = ',', value_name = "PRECISION")]
    kv: Vec<KvPrecision>,
    /// Keep finished results in this file, and go on from it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A longer document is read in pieces of so many tokens, each a document with an empty context
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens_per_document: usize,
    /// Documents of each text file at most [default: all]
    #[arg(long, value_name = "N")]
    documents: Option<usize>,
    /// Items of each task file at most [default: all]
    #[arg(long, value_name = "N")]
    items: Option<usize>,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 64, value_name = "N")]
    answer_tokens: usize,
    /// Where the oracle's logits lie meanwhile: 4 bytes a token of text and entry of the vocabulary [default: TMPDIR]
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Which expert makes room [default: horizon]
    #[arg(long, value_parser = by_name::<EvictionPolicy>())]
    eviction: Option<EvictionPolicy>,
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

/// In the order in which a report lists them.
const STATES: [State; 6] = [
    State::Wake,
    State::Focus,
    State::Rest,
    State::Threat,
    State::Depletion,
    State::Dream,
];

/// A size, or none.
#[derive(Clone, Debug)]
struct LimitArg(NamedLimit);

impl FromStr for LimitArg {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        Ok(Self(NamedLimit {
            name: text.to_owned(),
            limit: text.parse()?,
        }))
    }
}

impl EvalArgs {
    fn check(&self) -> Result<(), CliError> {
        let least = [
            (
                "max-tokens-per-document",
                Some(self.max_tokens_per_document),
                2,
            ),
            ("documents", self.documents, 1),
            ("items", self.items, 1),
            ("answer-tokens", Some(self.answer_tokens), 1),
        ];
        if self.kv.contains(&KvPrecision::Exact) {
            return Err(CliError::request(
                "--kv is f32, as the exact arm has it anyway; expected bf16, q8, or both: leave f32 out",
            ));
        }
        for (name, value, least) in least {
            if let Some(value) = value {
                opening::at_least(name, value, least)?;
            }
        }
        Ok(())
    }

    fn settings(&self) -> Result<EvalSettings, CliError> {
        let running = RunningArgs {
            eviction: self.eviction,
            settings: self.settings.clone(),
            threads: self.threads,
            ..RunningArgs::default()
        };
        running.set_threads()?;
        let limits: Vec<NamedLimit> = self.limits.iter().map(|limit| limit.0.clone()).collect();
        Ok(EvalSettings {
            texts: self.text.clone(),
            tasks: self.tasks.clone(),
            reading: MaterialOptions {
                max_tokens_per_document: self.max_tokens_per_document,
                documents: self.documents,
                items: self.items,
            },
            control_tokens: self.untrusted.allow_control_tokens,
            arms: arms(&self.states, &self.policy, &limits, &self.kv),
            mind: running.resolve(None, |_| ())?.mind,
            answer_tokens: self.answer_tokens,
            record: self.out.clone(),
            scratch: self.scratch.clone(),
        })
    }
}

/// Runs the command.
pub fn run(
    args: &EvalArgs,
    listen: &ListenArgs,
    printer: &Printer,
) -> Result<CommandOutcome, CliError> {
    args.check()?;
    let settings = args.settings()?;
    let source = opening::source(&args.model)?;
    let program = std::env::current_exe()?;
    let started = Cell::new(0);
    let commands = |job: &str| {
        let mut command = Command::new(&program);
        command.arg("eval-worker").arg(&args.model);
        command.args(["--job", job]);
        started.set(started.get() + 1);
        listen.pass_on(&mut command, started.get());
        if let Some(threads) = args.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command
    };
    let evaluation = Evaluation::prepare(&*source, settings, &commands)?;
    printer.note(format_args!("mode: {}", evaluation.mode().text));
    if let (finished @ 1.., all) = evaluation.finished() {
        printer.note(format_args!(
            "going on: {finished} of {all} parts (texts or tasks of an arm) are finished"
        ));
    }
    let bar = printer.steps("evaluating", evaluation.units() as u64);
    let report = evaluation.run(&mut |arm| {
        bar.set_message(printable(arm).into_owned());
        bar.inc(1);
    });
    bar.finish_and_clear();
    show(&report?, printer)?;
    Ok(CommandOutcome::Done)
}

/// Arguments of the process of an arm; not for people.
#[derive(Args)]
pub struct WorkerArgs {
    model: PathBuf,
    #[arg(long)]
    job: String,
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs a job of [`run`].
pub fn work(args: &WorkerArgs) -> Result<CommandOutcome, CliError> {
    let running = RunningArgs {
        threads: args.threads,
        ..RunningArgs::default()
    };
    running.set_threads()?;
    let job: Job = serde_json::from_str(&args.job)
        .map_err(|error| CliError::request(format!("--job: {error}; `sage eval` gives it")))?;
    let source = opening::source(&args.model)?;
    let scratch = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let mut out = std::io::stdout().lock();
    opening::runtime()?.block_on(eval::serve(source, &job, scratch.into(), &mut out))?;
    Ok(CommandOutcome::Done)
}

fn show(report: &EvalReport, printer: &Printer) -> Result<(), CliError> {
    if printer.is_json() {
        return printer.json(report);
    }
    let texts: Vec<_> = report
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.text.as_ref()?)))
        .collect();
    let tasks: Vec<_> = report
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.tasks.as_ref()?)))
        .collect();
    if let Some((_, text)) = texts.first() {
        printer.line(format_args!(
            "text: {} documents, {} tokens scored",
            text.documents, text.tokens
        ))?;
        printer.table(&text_table(&texts))?;
        warn_of_few(printer, "document", text.documents);
    }
    if let Some((_, first)) = tasks.first() {
        if !texts.is_empty() {
            printer.line("")?;
        }
        printer.line(format_args!(
            "tasks: {} items, {} tokens of prompts and answers under {}",
            first.items, first.tokens, report.arms[0].name
        ))?;
        printer.table(&tasks_table(&tasks))?;
        warn_of_few(printer, "item", first.items);
    }
    Ok(())
}

/// Resamples of so few show too little of the spread.
const FEW: usize = 8;

fn warn_of_few(printer: &Printer, what: &str, count: usize) {
    match count {
        1 => printer.warn(format_args!(
            "one {what} says nothing of the spread: no intervals, and no tie can be told"
        )),
        2..FEW => printer.warn(format_args!(
            "intervals from {count} {what}s are too narrow: read {FEW} or more"
        )),
        _ => {}
    }
}

fn text_table(arms: &[(&ArmReport, &TextReport)]) -> Table {
    let mut table = Table::new([
        "arm",
        "k",
        "perplexity",
        "against exact",
        "KL, nats",
        "agreement, %",
        "hits",
        "missed/token",
        "denied",
        "tokens/s",
        "read",
        "peak",
    ]);
    for (arm, text) in arms {
        table.row([
            arm.name.clone(),
            arm.k.to_string(),
            shown(&text.perplexity, 1.0, 2),
            loss_against_exact(&text.nll),
            shown(&text.kl, 1.0, 4),
            shown(&text.agreement, 100.0, 1),
            format!("{:.1} %", text.hit_rate * 100.0),
            human_bytes(text.bytes_per_token as u64),
            format!("{:.3}", text.denied_mass_per_token),
            format!("{:.0}", text.measured.tokens_per_second),
            human_bytes(text.measured.read_bytes.total),
            human_bytes(text.measured.peak_rss_bytes),
        ]);
    }
    table
}

/// Exact match of every arm, then of every task, in percent.
fn tasks_table(arms: &[(&ArmReport, &TasksReport)]) -> Table {
    let mut titles: Vec<String> = ["arm", "k", "exact match, %", "against exact"]
        .map(str::to_owned)
        .into();
    let names = arms.iter().flat_map(|(_, tasks)| &tasks.tasks);
    let first = arms.first().map_or(0, |(_, tasks)| tasks.tasks.len());
    titles.extend(names.take(first).map(|task| task.task.clone()));
    titles.extend(["hits", "missed/token", "tokens/s", "read", "peak"].map(str::to_owned));
    let mut table = Table::with_titles(titles);
    for (arm, tasks) in arms {
        let mut cells = vec![
            arm.name.clone(),
            arm.k.to_string(),
            shown(&tasks.exact_match, 100.0, 1),
            points_against_exact(&tasks.exact_match),
        ];
        cells.extend(tasks.tasks.iter().map(|task| {
            let differs = task
                .exact_match
                .difference
                .is_some_and(|d| d.tie == Some(false));
            // Only where a task is another than under the exact arm is it marked.
            let mark = if differs { "*" } else { "" };
            format!("{:.0}{mark}", task.exact_match.value * 100.0)
        }));
        cells.extend([
            format!("{:.1} %", tasks.hit_rate * 100.0),
            human_bytes(tasks.bytes_per_token as u64),
            format!("{:.0}", tasks.measured.tokens_per_second),
            human_bytes(tasks.measured.read_bytes.total),
            human_bytes(tasks.measured.peak_rss_bytes),
        ]);
        table.push(cells);
    }
    table
}

/// `12.3 [11.0, 13.9]`.
fn shown(estimate: &Estimate, factor: f64, digits: usize) -> String {
    let value = estimate.value * factor;
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!(
            "{value:.digits$} [{:.digits$}, {:.digits$}]",
            low * factor,
            high * factor
        ),
        _ => format!("{value:.digits$}"),
    }
}

/// By how much the perplexity is greater, in percent: the exponential of the difference in loss.
fn loss_against_exact(nll: &Estimate) -> String {
    against_exact(nll, |nats| (libm::exp(nats) - 1.0) * 100.0, " %")
}

fn points_against_exact(matched: &Estimate) -> String {
    against_exact(matched, |share| share * 100.0, "")
}

/// A dash for the exact arm itself, `tie`, or the difference.
fn against_exact(estimate: &Estimate, scaled: impl Fn(f64) -> f64, unit: &str) -> String {
    let Some(difference) = estimate.difference else {
        return "-".to_owned();
    };
    if difference.tie == Some(true) {
        return "tie".to_owned();
    }
    let value = scaled(difference.value);
    match (difference.low, difference.high) {
        (Some(low), Some(high)) => {
            format!(
                "{value:+.1}{unit} [{:+.1}, {:+.1}]",
                scaled(low),
                scaled(high)
            )
        }
        _ => format!("{value:+.1}{unit}"),
    }
}
