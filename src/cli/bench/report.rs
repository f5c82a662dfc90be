//! What is reported, as JSON and as a table.

use serde::Serialize;

use super::args::BenchArgs;
use super::arm_report::ArmReport;
use super::arms::{Arm, Mind, turn};
use super::machine::MachineCeilings;
use super::ratios::{ArmRatios, LengthRatios};
use super::rounds::ArmFigures;
use super::routes::ForcedRouting;
use super::rows::{self, BenchRow};
use super::towers::{self, BenchHearing, BenchSeeing};
use crate::cli::{CliError, Printer, Table};
use crate::store::WeightSource;

/// An arm beside the others.
#[derive(Serialize)]
pub(super) struct ComparedArm {
    arm: String,
    #[serde(flatten)]
    report: ArmReport,
    /// By the first arm; none of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratios: Option<ArmRatios>,
}

/// Every arm with what it came to, the first one first.
pub(super) fn compared(args: &BenchArgs, arms: &[Arm], figures: &[ArmFigures]) -> Vec<ComparedArm> {
    let ratios = |of: &ArmFigures| ArmRatios::new(&args.prompt_tokens, &figures[0], of);
    let all = arms.iter().zip(figures).enumerate();
    all.map(|(at, (arm, of))| ComparedArm {
        arm: arm.name(),
        report: ArmReport::new(args, *arm, of),
        ratios: (at > 0).then(|| ratios(of)),
    })
    .collect()
}

/// The whole report.
#[derive(Serialize)]
pub(super) struct BenchReport<'a> {
    #[serde(flatten)]
    first: &'a ArmReport,
    /// Where routing is forced, and the answers mean nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    forced_routing: Option<ForcedRouting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hearing: Option<BenchHearing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seeing: Option<BenchSeeing>,
    arms: &'a [ComparedArm],
    rows: Vec<BenchRow>,
    machine: MachineCeilings,
    /// Of every round the numbers of the arms in the order in which they were measured.
    turns: Vec<Vec<usize>>,
}

impl<'a> BenchReport<'a> {
    pub fn new(
        rounds: usize,
        routing: Option<ForcedRouting>,
        arms: &'a [ComparedArm],
        source: &dyn WeightSource,
    ) -> Self {
        let rows = arms.iter().flat_map(|of| {
            // With a mind tokens have as many experts as it says.
            let bytes = match of.report.mind == Mind::Off.name() {
                true => rows::token_bytes(source, routing.as_ref().map(ForcedRouting::k)),
                false => None,
            };
            rows::rows(&of.arm, &of.report, bytes)
        });
        Self {
            first: &arms[0].report,
            hearing: None,
            seeing: None,
            arms,
            rows: rows.collect(),
            forced_routing: routing.clone(),
            machine: MachineCeilings::measure(source),
            turns: (0..rounds).map(|round| turn(arms.len(), round)).collect(),
        }
    }

    /// With what towers took.
    #[must_use]
    pub fn with_towers(self, hearing: Option<BenchHearing>, seeing: Option<BenchSeeing>) -> Self {
        Self {
            hearing,
            seeing,
            ..self
        }
    }

    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
        if printer.is_json() {
            return printer.json(self);
        }
        if let Some(routing) = &self.forced_routing {
            printer.line(routing.words())?;
        }
        for compared in self.arms {
            if self.arms.len() > 1 {
                printer.line(&compared.arm)?;
            }
            compared.report.show(printer)?;
        }
        towers::show(self.hearing.as_ref(), self.seeing.as_ref(), printer)?;
        self.show_ratios(printer)?;
        self.machine.show(printer)
    }

    fn show_ratios(&self, printer: &Printer) -> Result<(), CliError> {
        if self.arms.len() < 2 {
            return Ok(());
        }
        let mut table = Table::new([
            "against the first arm",
            "prompt",
            "",
            "prefill",
            "first token",
            "decode",
        ]);
        for compared in self.arms {
            let Some(ratios) = &compared.ratios else {
                continue;
            };
            let cold = std::iter::once((&ratios.cold, "cold"));
            for (length, when) in cold.chain(ratios.lengths.iter().map(|of| (of, "warm"))) {
                table.row(ratio_row(&compared.arm, length, when));
            }
        }
        printer.table(&table)?;
        for compared in self.arms {
            if let Some(speech) = compared.ratios.as_ref().and_then(|of| of.speech.as_ref()) {
                let (arm, ratio) = (&compared.arm, speech.real_time_factor);
                printer.line(format_args!("{arm}: speech {ratio:.2}"))?;
            }
        }
        printer.line("ratios are medians over rounds, with the least and the greatest; above 1 is faster, of the first token later")
    }
}

fn ratio_row(arm: &str, length: &LengthRatios, when: &str) -> [String; 6] {
    let (median, spread) = (&length.median, &length.spread);
    let shown =
        |middle: f64, [least, most]: [f64; 2]| format!("{middle:.2} [{least:.2}, {most:.2}]");
    [
        arm.to_owned(),
        length.prompt_tokens.to_string(),
        when.to_owned(),
        shown(
            median.prefill_tokens_per_second,
            spread.prefill_tokens_per_second,
        ),
        shown(median.time_to_first_token_ms, spread.time_to_first_token_ms),
        shown(
            median.decode_tokens_per_second,
            spread.decode_tokens_per_second,
        ),
    ]
}
