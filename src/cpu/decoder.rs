//! Thinker and talker in this process's memory.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::scratch::ScratchPool;
use super::sizes::{BLOCK_TOKENS, kv_bytes, kv_shape};
use crate::checkpoint::config::TextConfig;
use crate::core::ports::{
    Decoder, DecoderError, DecoderInput, HiddenRows, InputRows, KvMemory, PlainRows, RoutedRows,
    Sequence, WeightedOutput,
};
use crate::input::KvPrecision;
use crate::kernels::SPEC;
use crate::kernels::pointwise::add_scaled;
use crate::model::rope::Angles;
use crate::model::{KvCache, Talker, Thinker};
use crate::store::WeightSource;

/// Weights of the module that decodes.
enum Weights {
    Thinker(Box<Thinker>),
    Talker(Arc<Talker>),
}

/// A decoder whose weights, keys and values are in this process's memory.
pub struct CpuDecoder {
    weights: Weights,
    spec: String,
    scratch: ScratchPool,
}

/// Rows on their way through a decoder of this process, and how their heads are turned.
struct CpuRows {
    x: Vec<f32>,
    hidden: usize,
    angles: Angles,
}

impl HiddenRows for CpuRows {
    fn rows(&self) -> usize {
        self.x.len() / self.hidden
    }

