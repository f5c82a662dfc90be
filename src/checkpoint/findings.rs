//! What is wrong with a checkpoint's tensors: found once, said by inspection, refused by extraction and opening.

use std::collections::{BTreeMap, HashSet};

use super::names::fused_name_of;
use super::{
    Checkpoint, Component, ExpectedTensor, ExpertMatrix, Role, TensorInfo, expected_tensors,
};
use crate::formats::WeightFormat;

/// A tensor whose shape is not what the configuration calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name in the files.
    pub name: String,
    /// In the file.
    pub shape: Vec<usize>,
    /// By the configuration.
    pub expected: Vec<usize>,
}

/// An expert's matrix that is stored in another format than the expert's gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFormat {
    /// Its name in the files.
    pub name: String,
    /// Part of the model that it belongs to.
    pub component: Component,
    /// Its decoder layer.
    pub layer: usize,
    /// Number of the expert in its layer.
    pub expert: usize,
    /// Its own format.
    pub format: WeightFormat,
    /// Format of the expert's gate.
    pub gate: WeightFormat,
}

/// Everything that is wrong with a checkpoint's tensors, in module order, names as in the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Tensors that the configuration calls for and no shard holds.
    pub missing: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
    /// Matrices of experts in another format than the expert's gate: at most one for each component.
    pub other_formats: Vec<OtherFormat>,
    /// Tensors that the configuration does not call for.
    pub unexpected: Vec<String>,
}

/// One fused tensor's worth of matrices.
type FusedKey = (Component, usize, bool);

impl Checkpoint {
    /// Holds every tensor against the configuration.
    pub fn findings(&self) -> Findings {
        let expected = expected_tensors(self.config());
        let mut found = Findings::default();
        for uncut in self.uncut().values() {
            found.misshapen.push(Misshapen {
                name: uncut.info.stored_name().to_owned(),
                shape: uncut.info.shape.clone(),
                expected: uncut.expected.clone(),
            });
        }
        // Writers of GGUF files give down projections more bits on purpose, and those who pack matrices leave some as they are.
        let may_differ = self.is_gguf() || self.packing().is_some();
        let mut gate = None;
        let mut missing = Vec::new();
        for tensor in &expected {
            let Some(info) = self.tensor(&tensor.name) else {
                if !self.is_in_uncut(tensor) {
                    missing.push(tensor);
                }
                continue;
            };
            if info.shape != tensor.shape {
                let stored = info.stored_name();
                found.misshapen.push(Misshapen {
                    name: match info.packed {
                        Some(_) => format!("{stored} (unpacked)"),
                        None => stored.to_owned(),
                    },
                    shape: info.shape.clone(),
                    expected: tensor.shape.clone(),
                });
            }
            if let (Role::Expert { .. }, false) = (tensor.role, may_differ) {
                note_format(&mut gate, tensor, info, &mut found.other_formats);
            }
        }
        found.missing = self.missing_names(&missing);
        let names: HashSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let unexpected = self
            .tensors()
            .filter(|tensor| !names.contains(tensor.name.as_str()));
        found.unexpected = unexpected
            .map(|tensor| tensor.stored_name().to_owned())
            .collect();
        found
    }

    /// Whether a fused tensor of the wrong shape stands where this one would be.
    fn is_in_uncut(&self, tensor: &ExpectedTensor) -> bool {
        let Role::Expert { layer, part, .. } = tensor.role else {
            return false;
        };
        fused_name_of(tensor.component, layer, part)
            .is_some_and(|name| self.uncut().contains_key(&name))
    }

    /// Names as the files would spell them; where experts are fused, the fused tensor instead of each of its matrices.
    fn missing_names(&self, missing: &[&ExpectedTensor]) -> Vec<String> {
        let mut counts: BTreeMap<FusedKey, usize> = BTreeMap::new();
        for key in missing.iter().filter_map(|tensor| fused_key(tensor)) {
            *counts.entry(key).or_default() += 1;
        }
        let is_whole = |tensor: &ExpectedTensor| {
            let (Some(key), Some(text)) = (
                fused_key(tensor),
                tensor.component.text_config(self.config()),
            ) else {
                return false;
            };
            let matrices = if key.2 { 1 } else { 2 } * text.num_experts;
            self.has_fused_experts() && counts.get(&key) == Some(&matrices)
        };
        let mut names = Vec::new();
        for tensor in missing {
            let fused = match tensor.role {
                Role::Expert { layer, part, .. } if is_whole(tensor) => {
                    fused_name_of(tensor.component, layer, part)
                }
                _ => None,
            };
            let name = self
                .spellings()
                .in_files(fused.as_deref().unwrap_or(&tensor.name));
            if fused.is_none() || names.last() != Some(&name) {
                names.push(name);
            }
        }
        // Gate and up of one expert lie between the down projections of two, so a fused name may come again.
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

fn fused_key(tensor: &ExpectedTensor) -> Option<FusedKey> {
    match tensor.role {
        Role::Expert { layer, part, .. } => {
            Some((tensor.component, layer, part == ExpertMatrix::Down))
        }
        _ => None,
    }
}

/// Remembers the format of an expert's gate, which comes first, and a component's first matrix that differs from its
/// expert's gate.
fn note_format(
    gate: &mut Option<((Component, usize, usize), WeightFormat)>,
    tensor: &ExpectedTensor,
    info: &TensorInfo,
    others: &mut Vec<OtherFormat>,
) {
    let Role::Expert { layer, expert, .. } = tensor.role else {
        return;
    };
    let place = (tensor.component, layer, expert);
    let (_, first) = *match gate {
        Some(known) if known.0 == place => known,
        _ => gate.insert((place, info.dtype)),
    };
    let is_known = others
        .iter()
        .any(|known| known.component == tensor.component);
    if first == info.dtype || is_known {
        return;
    }
    others.push(OtherFormat {
        name: info.stored_name().to_owned(),
        component: tensor.component,
        layer,
        expert,
        format: info.dtype,
        gate: first,
    });
}
