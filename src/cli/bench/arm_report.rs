//! What is reported of one arm.

use serde::Serialize;

use super::args::BenchArgs;
use super::arms::Arm;
use super::figures::BenchLength;
use super::rounds::ArmFigures;
use super::speech::{BenchSpeech, TURN_TOKENS};
use crate::cli::{CliError, Printer, Table, human_bytes};
use crate::events::RunMode;
use crate::reads::ReadBytes;

#[derive(Serialize)]
pub(super) struct PageFaults {
    minor: u64,
    pub major: u64,
}

/// What is reported of an arm.
#[derive(Serialize)]
pub(super) struct ArmReport {
    pub mode: Option<RunMode>,
    pub mind: &'static str,
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
    pub fn new(args: &BenchArgs, arm: Arm, figures: &ArmFigures) -> Self {
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

    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
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
