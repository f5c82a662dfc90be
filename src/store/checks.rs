//! What a model is checked for before it is read.

use super::StoreError;
use crate::checkpoint::{Checkpoint, Component, ModelConfig};

/// That no tensor of a checkpoint has a wrong shape, and that the matrices of each expert are of one format.
pub(super) fn refuse_unsound(checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let findings = checkpoint.findings();
    if let Some(first) = findings.misshapen.into_iter().next() {
        return Err(first.into());
    }
    match findings.other_formats.into_iter().next() {
        Some(first) => Err(first.into()),
        None => Ok(()),
    }
}

/// That experts can be read as they lie: packed ones are unpacked once, when a store is made, and not at every read.
pub(super) fn refuse_packed(checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let Some(packing) = checkpoint.packing() else {
        return Ok(());
    };
    let folder = checkpoint.folder().display();
    Err(StoreError::Packed {
        path: checkpoint.folder().to_owned(),
        problem: format!(
            "its matrices are packed ({packing}) and unpacked when a store is made of them: \
             `sage extract {folder} --out STORE`, then name STORE"
        ),
    })
}

/// That the model has such an expert.
pub(super) fn check_bounds(
    config: &ModelConfig,
    component: Component,
    layer: usize,
    expert: usize,
) -> Result<(), StoreError> {
    let problem = match component.text_config(config) {
        None => format!("this model's {component} has no experts"),
        Some(text) if layer >= text.num_hidden_layers => {
            format!("it has layers 0 to {}", text.num_hidden_layers - 1)
        }
        Some(_) if !component.is_sparse(config, layer) => "that layer is dense".to_owned(),
        Some(text) if expert >= text.num_experts => {
            format!("a layer has experts 0 to {}", text.num_experts - 1)
        }
        Some(_) => return Ok(()),
    };
    Err(StoreError::NoSuchExpert {
        component,
        layer,
        expert,
        problem,
    })
}
