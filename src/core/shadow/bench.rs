//! What shadow runs have of their own.

use std::collections::BTreeMap;

use sage_actors::config::{ModuleShape, RoutingPolicy};
use sage_actors::protocol::Module;
use sage_actors::router::Router;

use super::sizes::segment_tokens;
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::ports::{Sequence, ShadowExperts};

/// What shadow runs have of their own: a use of the experts beside the mind's, and keys and values.
pub struct Shadow {
    pub(super) experts: Box<dyn ShadowExperts>,
    pub(super) router: Router,
    /// Experts that the store lacks, by layer.
    pub(super) absent: BTreeMap<u16, Vec<u16>>,
    /// One layer's: a stride needs no other.
    pub(super) sequence: Sequence,
    segment_tokens: usize,
}

impl Shadow {
    /// A shadow of an engine's model that keeps `slots` experts in memory, at least one.
    ///
    /// # Errors
    /// When the system has no memory to map, or the host of the experts gives none.
    pub fn new(engine: &Engine, slots: usize) -> Result<Self, EngineError> {
        let config = engine.text_config();
        let segment_tokens = segment_tokens(config);
        let sequence = engine.body.thinker.new_layer_sequence(segment_tokens)?;
        let mut absent = BTreeMap::<u16, Vec<u16>>::new();
        for key in engine.absent() {
            absent.entry(key.layer.layer).or_default().push(key.expert);
        }
        let shape = ModuleShape {
            module: Module::Thinker,
            layers: config.sparse_layers().map(|layer| layer as u16).collect(),
            experts: config.num_experts as u16,
            k_trained: config.num_experts_per_tok as u16,
            norm_topk_prob: config.norm_topk_prob,
            // Nothing is admitted here: the trained top-k of every row is what it is, whatever an expert weighs.
            expert_bytes: 1,
            smaller: Vec::new(),
        };
        Ok(Self {
            experts: engine.host().shadow(slots)?,
            router: Router::new(&shape, RoutingPolicy::Exact),
            absent,
            sequence,
            segment_tokens,
        })
    }

    /// Tokens of a segment at most.
    pub fn segment_tokens(&self) -> usize {
        self.segment_tokens
    }

    /// Bytes read from disk so far.
    pub fn bytes_read(&self) -> u64 {
        self.experts.bytes_read()
    }
}
