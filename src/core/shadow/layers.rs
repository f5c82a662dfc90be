//! A layer of a shadow run, over the rows of a whole batch.

use std::collections::BTreeMap;

use sage_actors::protocol::{Chosen, ExpertKey, ExpertSet, LayerKey, Module, Phase, Route};

use super::Shadow;
use crate::core::EngineError;
use crate::kernels::pointwise::add_scaled;
use crate::model::experts::Gated;
use crate::model::{Positions, Thinker};

/// A row of a batch: where its stream begins, and which expert it is denied in this layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Number of the row in the streams.
    pub at: usize,
    /// Denied here.
    pub denied: Option<u16>,
}

impl Shadow {
    /// Adds the attention of a layer to the streams of several runs of `tokens` tokens each.
    pub(super) fn attend(
        &mut self,
        thinker: &Thinker,
        layer: usize,
        streams: &mut [f32],
        tokens: usize,
    ) {
        let angles = thinker.angles(&Positions::text(0, tokens));
        let hidden = thinker.config.hidden_size;
        for stream in streams.chunks_exact_mut(tokens * hidden) {
            self.kv.truncate(0);
            thinker.attend_in(layer, 0, stream, &mut self.kv, &angles, &mut self.scratch);
        }
    }

    /// Adds a layer's feed-forward block to the given rows of the streams; returns each row's choice, in their order
    /// (empty choices in a dense layer).
    ///
    /// # Errors
    /// When an expert cannot be read.
    pub(super) fn feed_forward(
        &mut self,
        thinker: &Thinker,
        layer: usize,
        streams: &mut [f32],
        rows: &[Row],
    ) -> Result<Vec<Vec<Chosen>>, EngineError> {
        let hidden = thinker.config.hidden_size;
        let row = |at: usize| at * hidden..(at + 1) * hidden;
        let x: Vec<f32> = rows
            .iter()
            .flat_map(|r| streams[row(r.at)].iter().copied())
            .collect();
        let normed = thinker.feed_forward_input(layer, &x);
        drop(x);
        if let Some(added) = thinker.dense(layer, &normed, &mut self.scratch) {
            for (r, added) in rows.iter().zip(added.chunks_exact(hidden)) {
                add_scaled(&mut streams[row(r.at)], added, 1.0);
            }
            return Ok(vec![Vec::new(); rows.len()]);
        }
        let choices = self.choose(thinker, layer, &normed, rows)?;
        let mut by_expert = BTreeMap::<u16, Vec<(usize, f32)>>::new();
        for (at, choice) in choices.iter().enumerate() {
            for chosen in choice {
                let users = by_expert.entry(chosen.expert).or_default();
                users.push((at, chosen.weight));
            }
        }
        // In ascending order of experts, as the engine sums them: without a denial every bit is the same.
        for (expert, users) in by_expert {
            let key = key(layer, expert);
            self.read(key)?;
            let Some(memory) = self.slots.get(&key) else {
                continue;
            };
            let expert = Gated::of_record(memory, self.shape).ok_or(EngineError::ShortRecord {
                component: "thinker",
                layer: layer as u16,
                expert,
            })?;
            let x: Vec<f32> = users
                .iter()
                .flat_map(|(at, _)| normed[row(*at)].iter().copied())
                .collect();
            let mut out = vec![0.0; x.len()];
            expert.apply(&x, users.len(), &mut out, &mut self.scratch);
            for ((at, weight), out) in users.iter().zip(out.chunks_exact(hidden)) {
                add_scaled(&mut streams[row(rows[*at].at)], out, *weight);
            }
        }
        Ok(choices)
    }

    /// The trained top-k of every row among the experts that are there and not denied.
    fn choose(
        &mut self,
        thinker: &Thinker,
        layer: usize,
        normed: &[f32],
        rows: &[Row],
    ) -> Result<Vec<Vec<Chosen>>, EngineError> {
        let Some(mut logits) = thinker.router_logits(layer, normed, &mut self.scratch) else {
            return Ok(vec![Vec::new(); rows.len()]);
        };
        let experts = thinker.config.num_experts;
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
        let choice = |(at, row): (usize, &Row)| -> Vec<Chosen> {
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
