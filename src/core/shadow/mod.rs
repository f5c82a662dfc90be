//! Shadow runs: recorded tokens scored again with one expert denied.
//!
//! A denied expert is never chosen: the router chooses its trained k among the others, and its mass is shared by them as
//! it would be if the expert did not exist. The *loss increase* of the tokens that had used the expert says what it is
//! good for.
//!
//! Nothing of the running mind is touched: weights are read straight into slots of the shadow's own, attention has a
//! key-value cache of its own, and neither residency nor ATP hears of it. A segment is scored from an empty context.
//!
//! Work is cut into *strides* of one layer each: first the base pass, which keeps the residual stream at the entry of
//! every layer; then batches of a few experts of one layer, run together from that layer on, so that an expert that is
//! read serves all of them. Between strides everything may stop, and go on later.

mod layers;
mod segment;

use std::collections::BTreeMap;
use std::sync::Arc;

use sage_actors::config::{ModuleShape, RoutingPolicy};
use sage_actors::protocol::{ExpertKey, Module};
use sage_actors::router::Router;

use super::{Engine, EngineError};
use crate::checkpoint::config::TextConfig;
use crate::cpu::arena::RecordReader;
use crate::cpu::direct::DirectReader;
use crate::host_memory::Mapped;
use crate::model::KvCache;
use crate::model::experts::{ExpertShape, Scratch};
use crate::reads::ReadPurpose;

pub use segment::{Segment, Stride};

/// Tokens of a segment at most.
const SEGMENT_TOKENS: usize = 160;
/// Tokens of a segment at least that memory is found for.
const SEGMENT_TOKENS_MIN: usize = 16;
/// What the residual streams of a segment may take: of a large model's, fewer tokens are scored at once.
const STREAM_BYTES: usize = 16 << 20;
/// Experts of one layer that are denied together, each in a run of its own.
pub const VARIANTS: usize = 4;

/// Tokens of a segment at most, for this model.
pub fn segment_tokens(config: &TextConfig) -> usize {
    let token = (config.num_hidden_layers + 1) * config.hidden_size * size_of::<f32>();
    (STREAM_BYTES / token).clamp(SEGMENT_TOKENS_MIN, SEGMENT_TOKENS)
}

/// Memory of a shadow with one slot, at its peak.
pub fn bytes(config: &TextConfig, slot_bytes: u64) -> u64 {
    let (tokens, hidden) = (segment_tokens(config), config.hidden_size);
    let heads = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let streams = (config.num_hidden_layers + 1) * hidden;
    let attention = 3 * heads + 5 * kv + 3 * hidden + config.head_dim + tokens;
    let inner = config.moe_intermediate_size.max(config.intermediate_size);
    // Of every row of a batch: its stream, its normed copy, an expert's input, output and inner rows, router logits.
    let row = 5 * hidden + 4 * inner + 3 * config.num_experts;
    slot_bytes + (tokens * (streams + attention + VARIANTS * row) * size_of::<f32>()) as u64
}

/// Scratch memory and readers of shadow runs.
pub struct Shadow {
    reader: DirectReader,
    shape: ExpertShape,
    router: Router,
    /// Experts that the store lacks, by layer.
    absent: BTreeMap<u16, Vec<u16>>,
    slots: BTreeMap<ExpertKey, Mapped>,
    most_slots: usize,
    /// One layer's: a stride needs no other.
    kv: KvCache,
    scratch: Scratch,
    segment_tokens: usize,
    /// Read so far.
    bytes_read: u64,
}

impl Shadow {
    /// A shadow of an engine's model that keeps `slots` experts in memory, at least one.
    ///
    /// # Errors
    /// When the system has no memory to map.
    pub fn new(engine: &Engine, slots: usize) -> Result<Self, EngineError> {
        let config = &engine.thinker.config;
        let row = config.num_key_value_heads * config.head_dim;
        let segment_tokens = segment_tokens(config);
        let kv = KvCache::new(1, row, segment_tokens).map_err(no_memory)?;
        let mut absent = BTreeMap::<u16, Vec<u16>>::new();
        for key in &engine.absent {
            absent.entry(key.layer.layer).or_default().push(key.expert);
        }
        let shape = ModuleShape {
            module: Module::Thinker,
            layers: config.sparse_layers().map(|layer| layer as u16).collect(),
            experts: config.num_experts as u16,
            k_trained: config.num_experts_per_tok as u16,
            norm_topk_prob: config.norm_topk_prob,
            expert_bytes: engine.thinker.expert.bytes() as u64,
        };
        Ok(Self {
            reader: DirectReader::new(Arc::clone(&engine.source)),
            shape: engine.thinker.expert,
            router: Router::new(&shape, RoutingPolicy::Exact),
            absent,
            slots: BTreeMap::new(),
            most_slots: slots.max(1),
            kv,
            scratch: Scratch::default(),
            segment_tokens,
            bytes_read: 0,
        })
    }

    /// Tokens of a segment at most.
    pub fn segment_tokens(&self) -> usize {
        self.segment_tokens
    }

    /// Bytes read from disk so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads an expert into a slot, unless it is in one.
    fn read(&mut self, key: ExpertKey) -> Result<(), EngineError> {
        if self.slots.contains_key(&key) {
            return Ok(());
        }
        let bytes = self.reader.slot_bytes(key)?;
        // Layers run in a cycle: whatever leaves is not the one that is needed next, and any other order is no better.
        let mut memory = if self.slots.len() < self.most_slots {
            Mapped::new(bytes).map_err(no_memory)?
        } else {
            match self.slots.pop_first() {
                Some((_, memory)) if memory.len() == bytes => memory,
                _ => Mapped::new(bytes).map_err(no_memory)?,
            }
        };
        self.reader.read(ReadPurpose::Shadow, key, &mut memory)?;
        self.bytes_read += bytes as u64;
        self.slots.insert(key, memory);
        Ok(())
    }
}

fn no_memory(source: std::io::Error) -> EngineError {
    EngineError::System {
        what: "no memory for shadow runs".into(),
        source,
    }
}
