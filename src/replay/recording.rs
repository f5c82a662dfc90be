//! What a recording begins with: its header, and the ledger beside it.

use std::path::Path;

use sage_actors::protocol::Tick;
use sage_actors::trust::Ledger;
use sage_actors::trust::state::LedgerState;

use super::{About, ReplayError, header};
use crate::core::{Engine, EngineError};
use crate::input::{read_file, read_file_text};
use crate::ledger;
use crate::media::medium::{MOST_FILE_BYTES, Medium};
use crate::store::write_file;
use crate::trace::{Header, LedgerSnapshot, Tape, Writer, media_path};

/// A ledger as JSON has about 300 bytes an expert.
const MOST_LEDGER_BYTES: u64 = 1 << 30;

/// Begins the recording of an engine before its first step; what its ledger believes, if it has one, is kept beside it.
/// A recording that stands there is not touched.
///
/// # Errors
/// When it cannot be written.
pub async fn begin(
    path: &Path,
    engine: &Engine,
    about: About,
    ledger: Option<&ledger::About>,
) -> Result<Tape, ReplayError> {
    let logits = about.logits;
    let snapshot = match ledger {
        None => None,
        Some(ledger) => {
            let state = engine.mind.trust_state().await;
            Some(keep(path, ledger, &state.map_err(EngineError::from)?)?)
        }
    };
    let header = header(engine, about, snapshot)?;
    let writer = Writer::create(path, &header)?;
    Ok(Tape::new(Box::new(writer), logits))
}

/// Writes the ledger beside the recording, named by its contents.
fn keep(
    trace: &Path,
    about: &ledger::About,
    state: &LedgerState,
) -> Result<LedgerSnapshot, ReplayError> {
    let mut text = Vec::new();
    ledger::json::write(&mut text, about, state)
        .map_err(|error| ReplayError::Lacks(format!("the ledger cannot be kept: {error}")))?;
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
    header: &Header,
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
