//! A checkpoint of true headers whose data was never written: the files are sparse, read as zeros, and take no room.
//!
//! Tensors fill shards in module order up to 5 GB, as the released files do: shard 1 begins with the audio tower, shard
//! 13 ends the thinker, shard 14 holds most of the talker. Inside a shard they are sorted by name. Experts straddle. Beside
//! them lie the small files of the release, so that the folder is what a download is but for the data.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{RELEASED_CONFIG, parse, released, spec};
use crate::checkpoint::expected_tensors;
use crate::formats::WeightFormat;
use crate::store::record::TensorSpec;
use crate::store::{StoreError, atomic};

/// What a shard may hold, as the writer of the released files was told.
const SHARD_BYTES: u64 = 5_000_000_000;

/// What [`write_headers`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadersReport {
    pub shards: usize,
    pub tensors: usize,
    /// Bytes that the tensors seem to take.
    pub bytes: u64,
}

/// Writes a checkpoint of the released shapes, with `layers` layers in the thinker (48 if `None`), without data.
///
/// # Errors
/// If the folder is not empty or writing fails.
pub fn write_headers(folder: &Path, layers: Option<usize>) -> Result<HeadersReport, StoreError> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        let problem = "is not empty; choose another folder".to_owned();
        return Err(StoreError::NotAModel {
            path: folder.to_owned(),
            problem,
        });
    }
    let config_json = config_json(layers)?;
    let config = parse(&config_json)?;
    let mut shards: Vec<(u64, Vec<TensorSpec>)> = vec![(0, Vec::new())];
    for tensor in expected_tensors(&config) {
        let tensor = spec(tensor, WeightFormat::BF16)?;
        let full = shards
            .last()
            .is_none_or(|(bytes, _)| bytes + tensor.bytes > SHARD_BYTES);
        if full {
            shards.push((0, Vec::new()));
        }
        if let Some((bytes, tensors)) = shards.last_mut() {
            *bytes += tensor.bytes;
            tensors.push(tensor);
        }
    }
    fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
    let count = shards.len();
    let (mut weight_map, mut total) = (Vec::new(), 0);
    for (index, (bytes, mut tensors)) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        write_shard(&folder.join(&name), &tensors, bytes)?;
        weight_map.extend(
            tensors
                .into_iter()
                .map(|tensor| (tensor.name, Value::from(name.as_str()))),
        );
        total += bytes;
    }
    weight_map.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors = weight_map.len();
    let weight_map: Map<String, Value> = weight_map.into_iter().collect();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    atomic::write_file(
        &folder.join("model.safetensors.index.json"),
        format!("{index:#}\n").as_bytes(),
    )?;
    for (name, text) in released::files() {
        atomic::write_file(&folder.join(name), text.as_bytes())?;
    }
    // Last: until it is there the folder is no checkpoint.
    atomic::write_file(&folder.join("config.json"), config_json.as_bytes())?;
    Ok(HeadersReport {
        shards: count,
        tensors,
        bytes: total,
    })
}

fn config_json(layers: Option<usize>) -> Result<String, StoreError> {
    let Some(layers) = layers else {
        return Ok(RELEASED_CONFIG.to_owned());
    };
    let invalid = |problem: String| StoreError::Selection(problem);
    let mut config: Value =
        serde_json::from_str(RELEASED_CONFIG).map_err(|error| invalid(error.to_string()))?;
    let text = config.pointer_mut("/thinker_config/text_config/num_hidden_layers");
    *text.ok_or_else(|| {
        invalid("the shape's configuration has no num_hidden_layers".to_owned())
    })? = layers.into();
    // The talker listens to a layer that a shorter thinker may not have.
    if let Some(listened) = config.pointer_mut("/talker_config/accept_hidden_layer")
        && listened.as_u64().is_some_and(|layer| layer > layers as u64)
    {
        *listened = layers.into();
    }
    Ok(format!("{config:#}\n"))
}

fn write_shard(path: &Path, tensors: &[TensorSpec], data_bytes: u64) -> Result<(), StoreError> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += tensor.bytes;
        let entry =
            json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end] });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut file = atomic::AtomicFile::create(path)?;
    file.write(&(json.len() as u64).to_le_bytes())?;
    file.write(&json)?;
    file.set_len(8 + json.len() as u64 + data_bytes)?;
    file.commit()
}
