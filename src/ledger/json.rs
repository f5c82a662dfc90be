//! A ledger as JSON, one record a line: what `sage trust export` writes and `sage trust import` reads. Numbers come back
//! bit for bit.

use std::io::Write;
use std::path::Path;

use sage_actors::protocol::Tick;
use sage_actors::trust::Ledger;
use sage_actors::trust::state::{Baselines, KeptRecord, LedgerState, ModuleHead, ModuleState};
use serde::{Deserialize, Serialize};

use super::{LedgerError, LedgerSummary, VERSION};

/// What the first key says.
const FORMAT: &str = "sage trust ledger";

/// What must be known before the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    fingerprint: String,
    outcomes: u64,
    tick: Tick,
    baselines: Baselines,
    modules: Vec<DocumentModule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentModule {
    head: ModuleHead,
    records: Vec<LedgerEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerEntry {
    layer: u16,
    expert: u16,
    record: KeptRecord,
}

/// Writes a ledger.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(
    out: &mut impl Write,
    about: &LedgerSummary,
    state: &LedgerState,
) -> std::io::Result<()> {
    let text = |value: &str| serde_json::to_string(value);
    writeln!(
        out,
        "{{\"format\":{},\"version\":{VERSION},\"fingerprint\":{},\"outcomes\":{},\"tick\":{},",
        text(FORMAT)?,
        text(&about.fingerprint)?,
        about.outcomes,
        about.tick,
    )?;
    let baselines = &state.baselines;
    let observed = serde_json::to_string(&baselines.observed)?;
    let generated = serde_json::to_string(&baselines.generated)?;
    writeln!(out, "\"baselines\":{{\"observed\":{observed},")?;
    writeln!(out, "\"generated\":{generated}}},")?;
    writeln!(out, "\"modules\":[")?;
    for (at, module) in state.modules.iter().enumerate() {
        let head = serde_json::to_string(&module.head)?;
        writeln!(out, "{{\"head\":{head},\"records\":[")?;
        let last = module.records.len().saturating_sub(1);
        for (at, (key, record)) in module.head.keys().zip(&module.records).enumerate() {
            let entry = LedgerEntry {
                layer: key.layer.layer,
                expert: key.expert,
                record: *record,
            };
            let comma = if at == last { "" } else { "," };
            writeln!(out, "{}{comma}", serde_json::to_string(&entry)?)?;
        }
        let comma = if at + 1 == state.modules.len() {
            ""
        } else {
            ","
        };
        writeln!(out, "]}}{comma}")?;
    }
    writeln!(out, "]}}")
}

/// Writes a ledger to a file that is there only once it is whole.
///
/// # Errors
/// When it cannot be written.
#[cfg(feature = "cli")]
pub fn write_file(
    path: &Path,
    about: &LedgerSummary,
    state: &LedgerState,
) -> Result<(), LedgerError> {
    let scratch = super::scratch_beside(path)?;
    let mut out = std::io::BufWriter::new(scratch.as_file());
    let written = write(&mut out, about, state).and_then(|()| out.flush());
    drop(out);
    written.map_err(LedgerError::io("write", path))?;
    let replaced = scratch.persist(path).map_err(|error| error.error);
    replaced.map(drop).map_err(LedgerError::io("write", path))
}

/// Reads what [`write()`] wrote, or a person changed; `path` is named where something is wrong.
///
/// # Errors
/// Another version, a value that no ledger can have, or text that is no such JSON; with its place.
pub fn read(path: &Path, text: &str) -> Result<(LedgerSummary, LedgerState), LedgerError> {
    let wrong = |problem: String| LedgerError::Export {
        path: path.to_owned(),
        problem,
    };
    let head: Head = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if head.format != FORMAT {
        return Err(wrong(format!(
            "format is `{}`; expected `{FORMAT}`",
            head.format
        )));
    }
    if head.version != VERSION {
        return Err(LedgerError::Version {
            path: path.to_owned(),
            found: head.version,
        });
    }
    let document: Document =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let about = LedgerSummary {
        fingerprint: document.fingerprint,
        outcomes: document.outcomes,
        tick: document.tick,
    };
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if about.fingerprint.len() != 64 || !about.fingerprint.chars().all(is_digit) {
        return Err(wrong(format!(
            "fingerprint is `{}`; expected 64 hexadecimal digits",
            about.fingerprint
        )));
    }
    let modules = document.modules.into_iter().enumerate();
    let modules = modules.map(|(at, module)| ordered(at, module, about.tick).map_err(wrong));
    let state = LedgerState {
        baselines: document.baselines,
        modules: modules.collect::<Result<_, _>>()?,
    };
    let restored = Ledger::restore(state).map_err(|error| wrong(error.to_string()))?;
    Ok((about, restored.state()))
}

/// A module whose records are all there, in order.
fn ordered(at: usize, module: DocumentModule, tick: Tick) -> Result<ModuleState, String> {
    let DocumentModule { head, records } = module;
    for (index, (key, entry)) in head.keys().zip(&records).enumerate() {
        let place = format!("modules[{at}].records[{index}]");
        if (entry.layer, entry.expert) != (key.layer.layer, key.expert) {
            return Err(format!(
                "{place} is of layer {} expert {}; expected layer {} expert {}",
                entry.layer, entry.expert, key.layer.layer, key.expert
            ));
        }
        if let Some(last) = entry.record.shown().last_used
            && last > tick
        {
            return Err(format!(
                "{place}: last_used is {last}; expected at most the ledger's tick, {tick}"
            ));
        }
    }
    Ok(ModuleState {
        records: records.into_iter().map(|entry| entry.record).collect(),
        head,
    })
}
