//! Opening a checkpoint: a folder with its index and headers, or a GGUF file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use super::super::fused::{self, Fused};
use super::super::gguf::{Gguf, GgufShard};
use super::super::index::{INDEX, Index, SINGLE};
use super::super::names::{HEAD, Spellings};
use super::super::{CheckpointError, HeaderError, ModelConfig, SafetensorsHeader, TensorInfo};
use super::{CONFIG, Checkpoint, Shard, read_file};
use crate::reads::{ReadCounter, ReadPurpose};

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
