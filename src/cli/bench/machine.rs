//! What this machine can do at most, measured beside the sessions.

use std::time::Duration;

use serde::Serialize;

use crate::cli::trial::ExpertSurvey;
use crate::cli::{CliError, Printer, human_bytes};
use crate::cpu::probe::{disk_rate, memory_rate};
use crate::store::WeightSource;

/// How long the disk is tried.
const DISK_TIME: Duration = Duration::from_millis(500);

/// Ceilings of the machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct MachineCeilings {
    threads: usize,
    /// At which all threads read memory; none where there was not enough to try it on.
    pub memory_bytes_per_second: Option<f64>,
    /// At which experts come from disk; none where there is none to read, or where they are holes in their files.
    pub disk_bytes_per_second: Option<f64>,
}

impl MachineCeilings {
    /// Measures them. Sessions are closed then: memory that is read for it would stand beside theirs.
    pub fn measure(source: &dyn WeightSource) -> Self {
        Self {
            threads: rayon::current_num_threads(),
            memory_bytes_per_second: memory_rate().ok(),
            disk_bytes_per_second: match ExpertSurvey::of(source, false).has_holes() {
                true => None,
                false => disk_rate(source, DISK_TIME),
            },
        }
    }

    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
        let rate = |bytes: Option<f64>| match bytes {
            Some(bytes) => format!("{}/s", human_bytes(bytes as u64)),
            None => "unknown".to_owned(),
        };
        printer.line(format_args!(
            "machine: {} threads, memory read at {}, experts from disk at {}",
            self.threads,
            rate(self.memory_bytes_per_second),
            rate(self.disk_bytes_per_second),
        ))
    }
}
