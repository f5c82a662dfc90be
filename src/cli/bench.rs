//! `sage bench`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::opening::{self, RunningArgs, RunningSettings};
use super::{CliError, CommandOutcome, Printer, Table, human_bytes};
use crate::core::core_loop::RequestCost;
use crate::core::memory::{page_faults, resident_set};
use crate::core::request::{Request, RequestContent, Stop};
use crate::core::sampling::uniform;
use crate::events::{Event, RunMode};
use crate::reads::{ReadBytes, kernel_read_bytes};
use crate::sensors::Machine;
use crate::session::opening::EngineOptions;
use crate::session::{Session, SessionPlan};
use crate::settings::keys;
use crate::store::WeightSource;

const EXAMPLES: &str = "Examples:
  sage bench MODEL
  sage bench MODEL --prompt-tokens 128,2048 --answer-tokens 64 --rounds 5
  sage bench MODEL --limit 6GiB --mind off --json

Prompts are token ids at random, the same in every run. The first prompt finds no expert in memory (cold); then each length is
read once more and answered in every round, in an order that turns round by round, and medians are reported (warm).

--json: cold{} and lengths[] with prompt_tokens, prefill_tokens_per_second, decode_tokens_per_second, time_to_first_token_ms,
decode_bytes_per_token, stall_ms_per_token, decode_hit_rate; each a median, with least and most as [least, most] under `spread`.
Besides read_bytes, kernel_read_bytes, page_faults{minor, major}, peak_rss_bytes and mode.";

/// How much of the mind takes part.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Mind {
    /// States, salience and trust as they are.
    On,
    /// The trained experts of every token, whatever the state.
    Off,
}

/// Arguments of `sage bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Checkpoint or store
    model: PathBuf,
    /// Lengths of prompts
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [128, 512])]
    prompt_tokens: Vec<usize>,
    /// Tokens of every answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    answer_tokens: usize,
    /// How often each length is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Whether the mind takes part: on, or off for the trained experts of every token
    #[arg(long, value_enum, default_value_t = Mind::On)]
    mind: Mind,
    #[command(flatten)]
    running: RunningArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Figures of one length.
#[derive(Debug, Serialize)]
struct BenchLength {
    prompt_tokens: usize,
    answer_tokens: usize,
    #[serde(flatten)]
    median: Figures<f64>,
    spread: Figures<[f64; 2]>,
}

/// What is measured of a request.
#[derive(Debug, Serialize)]
struct Figures<T> {
    prefill_tokens_per_second: T,
    decode_tokens_per_second: T,
    time_to_first_token_ms: T,
    decode_bytes_per_token: T,
    stall_ms_per_token: T,
    decode_hit_rate: T,
}

impl<T> Figures<T> {
    /// Some figure of all rounds.
    fn over(costs: &[RequestCost], figure: impl Fn(Vec<f64>) -> T) -> Self {
        let of = |field: fn(&RequestCost) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            figure(values)
        };
        Self {
            prefill_tokens_per_second: of(|cost| cost.prefill_tokens_per_second),
            decode_tokens_per_second: of(|cost| cost.decode_tokens_per_second),
            time_to_first_token_ms: of(|cost| cost.time_to_first_token_ms),
            decode_bytes_per_token: of(|cost| cost.decode_bytes_per_token),
            stall_ms_per_token: of(|cost| cost.stall_ms_per_token),
            decode_hit_rate: of(|cost| cost.decode_hit_rate),
        }
    }
}

impl BenchLength {
    fn new(prompt_tokens: usize, answer_tokens: usize, costs: &[RequestCost]) -> Self {
        let middle = |values: Vec<f64>| values.get(values.len() / 2).copied().unwrap_or(0.0);
        let ends = |values: Vec<f64>| match values[..] {
            [] => [0.0; 2],
            [first, ..] => [first, values[values.len() - 1]],
        };
        Self {
            prompt_tokens,
            answer_tokens,
            median: Figures::over(costs, middle),
            spread: Figures::over(costs, ends),
        }
    }
}

#[derive(Serialize)]
struct PageFaults {
    minor: u64,
    major: u64,
}

#[derive(Serialize)]
struct BenchReport<'a> {
    mode: &'a RunMode,
    mind: &'static str,
    rounds: usize,
    cold: BenchLength,
    lengths: Vec<BenchLength>,
    read_bytes: ReadBytes,
    kernel_read_bytes: Option<u64>,
    page_faults: PageFaults,
    peak_rss_bytes: u64,
}

