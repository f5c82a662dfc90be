//! What is wrong with a checkpoint's tensors: found once, said by inspection, refused by extraction and opening.

use std::collections::{BTreeMap, HashSet};

use super::names::fused_name_of;
use super::{
    Checkpoint, Component, DType, ExpectedTensor, Part, Role, TensorInfo, expected_tensors,
};

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

/// An expert's matrix that is stored in another type than the component's first expert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherType {
    /// Its name in the files.
    pub name: String,
    /// Its component.
    pub component: Component,
    /// Type of the first expert's first matrix.
    pub first: DType,
    /// Its own type.
    pub other: DType,
}

/// Everything that is wrong with a checkpoint's tensors, in module order, names as in the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Tensors that the configuration calls for and no shard holds.
    pub missing: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
    /// Experts of another type than the first: at most one for each component.
    pub other_types: Vec<OtherType>,
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
        let mut first_types: BTreeMap<Component, (DType, bool)> = BTreeMap::new();
        let mut missing = Vec::new();
        for tensor in &expected {
            let Some(info) = self.tensor(&tensor.name) else {
                if !self.is_in_uncut(tensor) {
                    missing.push(tensor);
                }
                continue;
            };
            if info.shape != tensor.shape {
                found.misshapen.push(Misshapen {
                    name: info.stored_name().to_owned(),
                    shape: info.shape.clone(),
                    expected: tensor.shape.clone(),
                });
            }
            if let Role::Expert { .. } = tensor.role {
                note_type(&mut first_types, tensor, info, &mut found.other_types);
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
        Role::Expert { layer, part, .. } => Some((tensor.component, layer, part == Part::Down)),
        _ => None,
    }
}

/// Remembers the type of a component's first expert, and the first matrix that differs from it.
fn note_type(
    first_types: &mut BTreeMap<Component, (DType, bool)>,
    tensor: &ExpectedTensor,
    info: &TensorInfo,
    others: &mut Vec<OtherType>,
) {
    let (first, differs) = first_types
        .entry(tensor.component)
        .or_insert((info.dtype, false));
    if *first == info.dtype || *differs {
        return;
    }
    *differs = true;
    others.push(OtherType {
        name: info.stored_name().to_owned(),
        component: tensor.component,
        first: *first,
        other: info.dtype,
    });
}
