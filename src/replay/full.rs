//! Full replay: the inputs again, through the model; every line must come again, byte for byte.

use super::comparison::Comparison;
use super::{ReplayError, Verdict, ticks};
use crate::engine::core_loop::{CoreLoop, Observation};
use crate::trace::{Reader, Record, Tape};

/// Runs a recording's inputs through `core`, which must be fresh and opened as the header says (`logits`: whether the
/// recording holds router logits). Stops at the first difference, or where the recording ends. `progress` hears of ticks.
///
/// # Errors
/// When the recording cannot be read, or the engine fails.
pub async fn verify(
    reader: Reader,
    logits: bool,
    core: &mut CoreLoop,
    progress: &mut dyn FnMut(u64),
) -> Result<Verdict, ReplayError> {
    let comparison = Comparison::new(reader)?;
    core.record(Tape::new(Box::new(comparison.clone()), logits));
    let mut whole = false;
    while let Some(record) = comparison.next()? {
        match record {
            Record::End { .. } => {
                whole = true;
                core.end_recording()?;
            }
            Record::Input { observation, .. } => {
                let observation: Observation =
                    serde_json::from_value(observation).map_err(|error| {
                        ReplayError::Lacks(format!("a recorded observation: {error}"))
                    })?;
                core.submit(observation);
            }
            _ => {
                core.tick(&mut |_| {}).await?;
                progress(ticks(core));
            }
        }
    }
    let (lines, digest, difference) = comparison.so_far();
    Ok(Verdict {
        equal: difference.is_none(),
        lines,
        ticks: ticks(core),
        whole,
        digest,
        difference,
    })
}
