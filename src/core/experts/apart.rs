//! One row through a sparse layer with its experts one after the other, each timed: the same asks, leases and arithmetic as
//! `run_sparse`, which runs them together.

use std::time::{Duration, Instant};

use sage_actors::protocol::{LayerKey, LeasedExpert, Selection};

use tracing::Instrument;

use super::{Workload, gather, key, route, weighted};
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::layers::Passage;
use crate::core::ports::{DecoderInput, ExpertOutput, HiddenRows};
use crate::model::Positions;
use crate::spans;

/// One expert of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedExpert {
    pub expert: u16,
    /// Its mixing weight.
    pub weight: f32,
    /// It was in memory before.
    pub hit: bool,
    /// Reading it from disk; none where it was in memory.
    pub read_in: Option<Duration>,
    pub ran_in: Duration,
}

/// The row's experts, in descending weight.
#[derive(Debug)]
pub(crate) struct TimedLayer {
    pub selection: Selection,
    /// Until the router's actor had answered.
    pub chosen_in: Duration,
    pub experts: Vec<TimedExpert>,
    /// Their outputs by weight, `[hidden]`.
    pub output: Vec<f32>,
}

impl Engine {
    /// Has the experts of `layer` chosen for the passage's only row, leased and run; `input` is the row, normed. What they
    /// give is added to nothing.
    ///
    /// # Errors
    /// When an expert cannot be read, a port is lost, or an actor failed.
    pub(in crate::core) async fn run_apart(
        &mut self,
        passage: &Passage<'_>,
        layer: usize,
        input: &dyn HiddenRows,
        logits: Vec<f32>,
    ) -> Result<TimedLayer, EngineError> {
        let step = &passage.step;
        let key = key(step, layer);
        let asked = Instant::now();
        let question = route(step, logits, &passage.residency);
        let question = self.mind.route(key, question).instrument(spans::route(key));
        let selection = self.clock.ask(1, question).await?;
        let chosen_in = asked.elapsed();
        let mut experts = Vec::new();
        let mut outputs = Vec::new();
        let workloads = gather(&selection);
        for window in workloads.chunks(self.work.window_experts) {
            let request = self.lease_request(step, key, 1, window, &[]);
            let asked = self.mind.lease(request);
            let asked = asked.instrument(spans::lease(key, window.len()));
            let lease = self.clock.ask(1, asked).await?;
            let worked = self.run_each(key, window, &lease.experts, input).await;
            // Given back before an error is passed on: a lease must never be lost.
            self.clock.ask(1, self.mind.release(lease.id)).await?;
            for ((output, leased), workload) in worked?.into_iter().zip(&lease.experts).zip(window)
            {
                experts.push(TimedExpert {
                    expert: leased.expert,
                    weight: workload.weights.first().copied().unwrap_or(0.0),
                    hit: leased.hit,
                    read_in: output.read_in.filter(|_| !leased.hit),
                    ran_in: output.ran_in,
                });
                outputs.push(output);
            }
        }
        let decoder = &passage.decoder;
        let nothing = vec![0.0; decoder.config().hidden_size];
        let mut sum = decoder.embed(DecoderInput::numbers(nothing, &Positions::text(0, 1)))?;
        let weighted: Vec<_> = workloads.iter().zip(&outputs).map(weighted).collect();
        decoder.add_experts(&mut *sum, &weighted)?;
        experts.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.expert.cmp(&b.expert)));
        Ok(TimedLayer {
            selection,
            chosen_in,
            experts,
            output: sum.into_numbers()?,
        })
    }

    /// Experts of a window, each run alone.
    async fn run_each(
        &self,
        layer: LayerKey,
        window: &[Workload],
        leased: &[LeasedExpert],
        input: &dyn HiddenRows,
    ) -> Result<Vec<ExpertOutput>, EngineError> {
        let mut outputs = Vec::with_capacity(window.len());
        for (workload, leased) in window.chunks(1).zip(leased.chunks(1)) {
            outputs.extend(self.run_window(layer, workload, leased, input).await?);
        }
        Ok(outputs)
    }
}
