//! The expert store: one aligned file an expert, one a router, one for the rest of each component, and a manifest that
//! accounts for every byte. See [`record`] and [`manifest`] for the format.

pub(crate) mod assemble;
pub(crate) mod atomic;
mod checks;
pub(crate) mod conversion;
mod error;
mod extract;
pub mod fingerprint;
mod floats;
pub(crate) mod journal;
mod load_error;
pub mod manifest;
mod open;
pub(crate) mod plan;
mod reader;
pub mod record;
mod rows;
mod source;
#[cfg(feature = "hub")]
mod staged;
mod uncached;
mod verify;
mod weights;

pub use assemble::Progress;
#[cfg(feature = "cli")]
pub(crate) use atomic::AtomicFile;
pub(crate) use atomic::write_file;
pub use conversion::{Conversion, ConvertedTensors, FormatRule, name_pattern};
pub use error::StoreError;
pub use extract::{COPIED_FILES, ExtractReport, Extraction};
pub use floats::{FloatTensor, write_floats};
pub use load_error::LoadError;
pub use manifest::Manifest;
pub use open::{ModelKind, open_model, recognise};
pub use plan::{ExpertSelection, ExtractSelection, PlannedRecord};
pub use reader::Store;
pub use record::{ALIGNMENT_BYTES, RecordKind, RecordTensor, StoreRecord, TensorSpec};
pub use rows::TensorRows;
#[cfg(feature = "hub")]
pub use staged::{RecordReads, fingerprint_reads};
pub use uncached::is_direct;
pub use verify::{Damage, VerifyReport};
pub use weights::{ExpertLocation, FileSegment, TensorMeta, WeightSource};

/// Does `work` on `count` threads, this one among them, and answers with what each returned. Where the system has fewer threads
/// to give, fewer do it.
fn on_threads<T: Send>(count: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let others = (1..count).filter_map(|_| {
            let thread = std::thread::Builder::new().name("store".to_owned());
            thread.spawn_scoped(scope, &work).ok()
        });
        let others: Vec<_> = others.collect();
        let mut done = vec![work()];
        for other in others {
            done.push(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    })
}

/// Threads for work that is bound by the disk.
fn io_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}
