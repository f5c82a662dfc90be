//! What a recording keeps beside it.

use std::path::Path;

use sage_actors::protocol::Tick;
use sage_actors::trust::Ledger;

use super::ReplayError;
use crate::input::{read_file, read_file_text};
use crate::ledger;
use crate::media::medium::{MOST_FILE_BYTES, Medium};
use crate::trace::{TraceHeader, media_path};

/// A ledger as JSON has about 300 bytes an expert.
const MOST_LEDGER_BYTES: u64 = 1 << 30;

/// Finds the contents of a sound or a picture beside the recording.
pub(super) fn fill(trace: &Path, medium: &mut Medium) -> Result<(), ReplayError> {
    let path = media_path(trace, &medium.blake3);
    let refused = |problem: String| {
        ReplayError::Lacks(format!(
            "{}: {problem}; the recording holds this {}, keep it beside it",
            path.display(),
            medium.kind.name()
        ))
    };
    let bytes = read_file(&path, MOST_FILE_BYTES).map_err(|error| refused(error.to_string()))?;
    let expected = medium.blake3.clone();
    if medium.fill(bytes) {
        return Ok(());
    }
    let path = path.display();
    Err(ReplayError::Lacks(format!(
        "{path}: its BLAKE3 is not {expected}, as the recording expects: it was changed"
    )))
}

/// The ledger beside a recording, if its header names one, and the ticks that it had seen.
pub(super) fn ledger_of(
    trace: &Path,
    header: &TraceHeader,
) -> Result<Option<(Ledger, Tick)>, ReplayError> {
    let Some(snapshot) = &header.ledger else {
        return Ok(None);
    };
    let path = trace.with_file_name(&snapshot.file);
    let refused = |problem: String| {
        ReplayError::Lacks(format!(
            "{}: {problem}; the recording begins with this ledger, keep it beside it",
            path.display()
        ))
    };
    let text = read_file_text(&path, MOST_LEDGER_BYTES);
    let text = text.map_err(|error| refused(error.to_string()))?;
    let hash = blake3::hash(text.as_bytes()).to_hex();
    if hash.as_str() != snapshot.blake3 {
        return Err(refused(format!(
            "its BLAKE3 is {hash}, the recording expects {}",
            snapshot.blake3
        )));
    }
    let (_, state) = ledger::json::read(&path, &text)?;
    let ledger = Ledger::restore(state).map_err(|error| refused(error.to_string()))?;
    Ok(Some((ledger, snapshot.tick)))
}
