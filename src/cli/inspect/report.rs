//! What `sage inspect` reports.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::memory::MemoryReport;
use crate::checkpoint::Component;
use crate::formats::WeightFormat;

/// A tensor whose shape is not what the configuration calls for.
#[derive(Debug, Serialize)]
pub(super) struct WrongShape {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) expected: Vec<usize>,
}

/// An expert's tensor of another type than the first expert's.
#[derive(Debug, Serialize)]
pub(super) struct WrongType {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    pub(super) expected: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct InspectReport {
    pub(super) model_type: String,
    pub(super) kind: &'static str,
    pub(super) total_bytes: u64,
    pub(super) tensors: usize,
    pub(super) components: Vec<ComponentReport>,
    pub(super) memory_per_state: Vec<StateMemory>,
    pub(super) memory: Option<MemoryReport>,
    /// Why nothing is known of memory: what is missing of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_unknown: Option<String>,
    pub(super) straddling_experts: Vec<Straddling>,
    pub(super) missing: Vec<String>,
    pub(super) missing_shards: Vec<String>,
    pub(super) misshapen: Vec<WrongShape>,
    pub(super) other_types: Vec<WrongType>,
    pub(super) unexpected: Vec<String>,
    /// Tensors of the model that a partial store was not asked to hold.
    pub(super) not_extracted: usize,
    /// How the model is stored, where that is not the usual way.
    pub(super) notes: Vec<String>,
    /// Whether every tensor of the model is there.
    pub(super) complete: bool,
    /// Whether opening would refuse nothing, and text can be generated.
    pub(super) runnable: bool,
}

/// One component of the model.
#[derive(Debug, Serialize)]
pub(super) struct ComponentReport {
    pub(super) name: Component,
    pub(super) bytes: u64,
    pub(super) tensors: usize,
    pub(super) layers: usize,
    pub(super) sparse_layers: usize,
    pub(super) experts_per_layer: usize,
    pub(super) experts_per_token: usize,
    /// Of the largest.
    pub(super) bytes_per_expert: u64,
    pub(super) always_resident_bytes: u64,
    /// The format of its tensors, or `mixed`.
    pub(super) dtype: String,
    /// Bytes in each format.
    pub(super) bytes_by_format: BTreeMap<Stored, u64>,
    /// How each kind of tensor is stored: names with `*` for the numbers of layers and experts.
    pub(super) kinds: Vec<TensorKind>,
    /// The format of its routed experts, or `mixed`; none where it has none.
    pub(super) expert_format: Option<String>,
}

/// What a tensor is in the files: of a format, or packed so that nothing multiplies it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stored {
    As(WeightFormat),
    Packed(&'static str),
}

impl Stored {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::As(format) => format.name(),
            Self::Packed(name) => name,
        }
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Tensors that differ in numbers of layers and experts alone, and are stored alike.
#[derive(Debug, Serialize)]
pub(super) struct TensorKind {
    pub(super) name: String,
    pub(super) format: Stored,
    /// Whether they have rows, and not one number for each feature.
    #[serde(skip)]
    pub(super) is_matrix: bool,
    pub(super) tensors: usize,
    pub(super) bytes: u64,
}

impl ComponentReport {
    /// Whether its tensors are of several formats.
    pub(super) fn is_mixed(&self) -> bool {
        self.bytes_by_format.len() > 1
    }
}

/// What the experts of one token need in one state.
#[derive(Debug, Serialize)]
pub(super) struct StateMemory {
    pub(super) state: &'static str,
    pub(super) modules: Vec<ModuleMemory>,
    pub(super) expert_bytes: u64,
    pub(super) always_resident_bytes: u64,
    pub(super) total_bytes: u64,
}

/// One module's part of it.
#[derive(Debug, Serialize)]
pub(super) struct ModuleMemory {
    pub(super) component: Component,
    pub(super) experts_per_token: usize,
    /// Over all its sparse layers.
    pub(super) token_experts: u64,
    /// A pool of so many experts or fewer is below the cycle cliff: eviction `lru` hits nothing.
    pub(super) lru_hits_nothing_up_to_experts: u64,
    pub(super) expert_bytes: u64,
}

/// An expert whose matrices lie in several shards.
#[derive(Debug, Serialize)]
pub(super) struct Straddling {
    pub(super) component: Component,
    pub(super) layer: usize,
    pub(super) expert: usize,
    pub(super) shards: Vec<String>,
}
