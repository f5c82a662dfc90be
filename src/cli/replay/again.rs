//! `sage replay TRACE`: a recorded run again.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use sage_actors::protocol::Tick;
use sage_actors::trust::Ledger;
use serde::Serialize;

use crate::cli::opening::{self, RunningArgs};
use crate::cli::{CliError, Outcome, Printer, home};
use crate::engine::core_loop::CoreLoop;
use crate::engine::text::Text;
use crate::engine::{EngineError, EngineOptions};
use crate::kernels::InstructionSet;
use crate::ledger;
use crate::replay::{self, ReplayError, Verdict};
use crate::trace::{Header, LedgerSnapshot, Reader};

/// Arguments of `sage replay TRACE`.
#[derive(Args)]
pub struct AgainArgs {
    /// Recorded run, plain or gzip
    #[arg(requires = "how")]
    pub(super) trace: Option<PathBuf>,
    /// Run its inputs again with the model and compare every line
    #[arg(long, group = "how", requires = "trace")]
    verify: bool,
    /// Ask the mind alone again and compare every answer
    #[arg(long, group = "how", requires = "trace")]
    policy_only: bool,
    /// Checkpoint or store [default: the model in the repository]
    #[arg(long, requires = "verify")]
    model: Option<PathBuf>,
    /// Threads of the arithmetic [default: all cores]
    #[arg(long, requires = "verify")]
    threads: Option<usize>,
    /// Instruction set of the arithmetic [default: the widest]
    #[arg(long, value_enum, requires = "verify")]
    kernels: Option<Kernels>,
    /// Threads that the actors have for themselves [default: 0, they share the loop's]
    #[arg(long, value_name = "N", default_value_t = 0, requires = "trace")]
    actor_threads: usize,
    /// Read no expert ahead
    #[arg(long, requires = "verify")]
    no_read_ahead: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kernels {
    Portable,
    Avx2,
    Avx512,
}

#[derive(Serialize)]
struct Report<'a> {
    trace: String,
    how: &'static str,
    seconds: f64,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// Runs the command.
pub fn run(trace: &Path, args: &AgainArgs, printer: &Printer) -> Result<Outcome, CliError> {
    let (reader, header) = Reader::open(trace)?;
    let ledger = match &header.ledger {
        Some(snapshot) => Some((remembered(trace, snapshot)?, snapshot.tick)),
        None => None,
    };
    let started = Instant::now();
    let verdict = if args.verify {
        verify(reader, &header, ledger, args, printer)?
    } else {
        let bar = printer.counter("replaying", "ticks");
        let mut progress = |tick| bar.set_position(tick);
        let ledger = ledger.map(|(ledger, _)| ledger);
        let asked = replay::ask_again(reader, &header, ledger, &mut progress);
        let verdict = opening::runtime_of(args.actor_threads)?.block_on(asked)?;
        bar.finish_and_clear();
        verdict
    };
    let seconds = started.elapsed().as_secs_f64();
    if printer.is_json() {
        printer.json(&Report {
            trace: trace.display().to_string(),
            how: if args.verify { "verify" } else { "policy-only" },
            seconds,
            verdict: &verdict,
        })?;
    } else {
        show(&verdict, &header, args.verify, seconds, printer)?;
    }
    Ok(if verdict.equal {
        Outcome::Done
    } else {
        Outcome::No
    })
}

fn verify(
    reader: Reader,
    header: &Header,
    ledger: Option<(Ledger, Tick)>,
    args: &AgainArgs,
    printer: &Printer,
) -> Result<Verdict, CliError> {
    if let Some(kernels) = args.kernels {
        let set = match kernels {
            Kernels::Portable => InstructionSet::Portable,
            Kernels::Avx2 => InstructionSet::Avx2,
            Kernels::Avx512 => InstructionSet::Avx512,
        };
        if !set.prefer() {
            return Err(CliError::request(format!(
                "this processor has no {kernels:?}: leave --kernels out, or take portable"
            )));
        }
    }
    let running = RunningArgs {
        threads: args.threads,
        ..RunningArgs::default()
    };
    running.set_threads()?;
    let folder = match &args.model {
        Some(folder) => folder.clone(),
        None => home::store_of_own_model(printer)?,
    };
    let source = opening::source(&folder)?;
    let fingerprint = source.fingerprint()?;
    if fingerprint != header.fingerprint {
        return Err(CliError::request(format!(
            "{} is model {fingerprint}, but the recording is of {}: give --model the model that was recorded",
            folder.display(),
            header.fingerprint
        )));
    }
    let (limit, sampling) = replay::asked(header)?;
    let text = Text::load(&*source).map_err(EngineError::from)?;
    let options = EngineOptions {
        limit,
        context_tokens: header.context_tokens,
        chunk_tokens: header.chunk_tokens,
        mind: header.mind.clone(),
        degrade: header.degrade,
        base_bytes: Some(header.base_bytes),
        read_ahead: !args.no_read_ahead,
    };
    opening::runtime_of(args.actor_threads)?.block_on(async {
        let mut engine = opening::engine(source, options, printer).await?;
        if let Some((ledger, tick)) = ledger {
            engine
                .remember(ledger, Box::new(replay::KeepsNothing), tick)
                .await?;
        }
        let mut core = CoreLoop::new(engine, text, sampling, header.answer_tokens)?;
        let bar = printer.counter("replaying", "ticks");
        let mut progress = |tick| bar.set_position(tick);
        let verdict = replay::verify(reader, header.logits, &mut core, &mut progress).await;
        bar.finish_and_clear();
        core.shutdown().await;
        Ok(verdict?)
    })
}

/// The ledger beside a recording.
fn remembered(trace: &Path, snapshot: &LedgerSnapshot) -> Result<Ledger, CliError> {
    let path = trace.with_file_name(&snapshot.file);
    let refused = |problem: String| {
        CliError::request(format!(
            "{}: {problem}; the recording begins with this ledger, keep it beside it",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
    let hash = blake3::hash(text.as_bytes()).to_hex();
    if hash.as_str() != snapshot.blake3 {
        return Err(refused(format!(
            "its BLAKE3 is {hash}, the recording expects {}",
            snapshot.blake3
        )));
    }
    let (_, state) = ledger::json::read(&path, &text)?;
    Ledger::restore(state).map_err(|error| refused(error.to_string()))
}

fn show(
    verdict: &Verdict,
    header: &Header,
    with_model: bool,
    seconds: f64,
    printer: &Printer,
) -> Result<(), CliError> {
    let how = if with_model {
        "with the model, every line"
    } else {
        "the mind alone, every answer"
    };
    printer.line(format_args!("{}: {how}", header.about))?;
    if let Some(difference) = &verdict.difference {
        let tick = difference
            .tick
            .map_or(String::new(), |tick| format!(", tick {tick}"));
        printer.line(format_args!("differs at line {}{tick}:", difference.line))?;
        let at = if difference.at.is_empty() { "" } else { " " };
        printer.line(format_args!(
            "  recorded {}{at}{}: {}",
            difference.recorded_type, difference.at, difference.recorded
        ))?;
        printer.line(format_args!(
            "  replayed {}{at}{}: {}",
            difference.replayed_type, difference.at, difference.replayed
        ))?;
    }
    let end = if verdict.whole || verdict.difference.is_some() {
        ""
    } else {
        "; the recording was cut there"
    };
    let equal = if verdict.equal { "equal" } else { "not equal" };
    printer.line(format_args!(
        "{equal}: {} lines, {} ticks in {seconds:.1} s; digest {}{end}",
        verdict.lines, verdict.ticks, verdict.digest
    ))
}

impl From<ReplayError> for CliError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Trace(error) => error.into(),
            ReplayError::Engine(error) => error.into(),
            ReplayError::Mind(_) => CliError::Failed(error.into()),
            ReplayError::Lacks(_) => CliError::Request(error.into()),
        }
    }
}
