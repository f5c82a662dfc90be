//! Experts of a layer stored as one tensor (`experts.gate_up_proj` `[E, 2I, H]`, gate rows first, and
//! `experts.down_proj` `[E, H, I]`), cut into the matrices of single experts. Nothing is copied: a matrix is a range of
//! the fused tensor's bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::TextConfig;
use super::names::{FUSED, fused_tensor_name};
use super::{Component, ModelConfig, TensorInfo, expert_tensor_name};

/// A fused tensor whose shape is not what the configuration calls for.
#[derive(Debug, Clone)]
pub(super) struct Uncut {
    pub(super) info: TensorInfo,
    pub(super) expected: Vec<usize>,
}

/// What was found of fused experts.
#[derive(Debug, Default)]
pub(super) struct Fused {
    /// Fused tensors that were cut.
    pub(super) cut: usize,
    /// Those that could not be, by name.
    pub(super) uncut: BTreeMap<String, Uncut>,
}

/// Puts the matrices of single experts in the place of every fused tensor.
///
/// # Errors
/// The names of a fused tensor and of a matrix in it that the files hold once more.
pub(super) fn cut(
    config: &ModelConfig,
    tensors: &mut BTreeMap<String, TensorInfo>,
) -> Result<Fused, (String, String)> {
    let mut fused = Fused::default();
    for component in [Component::Thinker, Component::Talker] {
        let Some(text) = component.text_config(config) else {
            continue;
        };
        let layers = 0..text.num_hidden_layers;
        for layer in layers.filter(|&layer| component.is_sparse(config, layer)) {
            for (module, _) in FUSED {
                let name = fused_tensor_name(component, layer, module);
                let Some(info) = name.and_then(|name| tensors.remove(&name)) else {
                    continue;
                };
                let expected = shape(module, text);
                if info.shape == expected {
                    fused.cut += 1;
                    cut_one(component, layer, module, text, &info, tensors)
                        .map_err(|twice| (info.stored_name().to_owned(), twice))?;
                } else {
                    fused
                        .uncut
                        .insert(info.name.clone(), Uncut { info, expected });
                }
            }
        }
    }
    Ok(fused)
}

/// The shape of a layer's fused tensor.
fn shape(module: &str, text: &TextConfig) -> Vec<usize> {
    let (hidden, inner) = (text.hidden_size, text.moe_intermediate_size);
    match module {
        "down_proj" => vec![text.num_experts, hidden, inner],
        _ => vec![text.num_experts, 2 * inner, hidden],
    }
}

fn cut_one(
    component: Component,
    layer: usize,
    module: &str,
    text: &TextConfig,
    info: &TensorInfo,
    tensors: &mut BTreeMap<String, TensorInfo>,
) -> Result<(), String> {
    let parts = FUSED.iter().find(|(name, _)| *name == module);
    let stored: Arc<str> = info.stored_name().into();
    let mut offset = info.offset;
    for expert in 0..text.num_experts {
        for &part in parts.map_or(&[][..], |(_, parts)| parts) {
            let shape = part.shape(text.hidden_size, text.moe_intermediate_size);
            let bytes = info.bytes
                / (text.num_experts as u64 * parts.map_or(1, |(_, parts)| parts.len() as u64));
            let Some(name) = expert_tensor_name(component, layer, expert, part) else {
                continue;
            };
            let slice = TensorInfo {
                name: name.clone(),
                stored_as: Some(Arc::clone(&stored)),
                dtype: info.dtype,
                shape: shape.to_vec(),
                shard: info.shard,
                offset,
                bytes,
                packed: None,
            };
            offset += bytes;
            if let Some(other) = tensors.insert(name, slice) {
                return Err(other.stored_name().to_owned());
            }
        }
    }
    Ok(())
}
