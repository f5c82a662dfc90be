//! A layer's experts by way of the mind: leased window by window, run by whoever hosts them, summed in an order that does not
//! depend on what was in memory or who answered first. The same for every module.

pub(super) mod apart;

use std::collections::BTreeMap;

use sage_actors::protocol::{
    ExpertKey, ExpertSet, ExpertUse, LayerKey, LeaseRequest, LeasedExpert, Phase, Residency, Route,
    Selection, Use,
};

use tracing::Instrument;

use super::engine::Engine;
use super::error::EngineError;
use super::layers::{LayerStep, Passage};
use super::ports::{
    ExpertHost, ExpertOutput, ExpertTask, HiddenRows, LostHost, WeightedOutput, module_name,
};
use crate::spans;

/// A layer's expert, the rows that it works on, and how much each of them counts.
struct Workload {
    expert: u16,
    /// Ascending.
    rows: Vec<usize>,
    /// Mixing weight of each.
    weights: Vec<f32>,
}

impl Engine {
    /// Has a layer's experts chosen, and adds their weighted outputs to the passage's rows; what was chosen and what it took
    /// goes into its `out`, the router's entropy as a sum. `input` is the layer's normed rows, `logits` its router's. The
    /// passage's residency is the layer's before, the next one's afterwards.
    pub(super) async fn run_sparse(
        &mut self,
        passage: &mut Passage<'_>,
        layer: usize,
        input: &dyn HiddenRows,
        logits: Vec<f32>,
    ) -> Result<(), EngineError> {
        let key = key(&passage.step, layer);
        let selection = self.choose(passage, key, logits).await?;
        self.run_experts(passage, key, input, &selection).await
    }

    /// Asks the layer's router.
    async fn choose(
        &mut self,
        passage: &mut Passage<'_>,
        key: LayerKey,
        logits: Vec<f32>,
    ) -> Result<Selection, EngineError> {
        let Passage { step, out, .. } = passage;
        let (name, layer) = (module_name(step.module), usize::from(key.layer));
        let tensor = format_args!("{name}.router_logits.{layer}");
        step.listener.tensor(tensor, &logits);
        let route = route(step, logits, &passage.residency);
        let asked = self.mind.route(key, route).instrument(spans::route(key));
        let selection = self.clock.ask(1, asked).await?;
        step.listener.selection(layer, &selection);
        out.entropy.spans.resize(step.spans.len(), 0.0);
        let layers = self.layers_of(step.module).len().max(1) as f32;
        let shares = selection.span_entropy_sums.iter().map(|sum| sum / layers);
        for (entropy, share) in out.entropy.spans.iter_mut().zip(shares) {
            *entropy += share;
        }
        out.note_selection(key.layer, &selection);
        Ok(selection)
    }

    /// Leases and runs a layer's experts window by window and adds their weighted outputs to the rows, in ascending order
    /// of experts for every token, whatever was in memory first and whoever answered first.
    async fn run_experts(
        &mut self,
        passage: &mut Passage<'_>,
        key: LayerKey,
        input: &dyn HiddenRows,
        selection: &Selection,
    ) -> Result<(), EngineError> {
        let mut workloads = gather(selection);
        in_window_order(&mut workloads, &passage.residency.resident);
        let mut outputs = Vec::with_capacity(workloads.len());
        for (at, window) in workloads.chunks(self.work.window_experts).enumerate() {
            let request = self.lease_request(&passage.step, key, selection.rows(), window);
            let asked = self.mind.lease(request);
            let asked = asked.instrument(spans::lease(key, window.len()));
            let lease = self.clock.ask(1, asked).await?;
            let traffic = &mut passage.out.traffic;
            traffic.add(&lease.experts, lease.miss_bytes);
            // Behind what this layer lacks, and after what was foreseen for it was taken over.
            let ahead = match at {
                0 => self.look_ahead(passage, key, input).await,
                _ => Ok(()),
            };
            let worked = self.run_window(key, window, &lease.experts, input).await;
            // Given back before an error is passed on: a lease must never be lost.
            self.clock.ask(1, self.mind.release(lease.id)).await?;
            ahead?;
            outputs.extend(worked?);
            passage.residency = lease.next;
        }
        workloads.sort_unstable_by_key(|workload| workload.expert);
        outputs.sort_unstable_by_key(|output| output.expert);
        passage
            .out
            .work
            .used
            .extend(workloads.iter().map(|workload| ExpertUse {
                layer: key.layer,
                expert: workload.expert,
                tokens: workload.rows.len() as u32,
            }));
        let weighted: Vec<_> = workloads.iter().zip(&outputs).map(weighted).collect();
        passage.decoder.add_experts(&mut *passage.x, &weighted)?;
        Ok(())
    }

    fn lease_request(
        &self,
        step: &LayerStep<'_>,
        key: LayerKey,
        tokens: usize,
        window: &[Workload],
    ) -> LeaseRequest {
        let uses = window.iter().map(|workload| Use {
            expert: workload.expert,
            tokens: workload.rows.len() as u32,
        });
        LeaseRequest {
            tick: self.tick(),
            phase: step.phase,
            layer: key,
            tokens: tokens as u32,
            uses: uses.collect(),
            next_layer: self.experts.layer_after(key),
        }
    }

