//! `--record`: what every command that records a run shares.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::core::Engine;
use crate::ledger;
use crate::replay::{self, ReplayError};
use crate::trace::{Tape, TraceError};

/// Options of recording.
#[derive(Args, Debug, Default)]
pub struct RecordArgs {
    /// Record every input, decision and token into this file, for `sage replay` (docs/traces.md)
    #[arg(long, value_name = "TRACE")]
    pub record: Option<PathBuf>,
    /// Record the router logits too: then the mind can be asked again without the model
    #[arg(long, requires = "record")]
    pub record_logits: bool,
}

impl RecordArgs {
    /// Begins the recording of an engine before its first step, if one is asked for.
    pub async fn begin(
        &self,
        engine: &Engine,
        about: replay::About,
        ledger: Option<ledger::About>,
    ) -> Result<Option<Tape>, CliError> {
        let Some(path) = &self.record else {
            return Ok(None);
        };
        let about = replay::About {
            logits: self.record_logits,
            ..about
        };
        Ok(Some(
            replay::begin(path, engine, about, ledger.as_ref()).await?,
        ))
    }
}

impl From<TraceError> for CliError {
    fn from(error: TraceError) -> Self {
        CliError::Request(error.into())
    }
}

impl From<ReplayError> for CliError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Trace(error) => error.into(),
            ReplayError::Engine(error) => error.into(),
            ReplayError::Store(error) => error.into(),
            ReplayError::Ledger(error) => error.into(),
            ReplayError::Mind(_) => CliError::Failed(error.into()),
            ReplayError::Lacks(_) => CliError::Request(error.into()),
        }
    }
}
