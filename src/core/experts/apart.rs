//! One row through a sparse layer with its experts one after the other, each timed: the same asks, leases and arithmetic as
//! [`Engine::run_sparse`], which runs them together.

use std::time::{Duration, Instant};

use sage_actors::protocol::{
    ExpertKey, LayerKey, LeaseRequest, LeasedExpert, Residency, Selection, Use,
};

use super::{ExpertOutput, Routed, SparseLayer, SparseStep, gather, route, run_expert};
use crate::core::{Engine, EngineError};
use crate::kernels::pointwise::add_scaled;

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
    /// Its arithmetic.
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
    /// Has the experts of `layer`'s only row chosen, leased and run. What they give is added to nothing.
    ///
    /// # Errors
    /// When an expert cannot be read, or an actor failed.
    pub(in crate::core) async fn run_apart(
        &mut self,
        step: &SparseStep<'_>,
        layer: SparseLayer<'_>,
        residency: &Residency,
    ) -> Result<TimedLayer, EngineError> {
        let key = LayerKey {
            module: step.module,
            layer: layer.number as u16,
        };
        let asked = Instant::now();
        let question = route(step, layer.logits, residency);
        let selection = self.asked.time(1, self.mind.route(key, question)).await?;
        let chosen_in = asked.elapsed();
        let routed = Routed {
            key,
            phase: step.phase,
            expert: step.expert,
            normed: layer.normed,
            selection: &selection,
        };
        let mut experts = Vec::new();
        let mut outputs = gather(&selection);
        for window in outputs.chunks_mut(self.window_experts) {
            let request = LeaseRequest {
                tick: self.tick,
                phase: step.phase,
                layer: key,
                tokens: 1,
                uses: window
                    .iter()
                    .map(|output| Use {
                        expert: output.expert,
                        tokens: 1,
                    })
                    .collect(),
                next_layer: self.layer_after(key),
            };
            let lease = self.asked.time(1, self.mind.lease(request)).await?;
            let ran = self.run_each(&routed, window, &lease.experts, &mut experts);
            // Given back before an error is passed on: a lease must never be lost.
            self.asked.time(1, self.mind.release(lease.id)).await?;
            ran?;
        }
        let mut output = vec![0.0; step.expert.hidden];
        for (one, timed) in outputs.iter().zip(&experts) {
            add_scaled(&mut output, &one.values, timed.weight);
        }
        experts.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.expert.cmp(&b.expert)));
        Ok(TimedLayer {
            selection,
            chosen_in,
            experts,
            output,
        })
    }

    fn run_each(
        &mut self,
        routed: &Routed<'_>,
        window: &mut [ExpertOutput],
        leased: &[LeasedExpert],
        experts: &mut Vec<TimedExpert>,
    ) -> Result<(), EngineError> {
        for (output, leased) in window.iter_mut().zip(leased) {
            let key = ExpertKey {
                layer: routed.key,
                expert: leased.expert,
            };
            let memory = self.arena.wait(key, leased.slot)?;
            let started = Instant::now();
            run_expert(routed, output, &memory, &mut self.scratch)?;
            experts.push(TimedExpert {
                expert: output.expert,
                weight: output.rows.first().map_or(0.0, |(_, weight)| *weight),
                hit: leased.hit,
                read_in: self.arena.read_in(leased.slot).filter(|_| !leased.hit),
                ran_in: started.elapsed(),
            });
        }
        Ok(())
    }
}
