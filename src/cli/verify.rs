//! `sage verify`.

#[cfg(feature = "candle")]
mod reference;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sage_actors::protocol::Modality;
use serde::Serialize;

use super::opening::{self, Resolved, RunningArgs};
use super::{CliError, Outcome, Printer};
use crate::core::EngineError;
use crate::cpu::towers::TowerSet;
use crate::cpu::voice::can_speak;
use crate::goldens::{self, CaseReport, Status, VerifyError};
use crate::sensors::Machine;
use crate::session::SessionPlan;
use crate::session::opening::EngineOptions;
use crate::store::WeightSource;

const EXAMPLES: &str = "Examples:
  sage verify CHECKPOINT --goldens CHECKPOINT/goldens
  sage verify STORE --goldens CHECKPOINT/goldens --limit 32slots --json

Goldens of another model are made with tests/export_goldens.py. Where there are none, a program built with
`cargo build --release --features candle` computes the decoder itself once more on another library, without Python:
`sage verify CHECKPOINT --reference candle`; docs/verify.md says what that proves. Exit code 1 says that something
differs, or that nothing could be compared.";

/// Implementations to compare with.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reference {
    /// The decoder on candle, in f32, a layer at a time
    Candle,
}

/// Arguments of `sage verify`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Checkpoint or store
    model: PathBuf,
    /// Folder of `<case>.safetensors` and `<case>.json`
    #[arg(long, required_unless_present = "reference")]
    goldens: Option<PathBuf>,
    /// An implementation to run beside, in place of goldens; needs a program built with it
    #[arg(long, value_enum, conflicts_with = "goldens")]
    reference: Option<Reference>,
    /// Where the reference reads its weights, such as the checkpoint that a store was made of [default: MODEL]
    #[arg(long, value_name = "FOLDER", requires = "reference")]
    reference_weights: Option<PathBuf>,
    /// What both read, as a user's message [default: a question, or a few ids where there is no tokenizer]
    #[arg(long, requires = "reference")]
    prompt: Option<String>,
    /// Token ids in place of a prompt
    #[arg(long, requires = "reference", conflicts_with = "prompt")]
    prompt_tokens: Option<String>,
    /// Tokens of the greedy continuation that is compared; 0 for the prompt alone [default: 8]
    #[arg(long, requires = "reference")]
    max_tokens: Option<usize>,
    /// Compare the first layers alone [default: all, and what comes behind them]
    #[arg(long, requires = "reference", conflicts_with = "max_tokens", value_parser = clap::value_parser!(u32).range(1..))]
    layers: Option<u32>,
    /// Tokens of a prefill chunk; the result does not depend on it
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    chunk: u16,
    #[command(flatten)]
    running: RunningArgs,
    /// Report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Default, Serialize)]
struct Report {
    cases: Vec<CaseReport>,
    passed: usize,
    failed: usize,
    skipped: usize,
    orientation: usize,
}

