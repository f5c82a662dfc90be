//! `sage replay TRACE`: a recorded run again.

mod forked;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use forked::ForkWith;
use serde::Serialize;

use crate::cli::opening::{self, RunningArgs};
use crate::cli::{CliError, CommandOutcome, Printer, home};
use crate::kernels::InstructionSet;
use crate::replay::{self, ForkChange, ReplayVerdict, Way};
use crate::store::WeightSource;
use crate::trace::{TraceHeader, TraceReader};

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
    /// Run its inputs up to this tick, and from there another way: without what --drop names, under what --set says
    #[arg(
        long,
        group = "how",
        requires = "trace",
        requires = "other_way",
        value_name = "TICK"
    )]
    fork: Option<u64>,
    /// With --fork: the number of an observation that does not happen; may be repeated
    #[arg(long, group = "other_way", requires = "fork", value_name = "ID")]
    drop: Vec<u64>,
    /// With --fork: a setting of the mind from there on, such as mind.budgets.focus.f=0.5; may be repeated
    #[arg(long, group = "other_way", requires = "fork", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Checkpoint or store [default: the model in the repository]
    #[arg(value_parser = crate::cli::models::model_argument(), long, conflicts_with = "policy_only")]
    model: Option<PathBuf>,
    /// Threads of the arithmetic [default: all cores]
    #[arg(long, requires = "trace", conflicts_with = "policy_only")]
    threads: Option<usize>,
    /// Instruction set of the arithmetic [default: the widest]
    #[arg(long, value_name = "SET", value_parser = instructions, requires = "trace", conflicts_with = "policy_only")]
    kernels: Option<InstructionSet>,
    /// Threads that the actors have for themselves; with 0 they share the loop's
    #[arg(long, value_name = "N", default_value_t = 0, requires = "trace")]
    actor_threads: usize,
    /// Read no expert ahead
    #[arg(long, requires = "trace", conflicts_with = "policy_only")]
    no_read_ahead: bool,
}

/// The instruction set of a name.
fn instructions(name: &str) -> Result<InstructionSet, String> {
    InstructionSet::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = InstructionSet::ALL.iter().map(|set| set.name()).collect();
        format!(
            "{name} is no instruction set of this program, expected one of {}",
            known.join(", ")
        )
    })
}

#[derive(Serialize)]
struct ReplayReport<'a> {
    trace: String,
    how: &'static str,
    seconds: f64,
    #[serde(flatten)]
    verdict: &'a ReplayVerdict,
}

/// Runs the command.
pub fn run(trace: &Path, args: &AgainArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let (_, header) = TraceReader::open(trace)?;
    if let Some(tick) = args.fork {
        let change = ForkChange {
            tick,
            drop: args.drop.clone(),
            set: args.set.clone(),
        };
        let with = ForkWith {
            source: model(args, printer)?,
            read_ahead: !args.no_read_ahead,
            actor_threads: args.actor_threads,
        };
        return forked::run(trace, &header, &change, with, printer);
    }
    let started = Instant::now();
    let verdict = if args.verify {
        verify(trace, args, printer)?
    } else {
        let bar = printer.counter("replaying", "ticks");
        let mut progress = |tick| bar.set_position(tick);
        let asked = replay::ask_again(trace, &mut progress);
        let verdict = opening::runtime_of(args.actor_threads)?.block_on(asked)?;
        bar.finish_and_clear();
        verdict
    };
    let seconds = started.elapsed().as_secs_f64();
    if printer.is_json() {
        printer.json(&ReplayReport {
            trace: trace.display().to_string(),
            how: if args.verify { "verify" } else { "policy-only" },
            seconds,
            verdict: &verdict,
        })?;
    } else {
        show(&verdict, &header, args.verify, seconds, printer)?;
    }
    Ok(if verdict.equal {
        CommandOutcome::Done
    } else {
        CommandOutcome::No
    })
}

/// The model that a recording is replayed with, the arithmetic set up as it was asked for.
fn model(args: &AgainArgs, printer: &Printer) -> Result<Arc<dyn WeightSource>, CliError> {
    if let Some(set) = args.kernels
        && !set.prefer()
    {
        let set = set.name();
        return Err(CliError::request(format!(
            "this processor has no {set}: leave --kernels out, or take portable"
        )));
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
    opening::source(&folder)
}

fn verify(trace: &Path, args: &AgainArgs, printer: &Printer) -> Result<ReplayVerdict, CliError> {
    let source = model(args, printer)?;
    let bar = printer.counter("replaying", "ticks");
    let way = Way {
        read_ahead: !args.no_read_ahead,
        loading: &mut |_, _| (),
        progress: &mut |tick| bar.set_position(tick),
    };
    let verified = replay::verify_with(trace, source, way);
    let verdict = opening::runtime_of(args.actor_threads)?.block_on(verified)?;
    bar.finish_and_clear();
    Ok(verdict)
}

fn show(
    verdict: &ReplayVerdict,
    header: &TraceHeader,
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
