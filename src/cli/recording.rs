//! `--record`: what every command that records a run shares.

use std::path::PathBuf;

use clap::Args;

use crate::session::RecordingPlan;
use crate::trace::SensorMode;

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
    /// How the session is recorded, if that is asked for; `name` is of what it is recorded.
    pub fn plan(&self, name: &str, sensors: SensorMode) -> Option<RecordingPlan> {
        self.record.clone().map(|path| RecordingPlan {
            path,
            logits: self.record_logits,
            name: name.to_owned(),
            sensors,
        })
    }
}
