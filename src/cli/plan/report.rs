//! What `sage plan` says.

use serde::Serialize;

use super::forecast::Forecast;
use crate::cli::findings::{Finding, FindingState};
use crate::cli::trial::Measured;
use crate::cli::{CliError, Printer, human_bytes};
use crate::core::memory::Floor;
use crate::input::{KvPrecision, counted};

#[derive(Debug, Serialize)]
pub(super) struct PlanReport {
    /// The least limit.
    pub floor_bytes: u64,
    pub floor_parts: Floor,
    /// How keys and values are kept under the least limit.
    pub floor_kv_precision: KvPrecision,
    /// None: no limit.
    pub limit_bytes: Option<u64>,
    pub limit_reason: String,
    /// What this run holds beside its pool: the floor, with the chunks and the precision that it has.
    pub held_bytes: u64,
    /// What is left for experts; without a limit what all of them take.
    pub pool_bytes: u64,
    pub everything_bytes: u64,
    pub context_tokens: usize,
    pub chunk_tokens: usize,
    pub kv_precision: KvPrecision,
    /// Whether it is planned for an exact run.
    pub exact: bool,
    /// None where the model has no experts, and where no limit below everything does it.
    pub cycle_cliff_bytes: Option<u64>,
    /// The greatest limit at which a least-recently-used cache finds no expert of a token again. None where it finds some at any
    /// limit, and where the model has no experts.
    pub lru_hits_nothing_up_to_bytes: Option<u64>,
    /// None where the model has no experts.
    pub expected: Option<Forecast>,
    pub measured: Measured,
    /// Experts a token and layer that are expected.
    pub k: usize,
    /// Of the model's experts, and of the measurement.
    pub findings: Vec<Finding>,
}

impl PlanReport {
    /// For people.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
        printer.line(format_args!(
            "floor {} for a context of {}, keys and values in {}{}",
            human_bytes(self.floor_bytes),
            counted(self.context_tokens as u64, "token"),
            self.floor_kv_precision,
            if self.exact { ", exact" } else { "" }
        ))?;
        printer.line(format_args!("  {}", self.floor_parts.breakdown()))?;
        match self.limit_bytes {
            Some(limit) => printer.line(format_args!(
                "limit {}, {}: a pool of {} for experts of {}",
                human_bytes(limit),
                self.limit_reason,
                human_bytes(self.pool_bytes),
                human_bytes(self.everything_bytes - self.held_bytes)
            ))?,
            None => printer.line(format_args!(
                "no limit, {}: everything takes {}",
                self.limit_reason,
                human_bytes(self.everything_bytes)
            ))?,
        }
        if self.held_bytes > self.floor_bytes {
            printer.line(format_args!(
                "beside its pool the run holds {}: chunks of {}, keys and values in {}",
                human_bytes(self.held_bytes),
                counted(self.chunk_tokens as u64, "token"),
                self.kv_precision
            ))?;
        }
        self.show_cliff(printer)?;
        let found = self.findings.iter();
        for finding in found.filter(|finding| finding.state != FindingState::Fine) {
            finding.show(printer)?;
        }
        if let Some(rates) = self.rates() {
            printer.line(rates)?;
        }
        self.show_expected(printer)
    }

    fn show_cliff(&self, printer: &Printer) -> Result<(), CliError> {
        if self.expected.is_none() {
            return Ok(());
        }
        let all_stay = match self.cycle_cliff_bytes {
            Some(cliff) => format!(
                "from {} on all experts of one token stay in memory",
                human_bytes(cliff)
            ),
            None => "no limit below everything keeps all experts of one token in memory".to_owned(),
        };
        let lru = self.lru_hits_nothing_up_to_bytes.map(|most| {
            let most = human_bytes(most);
            format!(": up to {most} a least-recently-used cache finds none of them")
        });
        printer.line(format_args!("{all_stay}{}", lru.unwrap_or_default()))
    }

    fn rates(&self) -> Option<String> {
        let rate = |bytes: Option<f64>| Some(format!("{}/s", human_bytes(bytes? as u64)));
        Some(format!(
            "measured: experts from disk at {}, at work at {}; memory at {}",
            rate(self.measured.disk_bytes_per_second)?,
            rate(self.measured.expert_bytes_per_second)?,
            rate(self.measured.memory_bytes_per_second)?
        ))
    }

    fn show_expected(&self, printer: &Printer) -> Result<(), CliError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let speed = match (
            expected.tokens_per_second,
            expected.tokens_per_second_all_resident,
        ) {
            (Some(rate), Some(most)) => {
                format!("; {rate:.1} tokens/s (with everything in memory {most:.1})")
            }
            _ => String::new(),
        };
        printer.line(format_args!(
            "expected of the first {} of an answer behind a prompt of {}, with {} a token and layer: {:.1} % of them in memory, {} read for a token{speed}",
            counted(expected.answer_tokens as u64, "token"),
            expected.prompt_tokens,
            counted(self.k as u64, "expert"),
            expected.hit_rate * 100.0,
            human_bytes(expected.bytes_per_token as u64)
        ))
    }
}