/// Runs the command.
pub fn run(args: &BenchArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    args.check()?;
    let exact = args.mind == Mind::Off;
    args.running.set_threads()?;
    let longest = args.prompt_tokens.iter().copied().max().unwrap_or(0);
    let context = longest.saturating_add(args.answer_tokens);
    let RunningSettings { settings, mut mind } = args.running.resolve(exact, |sources| {
        sources.option(
            keys::ANSWER_TOKENS,
            "--answer-tokens",
            Some(args.answer_tokens),
        );
        sources.option(keys::CONTEXT_TOKENS, "--prompt-tokens", Some(context));
    })?;
    mind.budgets.focus.expert_memory = 1.0;
    let source = opening::source(&args.model)?;
    let engine = EngineOptions {
        context_tokens: context,
        chunk_tokens: settings.session.chunk_tokens,
        mind,
        degrade: args.running.degrade,
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    let plan = SessionPlan::new(engine, &settings);
    opening::runtime()?.block_on(args.measure(source, plan, printer))
}

impl BenchArgs {
    fn check(&self) -> Result<(), CliError> {
        let wrong = |what: &str| Err(CliError::request(format!("{what}, expected at least 1")));
        match () {
            () if self.prompt_tokens.contains(&0) => wrong("--prompt-tokens has a length of 0"),
            () if self.answer_tokens < 2 => Err(CliError::request(
                "--answer-tokens is too small to measure a rate, expected at least 2",
            )),
            () if self.rounds == 0 => wrong("--rounds is 0"),
            () => Ok(()),
        }
    }

    async fn measure(
        &self,
        source: Arc<dyn WeightSource>,
        plan: SessionPlan,
        printer: &Printer,
    ) -> Result<CommandOutcome, CliError> {
        let vocab = source.config().thinker.text.vocab_size;
        let mut session = opening::session(source, plan, printer).await?;
        let mode = session.mode().clone();
        printer.note(format_args!("mode: {}", mode.text));
        let lengths = &self.prompt_tokens;
        let steps = 1 + lengths.len() * self.rounds;
        let bar = printer.steps("measuring", steps as u64);
        let mut prompt = 0;
        let mut next = |tokens: usize| {
            prompt += 1;
            random_prompt(prompt, tokens, vocab)
        };
        let first = self.request(next(lengths[0]));
        let cold = BenchLength::new(
            lengths[0],
            self.answer_tokens,
            &[ask(&mut session, first).await?],
        );
        bar.inc(1);
        let mut costs = vec![Vec::new(); lengths.len()];
        for round in 0..self.rounds {
            for at in 0..lengths.len() {
                let at = (at + round) % lengths.len();
                let request = self.request(next(lengths[at]));
                costs[at].push(ask(&mut session, request).await?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let read_bytes = session.engine().read_bytes();
        session.close().await?;
        let measured = lengths.iter().zip(&costs);
        let (minor, major) = page_faults();
        let (_, peak_rss_bytes) = resident_set();
        let report = BenchReport {
            mode: &mode,
            mind: if self.mind == Mind::Off { "off" } else { "on" },
            rounds: self.rounds,
            cold,
            lengths: measured
                .map(|(tokens, costs)| BenchLength::new(*tokens, self.answer_tokens, costs))
                .collect(),
            read_bytes,
            kernel_read_bytes: kernel_read_bytes(),
            page_faults: PageFaults { minor, major },
            peak_rss_bytes,
        };
        if printer.is_json() {
            printer.json(&report)?;
        } else {
            report.show(printer)?;
        }
        Ok(CommandOutcome::Done)
    }

    fn request(&self, tokens: Vec<u32>) -> Request {
        let content = RequestContent::Tokens {
            media: Vec::new(),
            tokens,
        };
        Request {
            stop: Stop::Never,
            max_tokens: Some(self.answer_tokens),
            unmeasured: self.mind == Mind::Off,
            ..Request::new("bench", content)
        }
    }
}

/// Token ids at random, without the last of the vocabulary, where special ones stand.
fn random_prompt(prompt: u64, tokens: usize, vocab: usize) -> Vec<u32> {
    let ids = vocab.saturating_sub(64).max(1) as f64;
    let id = |at: usize| (uniform(prompt, at as u64) * ids) as u32;
    (0..tokens).map(id).collect()
}

async fn ask(session: &mut Session, request: Request) -> Result<RequestCost, CliError> {
    let mut hear = |event: Event| {
        event.emit();
        true
    };
    let (answer, _) = session.answer(request, None, &mut hear).await?;
    Ok(answer.cost)
}

impl BenchReport<'_> {
    fn show(&self, printer: &Printer) -> Result<(), CliError> {
        let mut table = Table::new([
            "prompt",
            "",
            "prefill tok/s",
            "first token",
            "decode tok/s",
            "missed/token",
            "waited/token",
            "hits",
        ]);
        let cold = std::iter::once((&self.cold, "cold"));
        for (length, when) in cold.chain(self.lengths.iter().map(|length| (length, "warm"))) {
            let figures = &length.median;
            table.row([
                length.prompt_tokens.to_string(),
                when.to_owned(),
                format!("{:.1}", figures.prefill_tokens_per_second),
                format!("{:.0} ms", figures.time_to_first_token_ms),
                format!("{:.1}", figures.decode_tokens_per_second),
                human_bytes(figures.decode_bytes_per_token as u64),
                format!("{:.1} ms", figures.stall_ms_per_token),
                format!("{:.1} %", figures.decode_hit_rate * 100.0),
            ]);
        }
        printer.table(&table)?;
        printer.line(format_args!(
            "medians of {} rounds, mind {}; peak memory {}; {} minor and {} major page faults",
            self.rounds,
            self.mind,
            human_bytes(self.peak_rss_bytes),
            self.page_faults.minor,
            self.page_faults.major,
        ))
    }
}
