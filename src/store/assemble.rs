//! Writing the records of a store, whatever their bytes come from: resumable, under a lock, the manifest last.
//!
//! A record is finished when its file has its name; it is then noted in the journal. The manifest is written last, by
//! rename, and the journal removed. Whatever the moment of a kill, the next run keeps what is finished, does the rest
//! and ends with the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::atomic::{BLOCK_BYTES, Blocks};
use super::conversion::Conversion;
use super::journal::{self, Journal};
use super::manifest::{CopiedFile, MANIFEST, Manifest, SourceShard};
use super::plan::PlannedRecord;
use super::record::{FOLDERS, RecordWriter, StoreRecord, TensorSpec};
use super::{StoreError, atomic};
use crate::checkpoint::ModelConfig;
use crate::formats::WeightFormat;

/// Read and written at a time: large enough for the disk, small enough for the caches. A multiple of any element.
const PIECE_BYTES: usize = 4 << 20;

/// Called with the bytes written since the last call, from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Fills a piece of a tensor that begins at the given byte of it; called from several threads.
pub(crate) type Fill<'a> =
    &'a (dyn Fn(&TensorSpec, u64, &mut [u8]) -> Result<(), StoreError> + Sync);

/// A store to be brought to hold certain records.
pub(crate) struct Assembly<'a> {
    pub(crate) store: &'a Path,
    pub(crate) config: &'a ModelConfig,
    pub(crate) fingerprint: &'a str,
    pub(crate) converted: Option<&'a Conversion>,
    pub(crate) source: Vec<SourceShard>,
    pub(crate) missing: &'a BTreeSet<String>,
    /// Every record that could be written, by file name.
    pub(crate) records: &'a BTreeMap<String, PlannedRecord>,
    /// Those asked for, in the order of writing.
    pub(crate) selected: &'a [String],
}

/// The records that are there, and the files still to be written.
pub(crate) struct State {
    pub(crate) done: BTreeMap<String, StoreRecord>,
    pub(crate) todo: Vec<String>,
}

impl Assembly<'_> {
    /// Reads what earlier runs left: manifest and journal, both of this very model. Writes nothing.
    pub(crate) fn state(&self) -> Result<State, StoreError> {
        let mut found = Vec::new();
        if self.store.join(MANIFEST).exists() {
            let manifest = Manifest::read(self.store)?;
            self.check_same_model(&manifest.fingerprint)?;
            found.extend(manifest.records.into_values());
        }
        if let Some(recovered) = journal::recover(self.store)? {
            // Without a sound first line nothing says whose records these are.
            if let Some(fingerprint) = recovered.fingerprint {
                self.check_same_model(&fingerprint)?;
                found.extend(recovered.records);
            }
        }
        let (mut done, mut wanted) = (BTreeMap::new(), self.selected.to_vec());
        let mut known: HashSet<String> = wanted.iter().cloned().collect();
        for record in found {
            let whole = fs::metadata(self.store.join(&record.file))
                .is_ok_and(|file| file.len() == record.file_bytes);
            if whole {
                done.insert(record.file.clone(), record);
            } else if self.records.contains_key(&record.file) && known.insert(record.file.clone()) {
                wanted.push(record.file);
            }
        }
        let todo = wanted
            .into_iter()
            .filter(|file| !done.contains_key(file))
            .collect();
        Ok(State { done, todo })
    }

    fn check_same_model(&self, found: &str) -> Result<(), StoreError> {
        if found == self.fingerprint {
            return Ok(());
        }
        let (path, expected) = (self.store.to_owned(), self.fingerprint.to_owned());
        Err(StoreError::OtherModel {
            path,
            found: found.to_owned(),
            expected,
        })
    }

    /// Writes what is not there yet, the small `files` and the manifest; answers with the state it found and the
    /// manifest.
    pub(crate) fn run(
        &self,
        files: &[(&str, Vec<u8>)],
        fill: Fill,
        progress: Progress,
    ) -> Result<(State, Manifest), StoreError> {
        fs::create_dir_all(self.store).map_err(StoreError::io("create", self.store))?;
        let _lock = lock(self.store)?;
        let state = self.state()?;
        for folder in FOLDERS {
            let folder = self.store.join(folder);
            fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
            atomic::remove_partials(&folder)?;
        }
        atomic::remove_partials(self.store)?;
        self.check_space(&state.todo)?;
        // Before anything else has a name here: a folder with a journal is recognised as unfinished.
        let journal = Mutex::new(Journal::open(self.store, self.fingerprint)?);
        let files = files
            .iter()
            .map(|(name, bytes)| put_file(self.store, name, bytes))
            .collect::<Result<_, _>>()?;
        let mut done = state.done.clone();
        for record in self.write_all(&state.todo, &journal, fill, progress)? {
            done.insert(record.file.clone(), record);
        }
        for folder in FOLDERS {
            atomic::sync_folder(&self.store.join(folder))?;
        }
        let manifest = self.manifest(done, files);
        manifest.write(self.store, self.config)?;
        journal
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .remove()?;
        atomic::sync_folder(self.store)?;
        Ok((state, manifest))
    }

    /// The manifest of a store that holds these records.
    pub(crate) fn manifest(
        &self,
        records: BTreeMap<String, StoreRecord>,
        mut files: Vec<CopiedFile>,
    ) -> Manifest {
        files.sort();
        Manifest {
            fingerprint: self.fingerprint.to_owned(),
            converted: self.converted.cloned(),
            source: self.source.clone(),
            missing: self.missing.clone(),
            files,
            records,
        }
    }

    /// Refuses to begin what the disk cannot hold.
    fn check_space(&self, todo: &[String]) -> Result<(), StoreError> {
        let needed_bytes = todo.iter().map(|file| self.records[file].file_bytes).sum();
        let free_bytes = free_bytes(self.store)?;
        if free_bytes < needed_bytes {
            return Err(StoreError::NoSpace {
                path: self.store.to_owned(),
                free_bytes,
                needed_bytes,
            });
        }
        Ok(())
    }

    /// Writes the records on a few threads, so that one reads and hashes while another waits for the disk.
    fn write_all(
        &self,
        todo: &[String],
        journal: &Mutex<Journal>,
        fill: Fill,
        progress: Progress,
    ) -> Result<Vec<StoreRecord>, StoreError> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || -> Result<Vec<StoreRecord>, StoreError> {
            let (mut buffers, mut records) = (Buffers::new(), Vec::new());
            while !failed.load(Ordering::Relaxed) {
                let Some(file) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let planned = &self.records[file];
                let written = write_record(self.store, planned, &mut buffers, fill, progress)
                    .and_then(|record| {
                        journal
                            .lock()
                            .unwrap_or_else(|poisoned| poisoned.into_inner())
                            .append(&record)?;
                        Ok(record)
                    });
                records.push(written.inspect_err(|_| failed.store(true, Ordering::Relaxed))?);
            }
            Ok(records)
        };
        let workers = super::io_threads().min(todo.len().max(1));
        let mut records = Vec::new();
        for result in super::on_threads(workers, work) {
            records.extend(result?);
        }
        Ok(records)
    }
}

