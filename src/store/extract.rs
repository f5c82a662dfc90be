//! Extraction: from a checkpoint to a store, cumulative and resumable.
//!
//! A record is finished when its file has its name; it is then noted in the journal. The manifest is written last, by
//! rename, and the journal removed. Whatever the moment of a kill, the next run keeps what is finished, does the rest
//! and ends with the same bytes.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::journal::{self, Journal};
use super::manifest::{CopiedFile, MANIFEST, Manifest, SourceShard};
use super::plan::{Plan, PlannedRecord, Selection};
use super::record::{FOLDERS, Record, RecordWriter};
use super::{StoreError, atomic, fingerprint};
use crate::checkpoint::Checkpoint;

/// Files that a model needs beside its weights.
pub const COPIED_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
];

/// Read and written at a time: large enough for the disk, small enough for the caches.
const PIECE_BYTES: usize = 4 << 20;

/// What an extraction did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Records written.
    pub written: usize,
    /// Bytes of their files.
    pub written_bytes: u64,
    /// Records asked for that were there already.
    pub kept: usize,
    /// Bytes of their files.
    pub kept_bytes: u64,
    /// Tensors of the whole model that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Whether the store then holds the whole model.
    pub complete: bool,
}

/// Called with the bytes written since the last call, from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// An extraction whose extent is known.
pub struct Extraction<'a> {
    checkpoint: &'a Checkpoint,
    store: &'a Path,
    plan: Plan,
    fingerprint: String,
}

/// The records that are there, and the files still to be written.
struct State {
    done: BTreeMap<String, Record>,
    todo: Vec<String>,
}

impl<'a> Extraction<'a> {
    /// Works out what `selection` means for this checkpoint. Writes nothing.
    ///
    /// # Errors
    /// If a tensor is misshapen, or missing and not `allow_missing`, or the selection does not fit the model.
    pub fn prepare(
        checkpoint: &'a Checkpoint,
        store: &'a Path,
        selection: &Selection,
        allow_missing: bool,
    ) -> Result<Self, StoreError> {
        if fs::canonicalize(store)
            .is_ok_and(|out| fs::canonicalize(checkpoint.folder()).is_ok_and(|from| from == out))
        {
            let problem = "is the checkpoint itself; extract into another folder";
            return Err(StoreError::NotAModel {
                path: store.to_owned(),
                problem: problem.to_owned(),
            });
        }
        let plan = Plan::new(checkpoint, selection)?;
        if let Some((first, count)) = plan.selected_missing.clone().filter(|_| !allow_missing) {
            return Err(StoreError::TensorsMissing { count, first });
        }
        let fingerprint = fingerprint::fingerprint(checkpoint)?;
        Ok(Self {
            checkpoint,
            store,
            plan,
            fingerprint,
        })
    }

    /// What would be written now, in order.
    ///
    /// # Errors
    /// If the folder holds another model's store or a damaged manifest.
    pub fn pending(&self) -> Result<Vec<&PlannedRecord>, StoreError> {
        Ok(self
            .state()?
            .todo
            .iter()
            .filter_map(|file| self.plan.records.get(file))
            .collect())
    }

    /// What [`Extraction::run`] would report now. Writes nothing.
    ///
    /// # Errors
    /// As [`Extraction::pending`].
    pub fn preview(&self) -> Result<ExtractReport, StoreError> {
        let state = self.state()?;
        Ok(self.report(&state, self.manifest(&state.done, Vec::new()), &state.todo))
    }

    fn report(&self, state: &State, manifest: Manifest, written: &[String]) -> ExtractReport {
        let bytes = |files: &[&String]| {
            files
                .iter()
                .map(|&file| self.plan.records[file].file_bytes)
                .sum()
        };
        let new: Vec<&String> = written.iter().collect();
        let todo: HashSet<&String> = state.todo.iter().collect();
        let kept: Vec<&String> = self
            .plan
            .selected
            .iter()
            .filter(|file| !todo.contains(file))
            .collect();
        ExtractReport {
            written: new.len(),
            written_bytes: bytes(&new),
            kept: kept.len(),
            kept_bytes: bytes(&kept),
            missing: self.plan.missing.iter().cloned().collect(),
            complete: manifest.is_complete(self.checkpoint.config()),
        }
    }