/// Runs the command.
pub fn run(args: &VerifyArgs, printer: &Printer) -> Result<Outcome, CliError> {
    let Some(goldens) = &args.goldens else {
        return with_reference(args, printer);
    };
    args.running.set_threads()?;
    let cases = goldens::cases(goldens)?;
    let source = opening::source(&args.model)?;
    let Resolved { settings, mind } = args.running.resolve(true, |_| ())?;
    // Cases that speak say so themselves where the model cannot.
    let codes = goldens::codes(&cases).filter(|_| can_speak(&*source));
    let options = EngineOptions {
        context_tokens: cases
            .iter()
            .map(|case| case.context_tokens)
            .max()
            .unwrap_or(1)
            .max(1),
        chunk_tokens: usize::from(args.chunk),
        mind,
        degrade: args.running.degrade,
        senses: perceivable(&*source, &cases),
        media_tokens: usize::MAX,
        speaks: codes.is_some(),
        codes: codes.unwrap_or_default(),
        ..EngineOptions::default()
    }
    .limited(settings.session.limit, Machine::of_process());
    let report = opening::runtime()?.block_on(async {
        let plan = SessionPlan::of_engine(options);
        let mut session = opening::session(source, plan, printer).await?;
        printer.note(format_args!("mode: {}", session.mode().text));
        let bar = printer.steps("goldens", cases.len() as u64);
        let mut report = Report::default();
        for case in &cases {
            let result = match goldens::run(session.engine_mut(), case).await {
                // A case that cannot be run to its end has failed; the others may still pass.
                Err(VerifyError::Case(error)) => CaseReport::failed(case, error.to_string()),
                Err(VerifyError::Engine(error)) if !matches!(error, EngineError::Mind(_)) => {
                    CaseReport::failed(case, error.to_string())
                }
                result => result?,
            };
            *match result.status {
                Status::Pass => &mut report.passed,
                Status::Fail => &mut report.failed,
                Status::Skipped => &mut report.skipped,
                Status::Orientation => &mut report.orientation,
            } += 1;
            bar.inc(1);
            if !printer.is_json() {
                bar.suspend(|| show(printer, &result))?;
            }
            report.cases.push(result);
        }
        bar.finish_and_clear();
        session.close().await?;
        Ok::<Report, CliError>(report)
    })?;
    tell(&report, printer)?;
    Ok(if report.failed > 0 || report.passed == 0 {
        Outcome::No
    } else {
        Outcome::Done
    })
}

fn tell(report: &Report, printer: &Printer) -> Result<(), CliError> {
    if printer.is_json() {
        printer.json(report)?;
    } else {
        printer.line(format_args!(
            "{} passed, {} failed, {} skipped, {} for orientation",
            report.passed, report.failed, report.skipped, report.orientation
        ))?;
    }
    if report.passed + report.failed == 0 {
        printer.warn("nothing was verified: none of these goldens can be run");
    }
    Ok(())
}

/// Compares with another implementation.
#[cfg(feature = "candle")]
fn with_reference(args: &VerifyArgs, printer: &Printer) -> Result<Outcome, CliError> {
    reference::run(args, printer)
}

/// Says that there is none.
#[cfg(not(feature = "candle"))]
fn with_reference(_: &VerifyArgs, _: &Printer) -> Result<Outcome, CliError> {
    Err(CliError::request(
        "this program was built without candle, so it has no reference to run: build it with \
         `cargo build --release --features candle`, or compare with goldens (--goldens FOLDER)",
    ))
}

/// What has to be perceived for the cases, as far as the model has towers; a case that needs one that is missing says so.
fn perceivable(source: &dyn WeightSource, cases: &[goldens::Case]) -> Vec<Modality> {
    let mut senses = goldens::senses(cases);
    senses.retain(|sense| TowerSet::new(source, &[*sense]).is_ok());
    senses
}

fn show(printer: &Printer, case: &CaseReport) -> Result<(), CliError> {
    let share = |tensor: &&goldens::TensorReport| {
        tensor.max_abs_error / tensor.tolerance.max(f64::MIN_POSITIVE)
    };
    let closest = case
        .tensors
        .iter()
        .filter(|tensor| tensor.tolerance > 0.0)
        .max_by(|a, b| share(a).total_cmp(&share(b)));
    let closest = closest.map_or(String::new(), |tensor| {
        format!(
            ", closest to its tolerance: {} ({:.1e} of {:.1e})",
            tensor.name, tensor.max_abs_error, tensor.tolerance
        )
    });
    let name = &case.name;
    match case.status {
        Status::Pass => printer.line(format_args!(
            "pass     {name}: {} tensors{closest}",
            case.tensors.len()
        )),
        Status::Fail => {
            let first = case.first_difference.as_deref().unwrap_or("(not known)");
            printer.line(format_args!("FAIL     {name}: first difference at {first}"))
        }
        Status::Skipped => printer.line(format_args!(
            "skipped  {name}: {}",
            case.reason.as_deref().unwrap_or_default()
        )),
        Status::Orientation => printer.line(format_args!(
            "no goal  {name}: for orientation only: {}",
            case.first_difference.as_deref().unwrap_or("no difference")
        )),
    }
}