    fn read(&self) -> Result<Cow<'_, [f32]>, DecoderError> {
        Ok(Cow::Borrowed(&self.x))
    }

    fn into_numbers(self: Box<Self>) -> Result<Vec<f32>, DecoderError> {
        Ok(self.x)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Keys and values in this process's memory.
struct CpuKv {
    cache: KvCache,
    /// The cache has room for one layer, whichever it is.
    one_layer: bool,
}

impl KvMemory for CpuKv {
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn own(x: &mut dyn HiddenRows) -> Result<&mut CpuRows, DecoderError> {
    let rows = x.as_any_mut().downcast_mut::<CpuRows>();
    rows.ok_or(DecoderError::Foreign {
        what: "hidden states",
    })
}

/// Names the arithmetic of a model: that of numbers which stand for themselves, and of the blocks that its tensors are
/// stored in.
pub fn spec_of(source: &dyn WeightSource) -> String {
    let formats = source.tensor_names().into_iter().filter_map(|name| {
        let tensor = source.tensor(name).ok()?;
        Some(tensor.dtype.arithmetic())
    });
    let blocks: BTreeSet<&str> = formats.filter(|name| *name != SPEC).collect();
    let names: Vec<&str> = std::iter::once(SPEC).chain(blocks).collect();
    names.join(", ")
}

impl CpuDecoder {
    /// `spec` names the arithmetic of the whole model's formats: [`spec_of`].
    pub fn thinker(thinker: Thinker, spec: String) -> Self {
        Self::new(Weights::Thinker(Box::new(thinker)), spec)
    }

    pub(super) fn talker(talker: Arc<Talker>, spec: String) -> Self {
        Self::new(Weights::Talker(talker), spec)
    }

    fn new(weights: Weights, spec: String) -> Self {
        Self {
            weights,
            spec,
            scratch: ScratchPool::default(),
        }
    }

    fn sequence(
        &self,
        layers: usize,
        capacity: usize,
        precision: KvPrecision,
    ) -> Result<Sequence, DecoderError> {
        let config = self.config();
        let shape = kv_shape(config, layers, precision);
        let cache = KvCache::new(shape, capacity).map_err(|source| DecoderError::Memory {
            what: match self.weights {
                Weights::Thinker(_) => "no memory for the key-value cache",
                Weights::Talker(_) => "no memory for the talker's key-value cache",
            },
            source,
        })?;
        let one_layer = layers < config.num_hidden_layers;
        Ok(Sequence::new(
            Box::new(CpuKv { cache, one_layer }),
            capacity,
        ))
    }
}

impl Decoder for CpuDecoder {
    fn config(&self) -> &TextConfig {
        match &self.weights {
            Weights::Thinker(thinker) => &thinker.config,
            Weights::Talker(talker) => &talker.config.text,
        }
    }

    fn spec(&self) -> &str {
        &self.spec
    }

    fn kv_bytes(&self, tokens: usize, precision: KvPrecision) -> Option<u64> {
        kv_bytes(self.config(), tokens, precision)
    }

    fn new_sequence(
        &self,
        capacity: usize,
        precision: KvPrecision,
    ) -> Result<Sequence, DecoderError> {
        self.sequence(self.config().num_hidden_layers, capacity, precision)
    }

    fn new_layer_sequence(&self, capacity: usize) -> Result<Sequence, DecoderError> {
        self.sequence(1, capacity, KvPrecision::Exact)
    }

    fn embed(&self, input: DecoderInput<'_>) -> Result<Box<dyn HiddenRows>, DecoderError> {
        let hidden = self.config().hidden_size;
        let x = match input.rows {
            InputRows::Numbers(rows) => rows,
            InputRows::Tokens { ids, replaced } => {
                let mut x = match &self.weights {
                    Weights::Thinker(thinker) => thinker.embed(ids)?,
                    Weights::Talker(talker) => {
                        let rows = ids.iter().map(|id| talker.embed_code(*id));
                        rows.collect::<Vec<_>>().concat()
                    }
                };
                for (row, values) in replaced {
                    x[row * hidden..(row + 1) * hidden].copy_from_slice(values);
                }
                x
            }
        };
        let angles = match &self.weights {
            Weights::Thinker(thinker) => thinker.angles(input.positions),
            Weights::Talker(talker) => talker.angles(input.positions),
        };
        Ok(Box::new(CpuRows { x, hidden, angles }))
    }

    fn attend(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
        sequence: &mut Sequence,
    ) -> Result<(), DecoderError> {
        let CpuRows { x, hidden, angles } = own(x)?;
        let past = sequence.len();
        let memory = sequence.memory_mut().as_any_mut();
        let kv = memory
            .downcast_mut::<CpuKv>()
            .ok_or(DecoderError::Foreign {
                what: "keys and values",
            })?;
        let at = if kv.one_layer { 0 } else { layer };
        let kv = &mut kv.cache;
        let hidden = *hidden;
        // A row sees no later one, so that some of them after others are all of them at once.
        for (block, x) in x.chunks_mut(BLOCK_TOKENS * hidden).enumerate() {
            let first = block * BLOCK_TOKENS;
            let angles = angles.of(first..first + x.len() / hidden);
            kv.count(past + first);
            self.scratch.with(|scratch| match &self.weights {
                Weights::Thinker(thinker) => thinker.attend(layer, at, x, kv, &angles, scratch),
                Weights::Talker(talker) => talker.attend(layer, at, x, kv, &angles, scratch),
            });
        }
        Ok(())
    }

    fn route(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
    ) -> Result<Option<RoutedRows>, DecoderError> {
        let CpuRows { x, hidden, .. } = own(x)?;
        let routed = |input: Vec<f32>, logits| RoutedRows {
            input: Box::new(PlainRows::new(input, *hidden)),
            logits,
        };
        self.scratch.with(|scratch| match &self.weights {
            Weights::Thinker(thinker) => {
                let normed = thinker.feed_forward_input(layer, x);
                if let Some(logits) = thinker.router_logits(layer, &normed, scratch) {
                    return Ok(Some(routed(normed, logits)));
                }
                let blocks = x.chunks_mut(BLOCK_TOKENS * *hidden);
                for (x, normed) in blocks.zip(normed.chunks(BLOCK_TOKENS * *hidden)) {
                    if let Some(added) = thinker.dense(layer, normed, scratch) {
                        add_scaled(x, &added, 1.0);
                    }
                }
                Ok(None)
            }
            Weights::Talker(talker) => {
                let normed = talker.feed_forward_input(layer, x);
                let logits = talker.router_logits(layer, &normed, scratch);
                Ok(Some(routed(normed, logits)))
            }
        })
    }

    fn router_logits(
        &self,
        layer: usize,
        input: &dyn HiddenRows,
    ) -> Result<Option<Vec<f32>>, DecoderError> {
        let input = input.read()?;
        Ok(self.scratch.with(|scratch| match &self.weights {
            Weights::Thinker(thinker) => thinker.router_logits(layer, &input, scratch),
            Weights::Talker(talker) => Some(talker.router_logits(layer, &input, scratch)),
        }))
    }

    fn add_experts(
        &self,
        x: &mut dyn HiddenRows,
        outputs: &[WeightedOutput<'_>],
    ) -> Result<(), DecoderError> {
        let CpuRows { x, hidden, .. } = own(x)?;
        for output in outputs {
            let values = output.values.read()?;
            let rows = output.rows.iter().zip(output.weights);
            for ((row, weight), value) in rows.zip(values.chunks_exact(*hidden)) {
                add_scaled(&mut x[row * *hidden..(row + 1) * *hidden], value, *weight);
            }
        }
        Ok(())
    }

    fn add_shared(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
        input: &dyn HiddenRows,
    ) -> Result<(), DecoderError> {
        let Weights::Talker(talker) = &self.weights else {
            return Ok(());
        };
        let input = input.read()?;
        let shared = self
            .scratch
            .with(|scratch| talker.shared(layer, &input, scratch));
        add_scaled(&mut own(x)?.x, &shared, 1.0);
        Ok(())
    }

    fn add_rows(
        &self,
        x: &mut dyn HiddenRows,
        added: &[(usize, &[f32])],
    ) -> Result<(), DecoderError> {
        let CpuRows { x, hidden, .. } = own(x)?;
        for (row, added) in added {
            add_scaled(&mut x[row * *hidden..(row + 1) * *hidden], added, 1.0);
        }
        Ok(())
    }

    fn final_norm(&self, x: &dyn HiddenRows) -> Result<Vec<f32>, DecoderError> {
        let x = x.read()?;
        Ok(match &self.weights {
            Weights::Thinker(thinker) => thinker.final_norm(&x),
            Weights::Talker(talker) => talker.final_norm(&x),
        })
    }

    fn logits(&self, normed: &[f32]) -> Result<Vec<f32>, DecoderError> {
        Ok(self.scratch.with(|scratch| match &self.weights {
            Weights::Thinker(thinker) => thinker.logits(normed, scratch),
            Weights::Talker(talker) => talker.codec_logits(normed, scratch),
        }))
    }
}
