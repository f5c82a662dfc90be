//! Opening a checkpoint: a folder with its index and headers, or a GGUF file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use super::super::fused::{self, Fused};
use super::super::gguf::{Gguf, GgufShard};
use super::super::index::{INDEX, Index, SINGLE};
use super::super::names::{HEAD, Spellings};
use super::super::packed::{self, PackedPart, WrongPart};
use super::super::{
    CheckpointError, HeaderError, HeaderTensor, ModelConfig, SafetensorsHeader, TensorInfo,
};
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
        let wrong = |source| CheckpointError::Config {
            folder: folder.to_owned(),
            source,
        };
        let config = ModelConfig::from_json(&config_json).map_err(wrong)?;
        let packing = packed::of_text(&config_json).map_err(wrong)?;
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
            packing,
        };
        let mut integers = BTreeMap::new();
        for name in names {
            checkpoint.add_shard(name, weight_map.as_ref(), tolerate_missing, &mut integers)?;
        }
        if let Some(map) = &weight_map {
            checkpoint.check_map(map, &integers, &index_path)?;
        }
        checkpoint.settle_packed(integers)?;
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
            packing: None,
        })
    }

    /// Makes tensors of the parts of packed matrices.
    fn settle_packed(
        &mut self,
        integers: BTreeMap<String, PackedPart>,
    ) -> Result<(), CheckpointError> {
        let Some(packing) = self.packing else {
            return Ok(());
        };
        let is_incomplete = !self.missing_shards.is_empty();
        let wrong = |part: WrongPart| HeaderError::Tensor {
            path: self.shards[part.shard].path.to_path_buf(),
            tensor: part.name,
            problem: part.problem,
        };
        packed::gather(packing, integers, &mut self.tensors, is_incomplete).map_err(wrong)?;
        let packed = self
            .tensors
            .values()
            .filter(|tensor| tensor.packed.is_some());
        self.notes.push(match packed.count() {
            0 => format!("config.json says that weights are packed ({packing}); none of them is"),
            count => format!("{count} matrices are packed ({packing}); a store of them is made first: sage extract unpacks them"),
        });
        Ok(())
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
                // What is made of several parts is called like one of them.
                info.stored_as.get_or_insert(stored.into());
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
        integers: &mut BTreeMap<String, PackedPart>,
    ) -> Result<(), CheckpointError> {
        let path = self.folder.join(name);
        if !path.exists() {
            if tolerate_missing {
                self.missing_shards.push(name.to_owned());
                return Ok(());
            }
            return Err(self.without(name, weight_map));
        }
        let header = match self.packing {
            Some(_) => SafetensorsHeader::read_packed(&path)?,
            None => SafetensorsHeader::read(&path)?,
        };
        self.reads.add(ReadPurpose::Other, header.data_offset);
        let shard = self.shards.len();
        let is_listed = |tensor: &str| match weight_map.map(|map| map.get(tensor)) {
            // What the index does not list is no part of the model; what the model lacks by that is reported as missing.
            Some(None) => Ok(false),
            Some(Some(other)) if other != name => Err(HeaderError::Tensor {
                path: path.clone(),
                tensor: tensor.to_owned(),
                problem: format!("is here, but the index says it is in {other}"),
            }),
            Some(Some(_)) | None => Ok(true),
        };
        for found in header.tensors {
            if is_listed(&found.name)? {
                let name = found.name.clone();
                self.tensors.insert(name, as_it_lies(shard, found));
            }
        }
        for found in header.integers {
            if is_listed(&found.name)? {
                let part = PackedPart {
                    name: found.name.clone(),
                    shape: found.shape,
                    format: None,
                    shard,
                    offset: found.offset,
                    bytes: found.bytes,
                };
                integers.insert(found.name, part);
            }
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

    /// The error about a shard that is not there.
    fn without(
        &self,
        shard: &str,
        weight_map: Option<&BTreeMap<String, String>>,
    ) -> CheckpointError {
        let all = weight_map.into_iter().flatten();
        let mut mapped = all.filter(|(_, of)| *of == shard);
        let first = mapped.next().map(|(tensor, _)| tensor.clone());
        CheckpointError::ShardMissing {
            folder: self.folder.clone(),
            shard: shard.to_owned(),
            tensors: mapped.count() + 1,
            first: first.unwrap_or_default(),
        }
    }

    /// That every tensor of the index is in its shard; the converse was checked when the shard was read.
    fn check_map(
        &self,
        map: &BTreeMap<String, String>,
        integers: &BTreeMap<String, PackedPart>,
        index: &Path,
    ) -> Result<(), CheckpointError> {
        for (tensor, shard) in map {
            let is_there = self.tensors.contains_key(tensor) || integers.contains_key(tensor);
            if !is_there && !self.missing_shards.contains(shard) {
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

/// A tensor that is what it is in the file.
fn as_it_lies(shard: usize, found: HeaderTensor) -> TensorInfo {
    TensorInfo {
        name: found.name,
        stored_as: None,
        dtype: found.dtype,
        shape: found.shape,
        shard,
        offset: found.offset,
        bytes: found.bytes,
        packed: None,
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
