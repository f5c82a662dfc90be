//! The shapes of modules and towers, as a checkpoint declares them.

use serde::{Deserialize, Serialize};

use crate::protocol::{LayerKey, Modality, Module};

/// Experts that stand side by side in a layer and take equally many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertRun {
    /// Index of the layer in the model.
    pub layer: u16,
    /// The first of them.
    pub first: u16,
    /// How many there are.
    pub experts: u16,
    /// Bytes of each in memory.
    pub bytes: u64,
}

impl ExpertRun {
    /// The number behind its last expert.
    pub(super) fn end(&self) -> u32 {
        u32::from(self.first) + u32::from(self.experts)
    }
}

/// The sparse part of one module, as its checkpoint declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleShape {
    /// Which module.
    pub module: Module,
    /// Indices of its sparse layers in the order they run, strictly ascending.
    pub layers: Vec<u16>,
    /// Experts a layer, E.
    pub experts: u16,
    /// Experts a token in training.
    pub k_trained: u16,
    /// Whether mixing weights are renormalised over the chosen experts.
    pub norm_topk_prob: bool,
    /// Bytes of one expert in memory; of the largest where they differ.
    pub expert_bytes: u64,
    /// Experts that take less than the largest, in ascending order of layer and expert; none where all are alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smaller: Vec<ExpertRun>,
}

impl ModuleShape {
    /// The sparse layers' keys in the order they run.
    pub fn keys(&self) -> impl Iterator<Item = LayerKey> + '_ {
        self.layers.iter().map(|layer| LayerKey {
            module: self.module,
            layer: *layer,
        })
    }
}

/// An encoder of sounds or pictures: dense, and run piece by piece, always in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerShape {
    /// What it perceives.
    pub modality: Modality,
    /// Bytes of the weights of each of its pieces, in the order that they run in.
    pub piece_bytes: Vec<u64>,
}

impl TowerShape {
    /// Bytes of all of its weights.
    pub fn bytes(&self) -> u64 {
        self.piece_bytes.iter().sum()
    }

    /// Bytes of its largest piece: with less, keeping any of it is of no use.
    pub fn largest_piece_bytes(&self) -> u64 {
        self.piece_bytes.iter().copied().max().unwrap_or(0)
    }

    /// How many of its first pieces have room in `bytes`. Of a cycle that does not fit, keeping its beginning is the best that any
    /// policy can do.
    pub fn pieces_within(&self, bytes: u64) -> usize {
        let mut room = bytes;
        let fits = |size: &&u64| match room.checked_sub(**size) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        self.piece_bytes.iter().take_while(fits).count()
    }
}
