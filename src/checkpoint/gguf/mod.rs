//! A text decoder in GGUF files of llama.cpp: Qwen3-MoE, or the thinker of Qwen3-Omni. Only what is read from them differs
//! from a checkpoint: names, configuration and tokenizer become those of a `qwen3_moe` folder, and the experts of a layer
//! are cut out of their common tensor.

mod file;
mod model;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use file::MAGIC;
use file::{GgufHeader, GgufTensor, GgufValue};
use model::Metadata;
use names::{Named, named};

use super::{CheckpointError, TensorInfo};

/// A file of the model.
pub(super) struct GgufShard {
    pub path: PathBuf,
    pub header_bytes: u64,
    pub file_bytes: u64,
}

/// Everything that the files say.
pub(super) struct Gguf {
    /// What `config.json` would say.
    pub config_json: Vec<u8>,
    /// Other small files, by the names that they would have.
    pub files: BTreeMap<String, Vec<u8>>,
    pub shards: Vec<GgufShard>,
    pub tensors: BTreeMap<String, TensorInfo>,
    /// What is to be said of it.
    pub notes: Vec<String>,
}

impl Gguf {
    /// Reads the headers of a file, and of those that it was split into.
    ///
    /// # Errors
    /// Names the file, and the key or tensor that is wrong.
    pub(super) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let wrong = |path: &Path, problem: String| CheckpointError::Gguf {
            path: path.to_owned(),
            problem,
        };
        let first = GgufHeader::read(path).map_err(|problem| wrong(path, problem))?;
        let metadata = Metadata::new(&first.metadata).map_err(|problem| wrong(path, problem))?;
        let others = split_paths(path, &first.metadata).map_err(|problem| wrong(path, problem))?;
        let mut shards = vec![shard(path, &first)];
        let mut tensors = BTreeMap::new();
        let mut add = |shard: usize, path: &Path, found: &[GgufTensor]| {
            found.iter().try_for_each(|tensor| {
                add_tensor(shard, tensor, &mut tensors).map_err(|problem| wrong(path, problem))
            })
        };
        add(0, path, &first.tensors)?;
        for path in others {
            let header = GgufHeader::read(&path).map_err(|problem| wrong(&path, problem))?;
            add(shards.len(), &path, &header.tensors)?;
            shards.push(shard(&path, &header));
        }
        let table = tensors.get("thinker.model.embed_tokens.weight");
        let rows = table.and_then(|table: &TensorInfo| table.shape.first().copied());
        let rows =
            rows.ok_or_else(|| wrong(path, "has no tensor `token_embd.weight`".to_owned()))?;
        let config_json = metadata
            .config_json(rows, tensors.contains_key(super::HEAD))
            .map_err(|problem| wrong(path, problem))?;
        let mut notes = vec![format!(
            "{} is a GGUF file of llama.cpp: blocks keep their format unless another is asked for",
            path.display()
        )];
        let files = metadata.tokenizer().unwrap_or_else(|why| {
            notes.push(why);
            BTreeMap::new()
        });
        Ok(Self {
            config_json: config_json.into_bytes(),
            files,
            shards,
            tensors,
            notes,
        })
    }
}

fn shard(path: &Path, header: &GgufHeader) -> GgufShard {
    GgufShard {
        path: path.to_owned(),
        header_bytes: header.header_bytes,
        file_bytes: header.file_bytes,
    }
}

/// The other files of a model that is split, `NAME-00002-of-00003.gguf` and so on; `path` must be the first.
fn split_paths(
    path: &Path,
    metadata: &BTreeMap<String, GgufValue>,
) -> Result<BTreeSet<PathBuf>, String> {
    let count = match metadata.get("split.count") {
        None | Some(GgufValue::Unsigned(0 | 1)) => return Ok(BTreeSet::new()),
        Some(GgufValue::Unsigned(count @ 2..=9999)) => *count,
        Some(other) => return Err(format!("split.count is {other:?}, expected at most 9999")),
    };
    let ending = format!("-00001-of-{count:05}.gguf");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let Some(base) = name.strip_suffix(&ending) else {
        return Err(format!(
            "is a part of {count} files: name the first, whose name ends in {ending}"
        ));
    };
    let others =
        (2..=count).map(|part| path.with_file_name(format!("{base}-{part:05}-of-{count:05}.gguf")));
    Ok(others.collect())
}

fn add_tensor(
    shard: usize,
    tensor: &GgufTensor,
    tensors: &mut BTreeMap<String, TensorInfo>,
) -> Result<(), String> {
    let stored_as: Arc<str> = tensor.name.as_str().into();
    let mut put = |name: String, shape: &[usize], offset: u64, bytes: u64| {
        let info = TensorInfo {
            name: name.clone(),
            stored_as: Some(Arc::clone(&stored_as)),
            dtype: tensor.format,
            shape: shape.to_vec(),
            shard,
            offset,
            bytes,
            packed: None,
        };
        match tensors.insert(name, info) {
            None => Ok(()),
            Some(_) => Err(format!("has tensor `{}` twice", tensor.name)),
        }
    };
    match named(&tensor.name) {
        Named::One(name) => put(name, &tensor.shape, tensor.offset, tensor.bytes),
        Named::Unknown => put(
            tensor.name.clone(),
            &tensor.shape,
            tensor.offset,
            tensor.bytes,
        ),
        Named::Experts(before, behind) => {
            let Some((&experts, shape)) = tensor
                .shape
                .split_first()
                .filter(|(count, _)| (1..=u16::MAX.into()).contains(*count))
            else {
                return Err(format!(
                    "tensor `{}` {:?} holds no experts",
                    tensor.name, tensor.shape
                ));
            };
            let bytes = tensor.bytes / experts as u64;
            (0..experts).try_for_each(|expert| {
                let offset = tensor.offset + expert as u64 * bytes;
                put(format!("{before}{expert}.{behind}"), shape, offset, bytes)
            })
        }
    }
}
