//! The shards of a checkpoint and the tensors in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memmap2::Mmap;

use super::fused::{Fused, Uncut};
use super::header::read_no_further;
use super::names::Spellings;
use super::{
    CheckpointError, HeaderError, ModelConfig, PackedMatrix, PackedTensor, Packing, TensorInfo,
};
use crate::input::{MOST_MODEL_FILE_BYTES, open_file};
use crate::reads::{ReadCounter, ReadPurpose};

mod opening;

/// What a checkpoint says of itself.
pub(crate) const CONFIG: &str = "config.json";

struct Shard {
    name: String,
    path: Arc<Path>,
    file_bytes: u64,
    file: OnceLock<File>,
    map: OnceLock<Mmap>,
}

/// An opened checkpoint: configuration and headers in memory, weights on disk.
pub struct Checkpoint {
    folder: PathBuf,
    config: ModelConfig,
    config_json: Vec<u8>,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
    missing_shards: Vec<String>,
    spellings: Spellings,
    fused: Fused,
    notes: Vec<String>,
    reads: Arc<ReadCounter>,
    /// Files beside the weights that were asked for, and so read.
    files: Mutex<BTreeSet<String>>,
    /// Files that are not there because one GGUF file says what they would.
    made_files: BTreeMap<String, Vec<u8>>,
    /// How matrices are packed, where config.json says so.
    packing: Option<Packing>,
}

impl Checkpoint {
    /// Whether it is a GGUF file.
    pub fn is_gguf(&self) -> bool {
        self.folder.is_file()
    }

    /// Folder, or GGUF file, that it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What config.json says of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The bytes of `config.json`.
    pub fn config_json(&self) -> &[u8] {
        &self.config_json
    }

    /// The tensor of that name, if the checkpoint has it.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors by ascending name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// How many shards are there; their indices are below it.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The path of shard `shard`. Panics if there is no such shard.
    pub fn shard_path(&self, shard: usize) -> &Arc<Path> {
        &self.shards[shard].path
    }

    /// File name and size in bytes of every shard, by ascending name.
    pub fn shards(&self) -> impl Iterator<Item = (&str, u64)> {
        self.shards
            .iter()
            .map(|shard| (shard.name.as_str(), shard.file_bytes))
    }

    /// Shards of the index that are not there; empty unless opened with [`Checkpoint::open_incomplete`].
    pub fn missing_shards(&self) -> &[String] {
        &self.missing_shards
    }

    /// Bytes of everything that the shards hold.
    pub fn total_bytes(&self) -> u64 {
        let uncut = self.fused.uncut.values().map(|uncut| uncut.info.bytes);
        let tensors = self.tensors.values().map(TensorInfo::stored_bytes);
        tensors.chain(uncut).sum()
    }

    /// What someone who opens this checkpoint should know: whole sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether experts are stored fused, at least in one layer.
    pub(super) fn has_fused_experts(&self) -> bool {
        self.fused.cut > 0 || !self.fused.uncut.is_empty()
    }

    /// Fused tensors of the wrong shape, by name.
    pub(super) fn uncut(&self) -> &BTreeMap<String, Uncut> {
        &self.fused.uncut
    }

    /// How matrices are packed; none where all of them lie there as they are.
    pub fn packing(&self) -> Option<Packing> {
        let mut tensors = self.tensors.values();
        self.packing
            .filter(|_| tensors.any(|tensor| tensor.packed.is_some()))
    }

    /// How the files spell names.
    pub(super) fn spellings(&self) -> &Spellings {
        &self.spellings
    }

