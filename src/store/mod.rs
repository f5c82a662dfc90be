//! The expert store: one aligned file an expert, one a router, one for the rest of each component, and a manifest that
//! accounts for every byte. See [`record`] and [`manifest`] for the format.

pub mod arena;
mod assemble;
mod atomic;
pub mod direct;
mod error;
mod extract;
pub mod fingerprint;
mod floats;
mod journal;
pub mod manifest;
mod plan;
mod reader;
pub mod record;
pub mod synth;
mod uncached;
mod verify;
mod weights;

pub use assemble::Progress;
pub(crate) use atomic::write_file;
pub use error::StoreError;
pub use extract::{COPIED_FILES, ExtractReport, Extraction};
pub use floats::{FloatTensor, write_floats};
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
