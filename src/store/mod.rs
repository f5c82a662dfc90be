//! The expert store: one aligned file an expert, one a router, one for the rest of each component, and a manifest that
//! accounts for every byte. See [`record`] and [`manifest`] for the format.

mod atomic;
mod error;
mod extract;
pub mod fingerprint;
mod journal;
pub mod manifest;
mod plan;
mod reader;
pub mod record;
mod verify;
mod weights;

use std::path::Path;

pub use error::StoreError;
pub use extract::{COPIED_FILES, ExtractReport, Extraction, Progress};
pub use manifest::Manifest;
pub use plan::{ExpertSelection, PlannedRecord, Selection};
pub use reader::Store;
pub use record::{ALIGNMENT_BYTES, Record, RecordKind, RecordTensor, TensorSpec};
pub use verify::{Damage, VerifyReport};
pub use weights::{
    ExpertRecord, ModelKind, Segment, TensorMeta, WeightSource, open_model, recognise,
};

/// Threads for work that is bound by the disk.
fn io_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

/// Refuses to begin what the disk cannot hold.
fn check_space(store: &Path, needed_bytes: u64) -> Result<(), StoreError> {
    let disk = rustix::fs::statvfs(store)
        .map_err(|error| StoreError::io("examine", store)(error.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free_bytes < needed_bytes {
        return Err(StoreError::NoSpace {
            path: store.to_owned(),
            free_bytes,
            needed_bytes,
        });
    }
    Ok(())
}
