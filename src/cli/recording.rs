//! `--record`: what every command that records a run shares.

use std::path::{Path, PathBuf};

use clap::Args;
use sage_actors::trust::state::LedgerState;

use super::CliError;
use crate::engine::{Engine, EngineError};
use crate::ledger::{self, About};
use crate::replay;
use crate::store::write_file;
use crate::trace::{LedgerSnapshot, Tape, TraceError, Writer};

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
    /// Begins the recording of an engine before its first step, if one is asked for; what the ledger believes is kept beside
    /// it.
    pub async fn begin(
        &self,
        engine: &Engine,
        about: replay::About,
        ledger: Option<About>,
    ) -> Result<Option<Tape>, CliError> {
        let Some(path) = &self.record else {
            return Ok(None);
        };
        let snapshot = match ledger {
            None => None,
            Some(ledger) => {
                let state = engine.mind.trust_state().await;
                let state = state.map_err(EngineError::from)?;
                Some(keep(path, &ledger, &state)?)
            }
        };
        let about = replay::About {
            logits: self.record_logits,
            ledger: snapshot,
            ..about
        };
        let header = replay::header(engine, about)?;
        let writer = Writer::create(path, &header)?;
        Ok(Some(Tape::new(Box::new(writer), self.record_logits)))
    }
}

/// Writes the ledger beside the recording, named by its contents.
fn keep(trace: &Path, about: &About, state: &LedgerState) -> Result<LedgerSnapshot, CliError> {
    let mut text = Vec::new();
    ledger::json::write(&mut text, about, state).map_err(|error| CliError::Failed(error.into()))?;
    let hash = blake3::hash(&text).to_hex();
    let name = trace.file_name().unwrap_or_default().to_string_lossy();
    let file = format!("{name}.ledger-{}.json", &hash[..16]);
    write_file(&trace.with_file_name(&file), &text)?;
    Ok(LedgerSnapshot {
        file,
        blake3: hash.to_string(),
        tick: about.tick,
    })
}

impl From<TraceError> for CliError {
    fn from(error: TraceError) -> Self {
        CliError::Request(error.into())
    }
}