    /// Extracts what is not there yet and writes the manifest.
    ///
    /// # Errors
    /// If the store is busy or another model's, the disk too small, or reading or writing fails; what was finished
    /// stays and is kept by the next run.
    pub fn run(&self, progress: Progress) -> Result<ExtractReport, StoreError> {
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
        let files = copy_files(self.checkpoint, self.store)?;
        let journal = Mutex::new(Journal::open(self.store, &self.fingerprint)?);
        let mut done = state.done.clone();
        for record in self.write_all(&state.todo, &journal, progress)? {
            done.insert(record.file.clone(), record);
        }
        for folder in FOLDERS {
            atomic::sync_folder(&self.store.join(folder))?;
        }
        let manifest = self.manifest(&done, files);
        manifest.write(self.store, self.checkpoint.config())?;
        journal
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .remove()?;
        atomic::sync_folder(self.store)?;
        Ok(self.report(&state, manifest, &state.todo))
    }

    fn manifest(&self, done: &BTreeMap<String, Record>, files: Vec<CopiedFile>) -> Manifest {
        let shard = |(name, bytes): (&str, u64)| SourceShard {
            name: name.to_owned(),
            bytes,
        };
        Manifest {
            fingerprint: self.fingerprint.clone(),
            source: self.checkpoint.shards().map(shard).collect(),
            missing: self.plan.missing.clone(),
            files,
            records: done.clone(),
        }
    }

    /// Reads what earlier runs left: manifest and journal, both of this very model.
    fn state(&self) -> Result<State, StoreError> {
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
        let (mut done, mut wanted) = (BTreeMap::new(), self.plan.selected.clone());
        let mut known: HashSet<String> = wanted.iter().cloned().collect();
        for record in found {
            let whole = fs::metadata(self.store.join(&record.file))
                .is_ok_and(|file| file.len() == record.file_bytes);
            if whole {
                done.insert(record.file.clone(), record);
            } else if self.plan.records.contains_key(&record.file)
                && known.insert(record.file.clone())
            {
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
        let (path, expected) = (self.store.to_owned(), self.fingerprint.clone());
        Err(StoreError::OtherModel {
            path,
            found: found.to_owned(),
            expected,
        })
    }

    fn check_space(&self, todo: &[String]) -> Result<(), StoreError> {
        let needed_bytes = todo
            .iter()
            .map(|file| self.plan.records[file].file_bytes)
            .sum();
        super::check_space(self.store, needed_bytes)
    }

    /// Writes the records on a few threads, so that one reads and hashes while another waits for the disk.
    fn write_all(
        &self,
        todo: &[String],
        journal: &Mutex<Journal>,
        progress: Progress,
    ) -> Result<Vec<Record>, StoreError> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || -> Result<Vec<Record>, StoreError> {
            let (mut buffer, mut records) = (vec![0; PIECE_BYTES], Vec::new());
            while !failed.load(Ordering::Relaxed) {
                let Some(file) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let written = self
                    .write_record(&self.plan.records[file], &mut buffer, progress)
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
        let results: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            handles.into_iter().map(|handle| handle.join()).collect()
        });
        let mut records = Vec::new();
        for result in results {
            records.extend(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(records)
    }

    fn write_record(
        &self,
        planned: &PlannedRecord,
        buffer: &mut [u8],
        progress: Progress,
    ) -> Result<Record, StoreError> {
        let tensors = planned.tensors.clone();
        let mut writer =
            RecordWriter::create(self.store, planned.component, planned.kind, tensors)?;
        for tensor in &planned.tensors {
            let Some(info) = self.checkpoint.tensor(&tensor.name) else {
                return Err(StoreError::TensorsMissing {
                    count: 1,
                    first: tensor.name.clone(),
                });
            };
            let mut at = 0;
            while at < info.bytes {
                let piece = (info.bytes - at).min(buffer.len() as u64);
                let piece_buffer = &mut buffer[..piece as usize];
                self.checkpoint
                    .read_at(info.shard, info.offset + at, piece_buffer)?;
                writer.write(piece_buffer)?;
                progress(piece);
                at += piece;
            }
        }
        writer.finish()
    }
}

/// Holds the store for this process until dropped. The lock is on the folder itself and leaves nothing behind.
pub(super) fn lock(store: &Path) -> Result<File, StoreError> {
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

fn copy_files(checkpoint: &Checkpoint, store: &Path) -> Result<Vec<CopiedFile>, StoreError> {
    let mut copied = Vec::new();
    for name in COPIED_FILES {
        let Some(source) = checkpoint.file(name) else {
            continue;
        };
        let bytes = fs::read(&source).map_err(StoreError::io("read", &source))?;
        copied.push(put_file(store, name, &bytes)?);
    }
    copied.sort();
    Ok(copied)
}

/// Puts a small file into the store unless it is there with the same bytes.
pub(super) fn put_file(store: &Path, name: &str, bytes: &[u8]) -> Result<CopiedFile, StoreError> {
    let path = store.join(name);
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