    /// A file beside the weights (`tokenizer.json`, …), if it is there. Who asks reads it: it counts as read, once.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let path = Some(self.folder.join(name)).filter(|path| path.is_file())?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.insert(name.to_owned()) {
            let bytes = fs::metadata(&path).map_or(0, |found| found.len());
            self.reads.add(ReadPurpose::Other, bytes);
        }
        Some(path)
    }

    /// The bytes of a file beside the weights, or of one that a GGUF file stands for; none where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        if self.is_gguf() {
            let made = self.made_files.get(name).cloned();
            return Ok(made.or_else(|| (name == CONFIG).then(|| self.config_json.clone())));
        }
        self.file(name).map(|path| read_file(&path)).transpose()
    }

    /// What was read of it.
    pub fn reads(&self) -> &Arc<ReadCounter> {
        &self.reads
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        self.tensor(name).ok_or_else(|| CheckpointError::NoTensor {
            folder: self.folder.clone(),
            tensor: name.to_owned(),
        })
    }

    /// A packed matrix, its parts read by `read` from a byte of a shard on.
    ///
    /// # Errors
    /// As `read`; or names the part that holds what it may not.
    pub(crate) fn packed_matrix<E: From<CheckpointError>>(
        &self,
        tensor: &PackedTensor,
        read: impl Fn(usize, u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<PackedMatrix, E> {
        PackedMatrix::read(tensor, read, |part, problem| {
            E::from(CheckpointError::Packed {
                folder: self.folder.clone(),
                tensor: part.to_owned(),
                problem,
            })
        })
    }

    /// The bytes of a tensor, mapped from its shard. Every byte touched becomes resident memory of the process:
    /// use [`Checkpoint::read_into`] where that counts.
    ///
    /// # Errors
    /// If there is no such tensor, it is packed, or the shard cannot be mapped.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckpointError> {
        let info = self.info(name)?;
        if info.packed.is_some() {
            return Err(CheckpointError::Packed {
                folder: self.folder.clone(),
                tensor: info.stored_name().to_owned(),
                problem: "is packed and has no bytes of its own; read_into unpacks it".to_owned(),
            });
        }
        let shard = &self.shards[info.shard];
        let map = match shard.map.get() {
            Some(map) => map,
            None => {
                let file = self.shard_file(shard)?;
                // SAFETY: the map is read-only and checkpoint files are not modified while in use; a file that is
                // truncated meanwhile ends the process, as with every mapped weight file.
                let map = unsafe { Mmap::map(file) }.map_err(|source| io(&shard.path, source))?;
                shard.map.get_or_init(|| map)
            }
        };
        let (begin, end) = (info.offset as usize, (info.offset + info.bytes) as usize);
        map.get(begin..end).ok_or_else(|| {
            let problem = format!("shrank to {} bytes since it was opened", map.len());
            HeaderError::File {
                path: shard.path.to_path_buf(),
                problem,
            }
            .into()
        })
    }

    /// Reads a tensor into `buffer`, whose length must be the tensor's; unpacks a packed one. Does not map the file.
    ///
    /// # Errors
    /// If there is no such tensor, the buffer has another size, or reading fails.
    pub fn read_into(&self, name: &str, buffer: &mut [u8]) -> Result<(), CheckpointError> {
        self.read_into_for(ReadPurpose::Other, name, buffer)
    }

    /// As [`Self::read_into`], counted for `purpose`.
    ///
    /// # Errors
    /// As [`Self::read_into`].
    pub fn read_into_for(
        &self,
        purpose: ReadPurpose,
        name: &str,
        buffer: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let info = self.info(name)?;
        if buffer.len() as u64 != info.bytes {
            let (tensor, bytes, buffer) = (name.to_owned(), info.bytes, buffer.len());
            return Err(CheckpointError::BufferSize {
                tensor,
                bytes,
                buffer,
            });
        }
        let Some(packed) = &info.packed else {
            return self.read_at_for(purpose, info.shard, info.offset, buffer);
        };
        let read = |shard, offset, part: &mut [u8]| self.read_at_for(purpose, shard, offset, part);
        let matrix = self.packed_matrix(packed, read)?;
        let stored = matrix.store(0, info.dtype, buffer);
        stored.map_err(|error| CheckpointError::Packed {
            folder: self.folder.clone(),
            tensor: info.stored_name().to_owned(),
            problem: error.to_string(),
        })
    }

    /// Reads `buffer.len()` bytes at `offset` of shard `shard`. Panics if there is no such shard.
    ///
    /// # Errors
    /// If reading fails or the file ends before.
    pub fn read_at(
        &self,
        shard: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), CheckpointError> {
        self.read_at_for(ReadPurpose::Other, shard, offset, buffer)
    }

    /// As [`Self::read_at`], counted for `purpose`.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    pub fn read_at_for(
        &self,
        purpose: ReadPurpose,
        shard: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let shard = &self.shards[shard];
        self.shard_file(shard)?
            .read_exact_at(buffer, offset)
            .map_err(|source| io(&shard.path, source))?;
        self.reads.add(purpose, buffer.len() as u64);
        Ok(())
    }

    fn shard_file<'a>(&self, shard: &'a Shard) -> Result<&'a File, CheckpointError> {
        if let Some(file) = shard.file.get() {
            return Ok(file);
        }
        let file = open_file(&shard.path).map_err(|error| io(&shard.path, error.into_io()))?;
        read_no_further(&file);
        Ok(shard.file.get_or_init(|| file))
    }
}

fn io(path: &Path, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io {
        path: path.to_owned(),
        source,
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    crate::input::read_file(path, MOST_MODEL_FILE_BYTES).map_err(|error| io(path, error.into_io()))
}
