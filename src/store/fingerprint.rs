//! What identifies a model.
//!
//! Hashing 65 GiB at each start is out of the question, so the fingerprint is the BLAKE3 of a domain string; the bytes
//! of `config.json`; name, type and shape of every tensor in sorted order; and samples of the weights: 1 KiB from the
//! middle of every tensor that is not a routed expert's, and of the down projection of one expert of each sparse layer
//! (expert `37 * layer mod num_experts`). That is about 2,300 reads, and any training that touches routers, norms,
//! attention or embeddings throughout changes it. Edits confined to unsampled bytes do not: the hashes in the manifest
//! of a store cover every byte, the fingerprint says which model a store or a record of trust belongs to.
//!
//! A store whose tensors were converted to another format gives other answers and reads other bytes, so it is another
//! model: its fingerprint is the BLAKE3 of another domain string, the checkpoint's fingerprint, and what was converted.

use std::ops::Range;

use super::StoreError;
use super::conversion::ConvertedTensors;
use crate::checkpoint::{
    Checkpoint, Component, ExpertMatrix, Role, expected_tensors, expert_tensor_name,
};

const SAMPLE_BYTES: u64 = 1024;

/// The fingerprint of a checkpoint, 64 hexadecimal digits.
///
/// # Errors
/// If a shard cannot be read.
pub fn fingerprint(checkpoint: &Checkpoint) -> Result<String, StoreError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sage model fingerprint 1\0");
    hasher.update(&(checkpoint.config_json().len() as u64).to_le_bytes());
    hasher.update(checkpoint.config_json());
    for tensor in checkpoint.tensors() {
        let format = tensor.stored_format();
        hasher.update(format!("{}\0{format}\0{:?}\0", tensor.name, tensor.shape).as_bytes());
    }
    let mut sample = vec![0_u8; SAMPLE_BYTES as usize];
    for (shard, bytes) in samples(checkpoint) {
        let sample = &mut sample[..(bytes.end - bytes.start) as usize];
        checkpoint.read_at(shard, bytes.start, sample)?;
        hasher.update(sample);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Shard and bytes of every sample, in the order of hashing.
pub(super) fn samples(checkpoint: &Checkpoint) -> Vec<(usize, Range<u64>)> {
    let sample = |name: String| {
        let tensor = checkpoint.tensor(&name)?;
        // Of a packed matrix, its integers.
        let packed = tensor.packed.as_ref();
        let there = packed.map_or(tensor.bytes, |packed| packed.integers.bytes);
        let bytes = there.min(SAMPLE_BYTES);
        let offset = tensor.offset + (there - bytes) / 2;
        Some((tensor.shard, offset..offset + bytes))
    };
    let names = sampled_names(checkpoint).into_iter();
    names.filter_map(sample).collect()
}

fn sampled_names(checkpoint: &Checkpoint) -> Vec<String> {
    let config = checkpoint.config();
    let always = expected_tensors(config)
        .into_iter()
        .filter(|tensor| !matches!(tensor.role, Role::Expert { .. }));
    let mut names: Vec<String> = always.map(|tensor| tensor.name).collect();
    for component in [Component::Thinker, Component::Talker] {
        let Some(text) = component.text_config(config) else {
            continue;
        };
        for layer in (0..text.num_hidden_layers).filter(|&layer| component.is_sparse(config, layer))
        {
            let expert = (37 * layer) % text.num_experts;
            names.extend(expert_tensor_name(
                component,
                layer,
                expert,
                ExpertMatrix::Down,
            ));
        }
    }
    names
}

/// The fingerprint of a model of which tensors were converted: whatever part of it a store holds. Without any, its own.
pub(super) fn of_converted(checkpoint: &str, tensors: &[ConvertedTensors]) -> String {
    if tensors.is_empty() {
        return checkpoint.to_owned();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sage converted model fingerprint 2\0");
    hasher.update(checkpoint.as_bytes());
    for alike in tensors {
        let ConvertedTensors {
            name,
            from,
            to,
            layers,
            tensors,
        } = alike;
        hasher.update(format!("\0{name} {from} {to} {layers:?} {tensors}").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The fingerprint of weights that follow from a recipe rather than from files.
#[cfg(feature = "cli")]
pub(crate) fn of_recipe(config_json: &[u8], recipe: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sage synthetic model fingerprint 1\0");
    hasher.update(&(config_json.len() as u64).to_le_bytes());
    hasher.update(config_json);
    hasher.update(recipe.as_bytes());
    hasher.finalize().to_hex().to_string()
}
