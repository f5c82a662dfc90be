//! What is reported, as JSON and as a table.

use serde::Serialize;

use super::figures::BenchLength;
use super::speech::BenchSpeech;
use super::towers::{self, BenchHearing, BenchSeeing};
use crate::cli::{CliError, Printer, Table, human_bytes};
use crate::events::RunMode;
use crate::reads::ReadBytes;

#[derive(Serialize)]
pub(super) struct PageFaults {
    pub minor: u64,
    pub major: u64,
}

#[derive(Serialize)]
pub(super) struct BenchReport {
    pub mode: RunMode,
    pub mind: &'static str,
    pub rounds: usize,
    pub cold: BenchLength,
    pub lengths: Vec<BenchLength>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speech: Option<BenchSpeech>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hearing: Option<BenchHearing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeing: Option<BenchSeeing>,
    pub read_bytes: ReadBytes,
    pub kernel_read_bytes: Option<u64>,
    pub page_faults: PageFaults,
    pub peak_rss_bytes: u64,
}

impl BenchReport {
    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
        if printer.is_json() {
            return printer.json(self);
        }
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
        towers::show(self.hearing.as_ref(), self.seeing.as_ref(), printer)?;
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
    [
        length.prompt_tokens.to_string(),
        when.to_owned(),
        format!("{:.1}", figures.prefill_tokens_per_second),
        format!("{:.0} ms", figures.time_to_first_token_ms),
        format!("{:.1}", figures.decode_tokens_per_second),
        human_bytes(figures.decode_bytes_per_token as u64),
        format!("{:.1} ms", figures.stall_ms_per_token),
        format!("{:.1} %", figures.decode_hit_rate * 100.0),
        format!("{:.1} %", figures.disk_duty * 100.0),
        human_bytes(figures.disk_bytes_per_second as u64),
    ]
}
