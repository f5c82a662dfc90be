//! Routing that is forced: the experts of a recording in the place of those that routers of random weights would choose.
//!
//! A decoder that is the thinker's in everything but its router logits: the recorded experts of a token's place in the context
//! share the whole of the probability. Everything behind the logits runs as ever: the mind's routers choose (with as many
//! experts a token as were recorded), the cache evicts and reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::checkpoint::config::TextConfig;
use crate::core::ports::{
    Decoder, DecoderError, DecoderInput, HiddenRows, RoutedRows, Sequence, WeightedOutput,
};
use crate::core::sampling::uniform;
use crate::input::KvPrecision;
use crate::routes::TokenRoutes;

/// Of the experts of the next layer, so many are foreseen: what trained models' routers reach on the layer before.
pub(super) const FORESEEN: f64 = 0.85;

/// A logit of an expert that is not chosen: its probability is nothing beside that of a chosen one.
const NOT_CHOSEN: f32 = -40.0;

/// The thinker with other router logits: see the module.
pub(super) struct ForcedDecoder {
    thinker: Arc<dyn Decoder>,
    routes: Arc<TokenRoutes>,
    /// Of every decoder layer, which of the recording's it is; none of a dense one.
    sparse: Vec<Option<usize>>,
    /// Where the rows that are on their way begin in the context.
    at: AtomicUsize,
}

impl ForcedDecoder {
    pub fn new(thinker: Arc<dyn Decoder>, routes: Arc<TokenRoutes>) -> Self {
        let config = thinker.config();
        let mut sparse = vec![None; config.num_hidden_layers];
        for (number, layer) in config.sparse_layers().enumerate() {
            sparse[layer] = Some(number);
        }
        Self {
            thinker,
            routes,
            sparse,
            at: AtomicUsize::new(0),
        }
    }

    fn begin(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// Logits of some rows, each with the experts that `of_row` has.
    fn logits(&self, rows: usize, of_row: impl Fn(usize) -> Vec<u16>) -> Vec<f32> {
        let experts = self.config().num_experts;
        let mut logits = vec![NOT_CHOSEN; rows * experts];
        for (row, logits) in logits.chunks_exact_mut(experts).enumerate() {
            for expert in of_row(row) {
                logits[usize::from(expert)] = 0.0;
            }
        }
        logits
    }

    /// What is foreseen of a token's experts: each with the chance [`FORESEEN`], else another one.
    fn foreseen(&self, place: usize, layer: usize) -> Vec<u16> {
        let due = self.routes.at(place, layer);
        let mut seen: Vec<u16> = Vec::with_capacity(due.len());
        for (slot, expert) in due.iter().enumerate() {
            let chance = uniform((place * 64 + slot) as u64, layer as u64);
            if chance < FORESEEN {
                seen.push(*expert);
                continue;
            }
            let others = (1..self.routes.experts).map(|step| (expert + step) % self.routes.experts);
            let mut others = others.filter(|other| !due.contains(other));
            seen.extend(others.nth((chance * 997.0) as usize % 32));
        }
        seen
    }
}

impl Decoder for ForcedDecoder {
    fn config(&self) -> &TextConfig {
        self.thinker.config()
    }

    fn spec(&self) -> &str {
        self.thinker.spec()
    }

    fn kv_bytes(&self, tokens: usize, precision: KvPrecision) -> Option<u64> {
        self.thinker.kv_bytes(tokens, precision)
    }

    fn new_sequence(
        &self,
        capacity: usize,
        precision: KvPrecision,
    ) -> Result<Sequence, DecoderError> {
        self.thinker.new_sequence(capacity, precision)
    }

    fn new_layer_sequence(&self, capacity: usize) -> Result<Sequence, DecoderError> {
        self.thinker.new_layer_sequence(capacity)
    }

    fn embed(&self, input: DecoderInput<'_>) -> Result<Box<dyn HiddenRows>, DecoderError> {
        self.thinker.embed(input)
    }

    fn attend(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
        sequence: &mut Sequence,
    ) -> Result<(), DecoderError> {
        self.at.store(sequence.len(), Ordering::Relaxed);
        self.thinker.attend(layer, x, sequence)
    }

    fn route(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
    ) -> Result<Option<RoutedRows>, DecoderError> {
        let rows = x.rows();
        let Some(routed) = self.thinker.route(layer, x)? else {
            return Ok(None);
        };
        let Some(number) = self.sparse[layer] else {
            return Ok(Some(routed));
        };
        let begin = self.begin();
        let of_row = |row: usize| self.routes.at(begin + row, number).to_vec();
        Ok(Some(RoutedRows {
            logits: self.logits(rows, of_row),
            ..routed
        }))
    }

    fn router_logits(
        &self,
        layer: usize,
        input: &dyn HiddenRows,
    ) -> Result<Option<Vec<f32>>, DecoderError> {
        let Some(number) = self.sparse[layer] else {
            return Ok(None);
        };
        let begin = self.begin();
        let of_row = |row: usize| self.foreseen(begin + row, number);
        Ok(Some(self.logits(input.rows(), of_row)))
    }

    fn add_experts(
        &self,
        x: &mut dyn HiddenRows,
        outputs: &[WeightedOutput<'_>],
    ) -> Result<(), DecoderError> {
        self.thinker.add_experts(x, outputs)
    }

    fn add_shared(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
        input: &dyn HiddenRows,
    ) -> Result<(), DecoderError> {
        self.thinker.add_shared(layer, x, input)
    }

    fn add_rows(
        &self,
        x: &mut dyn HiddenRows,
        added: &[(usize, &[f32])],
    ) -> Result<(), DecoderError> {
        self.thinker.add_rows(x, added)
    }

    fn final_norm(&self, x: &dyn HiddenRows) -> Result<Vec<f32>, DecoderError> {
        self.thinker.final_norm(x)
    }

    fn logits(&self, normed: &[f32]) -> Result<Vec<f32>, DecoderError> {
        self.thinker.logits(normed)
    }
}