    /// Has the host run a window's experts; one output for each of them, in no order.
    async fn run_window(
        &self,
        layer: LayerKey,
        window: &[Workload],
        leased: &[LeasedExpert],
        input: &dyn HiddenRows,
    ) -> Result<Vec<ExpertOutput>, EngineError> {
        let pairs = leased.iter().zip(window);
        let tasks: Vec<ExpertTask<'_>> = pairs
            .map(|(leased, workload)| ExpertTask {
                leased: *leased,
                rows: &workload.rows,
            })
            .collect();
        let outputs = self.body.experts.work(layer, &tasks, input).await?;
        check_outputs(self.host(), layer, &tasks, &outputs)?;
        Ok(outputs)
    }

    /// Predicts the next sparse layer's experts with its router on this layer's input, and has them read ahead.
    async fn look_ahead(
        &mut self,
        passage: &Passage<'_>,
        key: LayerKey,
        input: &dyn HiddenRows,
    ) -> Result<(), EngineError> {
        if passage.step.phase != Phase::Decode || !self.work.read_ahead {
            return Ok(());
        }
        let decoder = &passage.decoder;
        let count = usize::from(passage.step.lookahead);
        let next = self.experts.layer_after(key);
        // The first layer's input is another token's: nothing to predict from.
        if count == 0 || next <= key {
            return Ok(());
        }
        let Some(logits) = decoder.router_logits(usize::from(next.layer), input)? else {
            return Ok(());
        };
        let mut order: Vec<u16> = (0..logits.len() as u16).collect();
        order.sort_by(|a, b| {
            logits[usize::from(*b)]
                .total_cmp(&logits[usize::from(*a)])
                .then(a.cmp(b))
        });
        order.retain(|expert| {
            let (layer, expert) = (next, *expert);
            !self.experts.absent.contains(&ExpertKey { layer, expert })
        });
        order.truncate(count);
        let prefetch = self.mind.prefetch(next, order);
        Ok(self.clock.ask(1, prefetch).await?)
    }
}

fn key(step: &LayerStep<'_>, layer: usize) -> LayerKey {
    LayerKey {
        module: step.module,
        layer: layer as u16,
    }
}

fn weighted<'a>((workload, output): (&'a Workload, &'a ExpertOutput)) -> WeightedOutput<'a> {
    WeightedOutput {
        rows: &workload.rows,
        weights: &workload.weights,
        values: &*output.values,
    }
}

/// That a host answered what it was asked: one output for every task, of as many rows.
fn check_outputs(
    host: &dyn ExpertHost,
    layer: LayerKey,
    tasks: &[ExpertTask<'_>],
    outputs: &[ExpertOutput],
) -> Result<(), EngineError> {
    let lost = |expert: u16, reason: String| LostHost {
        host: host.name().to_owned(),
        key: ExpertKey { layer, expert },
        reason,
    };
    for task in tasks {
        let expert = task.leased.expert;
        let mut of_task = outputs.iter().filter(|output| output.expert == expert);
        let rows = of_task.next().map(|output| output.values.rows());
        if rows != Some(task.rows.len()) || of_task.next().is_some() {
            let (found, expected) = (rows.unwrap_or(0), task.rows.len());
            let reason =
                format!("it answered with {found} rows, expected one output of {expected}");
            return Err(lost(expert, reason).into());
        }
    }
    if outputs.len() != tasks.len() {
        let expert = outputs.iter().find(|output| {
            let known = |task: &ExpertTask<'_>| task.leased.expert == output.expert;
            !tasks.iter().any(known)
        });
        let expert = expert.map_or(0, |output| output.expert);
        return Err(lost(
            expert,
            "it answered for an expert that it was not asked".into(),
        )
        .into());
    }
    Ok(())
}

/// What the layer's router is asked.
fn route(step: &LayerStep<'_>, logits: Vec<f32>, residency: &Residency) -> Route {
    Route {
        tick: step.tick,
        phase: step.phase,
        logits,
        resident: residency.resident.clone(),
        bytes_left: residency.bytes_left.filter(|_| step.phase == Phase::Decode),
        salience_t: step.felt.salience_t,
        surprise_t: step.felt.surprise_t,
        reward: step.felt.reward,
        spans: step.spans.clone(),
    }
}

/// The chosen experts with the tokens that each works on, ascending; none is leased yet.
fn gather(selection: &Selection) -> Vec<Workload> {
    let mut by_expert = BTreeMap::<u16, (Vec<usize>, Vec<f32>)>::new();
    for row in 0..selection.rows() {
        for chosen in selection.row(row) {
            let (rows, weights) = by_expert.entry(chosen.expert).or_default();
            rows.push(row);
            weights.push(chosen.weight);
        }
    }
    by_expert
        .into_iter()
        .map(|(expert, (rows, weights))| Workload {
            expert,
            rows,
            weights,
        })
        .collect()
}

/// Residents first: a window of misses must not evict what a later window of the same layer could have hit.
fn in_window_order(workloads: &mut [Workload], resident: &ExpertSet) {
    workloads.sort_by_key(|workload| (!resident.contains(workload.expert), workload.expert));
}
