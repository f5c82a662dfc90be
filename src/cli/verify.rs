//! `sage verify`.

mod args;
mod case_line;
#[cfg(feature = "candle")]
mod reference;

use sage_actors::protocol::Modality;
use serde::Serialize;

use super::opening::{self, RunningSettings};
use super::{CliError, CommandOutcome, Printer};
use crate::core::EngineError;
use crate::cpu::towers::TowerSet;
use crate::cpu::voice::can_speak;
use crate::goldens::{self, CaseReport, Status, VerifyError};
use crate::sensors::Machine;
use crate::session::SessionPlan;
use crate::session::opening::EngineOptions;
use crate::store::WeightSource;

pub use args::VerifyArgs;
use case_line::show;

#[derive(Default, Serialize)]
struct CasesReport {
    cases: Vec<CaseReport>,
    passed: usize,
    failed: usize,
    skipped: usize,
    orientation: usize,
}

/// Runs the command.
pub fn run(args: &VerifyArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    let Some(goldens) = &args.goldens else {
        return with_reference(args, printer);
    };
    args.running.set_threads()?;
    let cases = goldens::cases(goldens)?;
    let source = opening::source(&args.model)?;
    let RunningSettings { settings, mind } = args.running.resolve(Some("`sage verify`"), |_| ())?;
    // Cases that speak say so themselves where the model cannot.
    let codes = goldens::codes(&cases).filter(|_| can_speak(&*source));
    let options = EngineOptions {
        context_tokens: cases
            .iter()
            .map(|case| case.context_tokens)
            .max()
            .unwrap_or(1)
            .max(1),
        chunk_tokens: Some(usize::from(args.chunk)),
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
        let mut report = CasesReport::default();
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
        Ok::<CasesReport, CliError>(report)
    })?;
    tell(&report, printer)?;
    Ok(if report.failed > 0 || report.passed == 0 {
        CommandOutcome::No
    } else {
        CommandOutcome::Done
    })
}

fn tell(report: &CasesReport, printer: &Printer) -> Result<(), CliError> {
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
fn with_reference(args: &VerifyArgs, printer: &Printer) -> Result<CommandOutcome, CliError> {
    reference::run(args, printer)
}

/// Says that there is none.
#[cfg(not(feature = "candle"))]
fn with_reference(_: &VerifyArgs, _: &Printer) -> Result<CommandOutcome, CliError> {
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