/// Bytes of a tensor that are written at a time: whole blocks of any format, and of blocks only so many that their
/// numbers, widened, take no more memory than a piece of plain ones.
fn piece_bytes(format: WeightFormat) -> u64 {
    const NUMBERS: usize = PIECE_BYTES / size_of::<f32>();
    let bytes = match format.is_plain() {
        true => PIECE_BYTES,
        false => NUMBERS / format.block_numbers() * format.block_bytes(),
    };
    bytes as u64
}

/// The memory of one worker.
struct Buffers {
    piece: Vec<u8>,
    blocks: Blocks,
}

impl Buffers {
    fn new() -> Self {
        Self {
            piece: vec![0; PIECE_BYTES],
            blocks: Blocks::new(PIECE_BYTES / BLOCK_BYTES),
        }
    }
}

fn write_record(
    store: &Path,
    planned: &PlannedRecord,
    buffers: &mut Buffers,
    fill: Fill,
    progress: Progress,
) -> Result<StoreRecord, StoreError> {
    let tensors = planned.tensors.clone();
    let mut writer = RecordWriter::create(
        store,
        planned.component,
        planned.kind,
        tensors,
        &mut buffers.blocks,
    )?;
    for tensor in &planned.tensors {
        let (mut at, most_bytes) = (0, piece_bytes(tensor.dtype));
        while at < tensor.bytes {
            let bytes = (tensor.bytes - at).min(most_bytes);
            let piece = &mut buffers.piece[..bytes as usize];
            fill(tensor, at, piece)?;
            writer.write(piece)?;
            progress(bytes);
            at += bytes;
        }
    }
    writer.finish()
}

/// Bytes that may still be written where `folder` is.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64, StoreError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| StoreError::io("examine", folder)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Holds the store for this process until dropped. The lock is on the folder itself and leaves nothing behind.
pub(crate) fn lock(store: &Path) -> Result<File, StoreError> {
    let folder = File::open(store).map_err(StoreError::io("open", store))?;
    match rustix::fs::flock(
        &folder,
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    ) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Busy {
            path: store.to_owned(),
        }),
        Err(error) => Err(StoreError::io("lock", store)(error.into())),
    }
}

/// Puts a small file into the store unless it is there with the same bytes.
fn put_file(store: &Path, name: &str, bytes: &[u8]) -> Result<CopiedFile, StoreError> {
    let path = store.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
    }
    if fs::read(&path).ok().as_deref() != Some(bytes) {
        atomic::write_file(&path, bytes)?;
    }
    let blake3 = blake3::hash(bytes).to_hex().to_string();
    Ok(CopiedFile {
        file: name.to_owned(),
        bytes: bytes.len() as u64,
        blake3,
    })
}
