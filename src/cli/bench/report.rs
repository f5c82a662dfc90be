//! What is reported, as JSON and as a table.

use serde::Serialize;

use super::args::BenchArgs;
use super::arms::{Arm, Mind, turn};
use super::figures::BenchLength;
use super::machine::MachineCeilings;
use super::ratios::{ArmRatios, LengthRatios};
use super::rounds::ArmFigures;
use super::rows::{self, BenchRow};
use super::speech::{BenchSpeech, TURN_TOKENS};
use super::towers::{self, BenchHearing, BenchSeeing};
use crate::cli::{CliError, Printer, Table, human_bytes};
use crate::events::RunMode;
use crate::reads::ReadBytes;
use crate::store::WeightSource;

#[derive(Serialize)]
pub(super) struct PageFaults {
    minor: u64,
    pub major: u64,
}

/// What is reported of an arm.
#[derive(Serialize)]
pub(super) struct ArmReport {
    pub mode: Option<RunMode>,
    mind: &'static str,
    io: &'static str,
    rounds: usize,
    pub cold: BenchLength,
    pub lengths: Vec<BenchLength>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speech: Option<BenchSpeech>,
    answers_blake3: String,
    read_bytes: ReadBytes,
    kernel_read_bytes: Option<u64>,
    pub page_faults: PageFaults,
    pub peak_rss_bytes: u64,
}

impl ArmReport {
    fn new(args: &BenchArgs, arm: Arm, figures: &ArmFigures) -> Self {
        let (lengths, answer) = (&args.prompt_tokens, args.answer_tokens);
        let warm = lengths.iter().zip(&figures.warm);
        Self {
            mode: figures.mode.clone(),
            mind: arm.mind.name(),
            io: arm.io.name(),
            rounds: args.rounds,
            cold: BenchLength::new(lengths[0], answer, &figures.cold),
            lengths: warm
                .map(|(tokens, rounds)| BenchLength::new(*tokens, answer, rounds))
                .collect(),
            speech: args
                .speech
                .then(|| BenchSpeech::new(lengths[0] + TURN_TOKENS, answer, &figures.speech)),
            answers_blake3: figures.answers.finalize().to_hex().to_string(),
            read_bytes: figures.read_bytes,
            kernel_read_bytes: figures.used.kernel_read_bytes,
            page_faults: PageFaults {
                minor: figures.used.minor_faults,
                major: figures.used.major_faults,
            },
            peak_rss_bytes: figures.peak_rss_bytes,
        }
    }
}

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
        arms: &'a [ComparedArm],
        hearing: Option<BenchHearing>,
        seeing: Option<BenchSeeing>,
        source: &dyn WeightSource,
    ) -> Self {
        let rows = arms.iter().flat_map(|of| {
            // With a mind tokens have as many experts as it says.
            let bytes = match of.report.mind == Mind::Off.name() {
                true => rows::token_bytes(source),
                false => None,
            };
            rows::rows(&of.arm, &of.report, bytes)
        });
        Self {
            first: &arms[0].report,
            hearing,
            seeing,
            arms,
            rows: rows.collect(),
            machine: MachineCeilings::measure(source),
            turns: (0..rounds).map(|round| turn(arms.len(), round)).collect(),
        }
    }

    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
        if printer.is_json() {
            return printer.json(self);
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

impl ArmReport {
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
            "disk",
            "disk/s",
        ]);
        let cold = std::iter::once((&self.cold, "cold"));
        for (length, when) in cold.chain(self.lengths.iter().map(|length| (length, "warm"))) {
            table.row(row(length, when));
        }
        printer.table(&table)?;
        if let Some(speech) = &self.speech {
            speech.show(printer)?;
        }
        printer.line(format_args!(
            "medians of {} rounds, mind {}, io {}; peak memory {}; {} minor and {} major page faults",
            self.rounds,
            self.mind,
            self.io,
            human_bytes(self.peak_rss_bytes),
            self.page_faults.minor,
            self.page_faults.major,
        ))
    }
}

impl BenchSpeech {
    fn show(&self, printer: &Printer) -> Result<(), CliError> {
        let figures = &self.median;
        let mut table = Table::new([
            "speech",
            "real time",
            "first sound",
            "thinker",
            "talker",
            "code predictor",
            "vocoder",
            "rest",
            "missed/frame",
            "hits",
        ]);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        table.row([
            format!("{:.2} s", figures.sound_seconds),
            format!("{:.2}x", figures.real_time_factor),
            format!("{:.0} ms", figures.time_to_first_sound_ms),
            percent(figures.shares.thinker),
            percent(figures.shares.talker),
            percent(figures.shares.code_predictor),
            percent(figures.shares.vocoder),
            percent(figures.shares.rest),
            human_bytes(figures.bytes_per_frame as u64),
            percent(figures.hit_rate),
        ]);
        printer.table(&table)
    }
}

fn row(length: &BenchLength, when: &str) -> [String; 10] {
    let figures = &length.median;
    let known = |shown: Option<String>| shown.unwrap_or_else(|| "-".to_owned());
    [
        length.prompt_tokens.to_string(),
        when.to_owned(),
        format!("{:.1}", figures.prefill_tokens_per_second),
        format!("{:.0} ms", figures.time_to_first_token_ms),
        format!("{:.1}", figures.decode_tokens_per_second),
        human_bytes(figures.decode_bytes_per_token as u64),
        format!("{:.1} ms", figures.stall_ms_per_token),
        format!("{:.1} %", figures.decode_hit_rate * 100.0),
        known(
            figures
                .disk_duty
                .map(|duty| format!("{:.1} %", duty * 100.0)),
        ),
        known(
            figures
                .disk_bytes_per_second
                .map(|bytes| human_bytes(bytes as u64)),
        ),
    ]
}
