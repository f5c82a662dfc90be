//! The shards of a checkpoint and the tensors in them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memmap2::Mmap;

use super::fused::{self, Fused, Uncut};
use super::gguf::{Gguf, GgufShard};
use super::header::read_no_further;
use super::index::{INDEX, Index, SINGLE};
use super::names::{HEAD, Spellings};
use super::{CheckpointError, HeaderError, ModelConfig, SafetensorsHeader, TensorInfo};
use crate::input::{MOST_MODEL_FILE_BYTES, open_file};
use crate::reads::{ReadCounter, ReadPurpose};

const CONFIG: &str = "config.json";

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
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`, or a text decoder in a GGUF file, reading configuration, index and headers, no
    /// weights.
    ///
    /// # Errors
    /// Names the file, key, shard or tensor that is wrong; a shard of the index that is not there is an error.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::open_with(folder.as_ref(), false)
    }

    /// As [`Checkpoint::open`], but shards that are not there only make their tensors absent
    /// ([`Checkpoint::missing_shards`] names them).
    ///
    /// # Errors
    /// As [`Checkpoint::open`], without absent shards.
    pub fn open_incomplete(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::open_with(folder.as_ref(), true)
    }

    fn open_with(folder: &Path, tolerate_missing: bool) -> Result<Self, CheckpointError> {
        if folder.is_file() {
            return Self::open_gguf(folder);
        }
        let reads = Arc::new(ReadCounter::default());
        let read_file = |path: &Path| {
            let bytes = read_file(path)?;
            reads.add(ReadPurpose::Other, bytes.len() as u64);
            Ok::<_, CheckpointError>(bytes)
        };
        let config_json = read_file(&folder.join(CONFIG))?;
        let config =
            ModelConfig::from_json(&config_json).map_err(|source| CheckpointError::Config {
                folder: folder.to_owned(),
                source,
            })?;
        let index_path = folder.join(INDEX);
        let mut notes = Vec::new();
        // As transformers does: a single file goes before an index.
        let weight_map = if folder.join(SINGLE).exists() {
            notes.extend(beside_single(folder, &index_path));
            None
        } else if index_path.exists() {
            let parsed = Index::parse(&read_file(&index_path)?);
            let problem = |problem| CheckpointError::Index {
                path: index_path.clone(),
                problem,
            };
            Some(parsed.map_err(problem)?.weight_map.0)
        } else {
            return Err(CheckpointError::NoWeights {
                folder: folder.to_owned(),
            });
        };
        let names: BTreeSet<&str> = match &weight_map {
            Some(map) => map.values().map(String::as_str).collect(),
            None => BTreeSet::from([SINGLE]),
        };
        let mut checkpoint = Self {
            folder: folder.to_owned(),
            config,
            config_json,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            missing_shards: Vec::new(),
            spellings: Spellings::default(),
            fused: Fused::default(),
            notes,
            reads: Arc::clone(&reads),
            files: Mutex::default(),
            made_files: BTreeMap::new(),
        };
        for name in names {
            checkpoint.add_shard(name, weight_map.as_ref(), tolerate_missing)?;
        }
        if let Some(map) = &weight_map {
            checkpoint.check_map(map, &index_path)?;
        }
        checkpoint.settle_layout()?;
        Ok(checkpoint)
    }

    fn open_gguf(path: &Path) -> Result<Self, CheckpointError> {
        let gguf = Gguf::read(path)?;
        let config = ModelConfig::from_json(&gguf.config_json);
        let config = config.map_err(|source| CheckpointError::Config {
            folder: path.to_owned(),
            source,
        })?;
        let reads = Arc::new(ReadCounter::default());
        let shard = |shard: GgufShard| {
            reads.add(ReadPurpose::Other, shard.header_bytes);
            let name = shard.path.file_name().unwrap_or_default();
            Shard {
                name: name.to_string_lossy().into_owned(),
                path: shard.path.into(),
                file_bytes: shard.file_bytes,
                file: OnceLock::new(),
                map: OnceLock::new(),
            }
        };
        Ok(Self {
            folder: path.to_owned(),
            config,
            config_json: gguf.config_json,
            shards: gguf.shards.into_iter().map(shard).collect(),
            tensors: gguf.tensors,
            missing_shards: Vec::new(),
            spellings: Spellings::default(),
            fused: Fused::default(),
            notes: gguf.notes,
            reads: Arc::clone(&reads),
            files: Mutex::default(),
            made_files: gguf.files,
        })
    }

    /// From what the files hold to what the model is made of: one spelling of every name, experts cut out of fused tensors,
    /// and a head of its own used where there is one.
    fn settle_layout(&mut self) -> Result<(), CheckpointError> {
        let twice = |shard: usize, tensor: String, other: &str| HeaderError::Tensor {
            path: self.shards[shard].path.to_path_buf(),
            tensor,
            problem: format!("is the same tensor as `{other}`; expected one of them"),
        };
        let mut settled = BTreeMap::new();
        for (stored, mut info) in std::mem::take(&mut self.tensors) {
            if let Cow::Owned(name) = self.spellings.canonical(&stored) {
                info.name = name;
                info.stored_as = Some(stored.into());
            }
            let (shard, stored) = (info.shard, info.stored_name().to_owned());
            if let Some(other) = settled.insert(info.name.clone(), info) {
                return Err(twice(shard, stored, other.stored_name()).into());
            }
        }
        self.fused = fused::cut(&self.config, &mut settled)
            .map_err(|(tensor, other)| twice(0, tensor, &other))?;
        if self.fused.cut > 0 {
            self.notes.push(format!(
                "{} tensors hold the experts of a whole layer (gate_up_proj, down_proj); each expert is cut out of them",
                self.fused.cut
            ));
        }
        let has_head = settled.contains_key(HEAD);
        self.notes
            .extend(self.config.settle_head(has_head).map(str::to_owned));
        self.tensors = settled;
        Ok(())
    }

    fn add_shard(
        &mut self,
        name: &str,
        weight_map: Option<&BTreeMap<String, String>>,
        tolerate_missing: bool,
    ) -> Result<(), CheckpointError> {
        let path = self.folder.join(name);
        if !path.exists() {
            let mut mapped = weight_map
                .into_iter()
                .flatten()
                .filter(|(_, shard)| *shard == name);
            if tolerate_missing {
                self.missing_shards.push(name.to_owned());
                return Ok(());
            }
            let first = mapped
                .next()
                .map(|(tensor, _)| tensor.clone())
                .unwrap_or_default();
            let (folder, tensors) = (self.folder.clone(), mapped.count() + 1);
            return Err(CheckpointError::ShardMissing {
                folder,
                shard: name.to_owned(),
                tensors,
                first,
            });
        }
        let header = SafetensorsHeader::read(&path)?;
        self.reads.add(ReadPurpose::Other, header.data_offset);
        let shard = self.shards.len();
        for found in header.tensors {
            match weight_map.map(|map| map.get(&found.name)) {
                // What the index does not list is no part of the model; what the model lacks by that is reported
                // as missing.
                Some(None) => continue,
                Some(Some(other)) if other != name => {
                    return Err(HeaderError::Tensor {
                        path,
                        tensor: found.name,
                        problem: format!("is here, but the index says it is in {other}"),
                    }
                    .into());
                }
                Some(Some(_)) | None => {}
            }
            let info = TensorInfo {
                name: found.name.clone(),
                stored_as: None,
                dtype: found.dtype,
                shape: found.shape,
                shard,
                offset: found.offset,
                bytes: found.bytes,
            };
            self.tensors.insert(found.name, info);
        }
        self.shards.push(Shard {
            name: name.to_owned(),
            path: path.into(),
            file_bytes: header.file_bytes,
            file: OnceLock::new(),
            map: OnceLock::new(),
        });
        Ok(())
    }

    /// That every tensor of the index is in its shard; the converse was checked when the shard was read.
    fn check_map(
        &self,
        map: &BTreeMap<String, String>,
        index: &Path,
    ) -> Result<(), CheckpointError> {
        for (tensor, shard) in map {
            if !self.tensors.contains_key(tensor) && !self.missing_shards.contains(shard) {
                let problem =
                    format!("`{tensor}` is said to lie in {shard}, which does not have it");
                return Err(CheckpointError::Index {
                    path: index.to_owned(),
                    problem,
                });
            }
        }
        Ok(())
    }

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
        let tensors = self.tensors.values().map(|tensor| tensor.bytes);
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

    /// The bytes of a tensor, mapped from its shard. Every byte touched becomes resident memory of the process:
    /// use [`Checkpoint::read_into`] where that counts.
    ///
    /// # Errors
    /// If there is no such tensor or the shard cannot be mapped.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckpointError> {
        let info = self.info(name)?;
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

    /// Reads a tensor into `buffer`, whose length must be the tensor's. Does not map the file.
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
        self.read_at_for(purpose, info.shard, info.offset, buffer)
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

/// What is to be said of an index beside a single file, if there is one.
fn beside_single(folder: &Path, index: &Path) -> Option<String> {
    if !index.exists() {
        return None;
    }
    let parsed = Index::parse(&read_file(index).ok()?).ok();
    let shards: BTreeSet<String> = parsed?.weight_map.0.into_values().collect();
    let gone = shards.iter().filter(|name| !folder.join(name).exists());
    let others = shards.iter().filter(|name| name.as_str() != SINGLE);
    Some(match (gone.count(), others.count()) {
        (_, 0) => return None,
        (0, others) => format!(
            "{SINGLE} and the {others} shards of {INDEX} are both there; {SINGLE} is loaded, as transformers does (delete \
             it to load the shards)"
        ),
        (gone, others) => format!(
            "{INDEX} names {others} shards, of which {gone} are not there; {SINGLE} is loaded instead, as transformers does"
        ),
    })
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
