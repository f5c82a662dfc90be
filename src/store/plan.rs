//! What an extraction writes: which records, of which tensors.

use std::collections::{BTreeMap, BTreeSet};

use super::StoreError;
use super::record::{RecordKind, TensorSpec, file_bytes};
use crate::checkpoint::{Checkpoint, Component, Role, expected_tensors, router_tensor_name};
use crate::formats::{WeightFormat, convert};

/// Which routed experts to extract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpertSelection {
    /// All of the selected components.
    All,
    /// None.
    None,
    /// These, as (component, layer, expert).
    Listed(BTreeSet<(Component, usize, usize)>),
    /// In every layer this many, by descending norm of their row in the router: a static ranking that needs no usage
    /// data. Ties go to the lower id.
    TopByRouterNorm(usize),
}

/// What to extract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractSelection {
    /// Components.
    pub components: BTreeSet<Component>,
    /// Whether to extract what is neither router nor expert.
    pub rest: bool,
    /// Whether to extract the routers.
    pub routers: bool,
    /// Which experts.
    pub experts: ExpertSelection,
}

impl ExtractSelection {
    /// Every record of the checkpoint.
    pub fn all() -> Self {
        Self {
            components: Component::ALL.into(),
            rest: true,
            routers: true,
            experts: ExpertSelection::All,
        }
    }
}

/// One file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRecord {
    /// Part of the model that it belongs to.
    pub component: Component,
    /// What it holds.
    pub kind: RecordKind,
    /// Its tensors in the order of the file.
    pub tensors: Vec<TensorSpec>,
    /// Size of the file.
    pub file_bytes: u64,
}

/// All records that a checkpoint can give, those selected, and what is missing.
pub(crate) struct ExtractPlan {
    /// By file name.
    pub(crate) records: BTreeMap<String, PlannedRecord>,
    /// Files that the selection asks for, in the order of writing.
    pub(crate) selected: Vec<String>,
    /// Every tensor of the whole model that the checkpoint lacks.
    pub(crate) missing: BTreeSet<String>,
    /// The first one that the selection asks for, and how many there are.
    pub(crate) selected_missing: Option<(String, usize)>,
}

impl RecordKind {
    /// The record that tensors of this role are in.
    pub(crate) fn of(role: Role) -> Self {
        match role {
            Role::Router { layer } => Self::Router { layer },
            Role::Expert { layer, expert, .. } => Self::Expert { layer, expert },
            Role::Other => Self::Rest,
        }
    }
}

impl ExtractPlan {
    /// Refuses at once what opening would refuse.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        selection: &ExtractSelection,
    ) -> Result<Self, StoreError> {
        super::checks::refuse_unsound(checkpoint)?;
        let chosen = Chosen::new(checkpoint, selection)?;
        let mut groups: BTreeMap<(RecordKind, Component), Vec<TensorSpec>> = BTreeMap::new();
        let (mut missing, mut selected_missing) = (BTreeSet::new(), None);
        let mut incomplete = BTreeSet::new();
        for expected in expected_tensors(checkpoint.config()) {
            let kind = RecordKind::of(expected.role);
            let Some(info) = checkpoint.tensor(&expected.name) else {
                if chosen.contains(expected.component, kind) {
                    selected_missing.get_or_insert((expected.name.clone(), 0)).1 += 1;
                }
                if kind != RecordKind::Rest {
                    incomplete.insert((kind, expected.component));
                }
                missing.insert(expected.name);
                continue;
            };
            let spec = TensorSpec {
                name: expected.name,
                dtype: info.dtype,
                shape: expected.shape,
                bytes: info.bytes,
            };
            groups
                .entry((kind, expected.component))
                .or_default()
                .push(spec);
        }
        let (mut records, mut selected) = (BTreeMap::new(), Vec::new());
        for ((kind, component), tensors) in groups {
            // Half an expert is of no use to anyone.
            if incomplete.contains(&(kind, component)) {
                continue;
            }
            let file = kind.file(component);
            if chosen.contains(component, kind) {
                selected.push(file.clone());
            }
            let file_bytes = file_bytes(&tensors);
            records.insert(
                file,
                PlannedRecord {
                    component,
                    kind,
                    tensors,
                    file_bytes,
                },
            );
        }
        Ok(Self {
            records,
            selected,
            missing,
            selected_missing,
        })
    }
}

/// A selection with its experts worked out.
struct Chosen<'a> {
    selection: &'a ExtractSelection,
    experts: Option<BTreeSet<(Component, usize, usize)>>,
}

impl<'a> Chosen<'a> {
    fn new(checkpoint: &Checkpoint, selection: &'a ExtractSelection) -> Result<Self, StoreError> {
        let experts = match &selection.experts {
            ExpertSelection::All => None,
            ExpertSelection::None => Some(BTreeSet::new()),
            ExpertSelection::Listed(list) => {
                for &(component, layer, expert) in list {
                    super::checks::check_bounds(checkpoint.config(), component, layer, expert)?;
                }
                Some(list.clone())
            }
            ExpertSelection::TopByRouterNorm(count) => {
                Some(top_by_router_norm(checkpoint, selection, *count)?)
            }
        };
        Ok(Self { selection, experts })
    }

    fn contains(&self, component: Component, kind: RecordKind) -> bool {
        self.selection.components.contains(&component)
            && match kind {
                RecordKind::Rest => self.selection.rest,
                RecordKind::Router { .. } => self.selection.routers,
                RecordKind::Expert { layer, expert } => self
                    .experts
                    .as_ref()
                    .is_none_or(|list| list.contains(&(component, layer, expert))),
            }
    }
}

fn top_by_router_norm(
    checkpoint: &Checkpoint,
    selection: &ExtractSelection,
    count: usize,
) -> Result<BTreeSet<(Component, usize, usize)>, StoreError> {
    let mut chosen = BTreeSet::new();
    for &component in &selection.components {
        let config = checkpoint.config();
        let Some(text) = component.text_config(config) else {
            continue;
        };
        for layer in (0..text.num_hidden_layers).filter(|&layer| component.is_sparse(config, layer))
        {
            let Some(name) = router_tensor_name(component, layer) else {
                continue;
            };
            let Some(info) = checkpoint.tensor(&name) else {
                return Err(StoreError::TensorsMissing {
                    count: 1,
                    first: name,
                });
            };
            let mut bytes = vec![0; info.bytes as usize];
            checkpoint.read_into(&name, &mut bytes)?;
            let norms = squared_norms(info.dtype, &bytes, text.num_experts, text.hidden_size);
            let mut ids: Vec<usize> = (0..norms.len()).collect();
            ids.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]).then(a.cmp(&b)));
            chosen.extend(
                ids.into_iter()
                    .take(count)
                    .map(|expert| (component, layer, expert)),
            );
        }
    }
    Ok(chosen)
}

/// Of every row of a matrix `[rows, cols]`.
fn squared_norms(format: WeightFormat, matrix: &[u8], rows: usize, cols: usize) -> Vec<f64> {
    let mut wide = vec![0; matrix.len().div_ceil(format.block_bytes()) * size_of::<f32>()];
    // Nothing overflows an f32.
    let _ = convert(format, matrix, WeightFormat::F32, &mut wide);
    let square = |number: &[u8; 4]| f64::from(f32::from_le_bytes(*number)).powi(2);
    let row = |row: &[u8]| row.as_chunks().0.iter().map(square).sum();
    wide.chunks_exact(cols * size_of::<f32>())
        .take(rows)
        .map(row)
        .collect()
}
