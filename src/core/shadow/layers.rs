//! A layer of a shadow run, over the rows of a whole batch.

use std::collections::BTreeMap;

use sage_actors::protocol::{Chosen, ExpertKey, ExpertSet, LayerKey, Module, Phase, Route};

use super::bench::Shadow;
use crate::checkpoint::config::TextConfig;
use crate::core::error::EngineError;
use crate::core::ports::{Decoder, DecoderInput, HiddenRows, WeightedOutput};
use crate::model::Positions;

/// A row of a batch: where its stream begins, and which expert it is denied in this layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AblationRow {
    /// Number of the row in the streams.
    pub at: usize,
    /// Denied here.
    pub denied: Option<u16>,
}

impl Shadow {
    /// Adds the attention of a layer to the streams of several runs of `tokens` tokens each.
    ///
    /// # Errors
    /// When the decoder is lost.
    pub(super) fn attend(
        &mut self,
        thinker: &dyn Decoder,
        layer: usize,
        streams: &mut [f32],
        tokens: usize,
    ) -> Result<(), EngineError> {
        let positions = Positions::text(0, tokens);
        let hidden = thinker.config().hidden_size;
        for stream in streams.chunks_exact_mut(tokens * hidden) {
            self.sequence.truncate(0);
            let input = DecoderInput::numbers(stream.to_vec(), &positions);
            let mut x = thinker.embed(input)?;
            thinker.attend(layer, &mut *x, &mut self.sequence)?;
            stream.copy_from_slice(&x.read()?);
        }
        Ok(())
    }

    /// Adds a layer's feed-forward block to the given rows of the streams; returns each row's choice, in their order
    /// (empty choices in a dense layer).
    ///
    /// # Errors
    /// When an expert cannot be read, or a port is lost.
    pub(super) async fn feed_forward(
        &mut self,
        thinker: &dyn Decoder,
        layer: usize,
        streams: &mut [f32],
        rows: &[AblationRow],
    ) -> Result<Vec<Vec<Chosen>>, EngineError> {
        let hidden = thinker.config().hidden_size;
        let row = |at: usize| at * hidden..(at + 1) * hidden;
        let x: Vec<f32> = rows
            .iter()
            .flat_map(|r| streams[row(r.at)].iter().copied())
            .collect();
        // Nothing attends here: where the rows stand is of no account.
        let places = Positions::text(0, rows.len());
        let input = DecoderInput::numbers(x, &places);
        let mut x = thinker.embed(input)?;
        let choices = match thinker.route(layer, &mut *x)? {
            None => vec![Vec::new(); rows.len()],
            Some(routed) => {
                let choices = self.choose(thinker.config(), layer, routed.logits, rows)?;
                let input = &*routed.input;
                self.run_experts(thinker, layer, &choices, input, &mut *x)
                    .await?;
                choices
            }
        };
        for (r, x) in rows.iter().zip(x.read()?.chunks_exact(hidden)) {
            streams[row(r.at)].copy_from_slice(x);
        }
        Ok(choices)
    }

    /// Adds the chosen experts one after the other, in ascending order, as the engine sums them: without a denial every bit
    /// is the same.
    async fn run_experts(
        &mut self,
        thinker: &dyn Decoder,
        layer: usize,
        choices: &[Vec<Chosen>],
        input: &dyn HiddenRows,
        x: &mut dyn HiddenRows,
    ) -> Result<(), EngineError> {
        let mut by_expert = BTreeMap::<u16, (Vec<usize>, Vec<f32>)>::new();
        for (at, choice) in choices.iter().enumerate() {
            for chosen in choice {
                let (rows, weights) = by_expert.entry(chosen.expert).or_default();
                rows.push(at);
                weights.push(chosen.weight);
            }
        }
        for (expert, (rows, weights)) in by_expert {
            let output = self.experts.work(key(layer, expert), &rows, input).await?;
            let weighted = WeightedOutput {
                rows: &rows,
                weights: &weights,
                values: &*output.values,
            };
            thinker.add_experts(x, &[weighted])?;
        }
        Ok(())
    }

    /// The trained top-k of every row among the experts that are there and not denied.
    fn choose(
        &mut self,
        config: &TextConfig,
        layer: usize,
        mut logits: Vec<f32>,
        rows: &[AblationRow],
    ) -> Result<Vec<Vec<Chosen>>, EngineError> {
        let experts = config.num_experts;
        let absent = self.absent.get(&(layer as u16));
        let absent = absent.map_or(&[][..], Vec::as_slice);
        for (row, logits) in rows.iter().zip(logits.chunks_exact_mut(experts)) {
            for expert in absent.iter().chain(&row.denied) {
                // Its probability underflows to 0: the softmax is the one over the others.
                logits[usize::from(*expert)] = f32::MIN;
            }
        }
        let route = Route {
            tick: 0,
            phase: Phase::Prefill,
            logits,
            resident: ExpertSet::default(),
            bytes_left: None,
            salience_t: 0.0,
            surprise_t: 0.0,
            reward: 0.0,
            spans: Vec::new(),
        };
        let selection = self.router.route(&route).map_err(|source| {
            EngineError::Mind(sage_actors::MindError::Route {
                layer: key(layer, 0).layer,
                source,
            })
        })?;
        let choice = |(at, row): (usize, &AblationRow)| -> Vec<Chosen> {
            let there = |chosen: &&Chosen| {
                row.denied != Some(chosen.expert) && !absent.contains(&chosen.expert)
            };
            selection.row(at).iter().filter(there).copied().collect()
        };
        Ok(rows.iter().enumerate().map(choice).collect())
    }
}

fn key(layer: usize, expert: u16) -> ExpertKey {
    ExpertKey {
        layer: LayerKey {
            module: Module::Thinker,
            layer: layer as u16,
        },
        expert,
    }
}
