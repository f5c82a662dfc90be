//! A layer's experts by way of the mind: leased window by window, computed while the rest is read, summed in an order that
//! does not depend on what was in memory. The same for every module.

pub(super) mod apart;

use std::collections::BTreeMap;

use rayon::prelude::*;
use sage_actors::protocol::{
    Chosen, ExpertKey, ExpertSet, LayerKey, LeaseRequest, LeasedExpert, Module, Phase, Residency,
    Route, SalienceSpan, Selection, Tick, Use, Used, Worked,
};

use super::{Engine, EngineError, Forward, Probe};
use crate::cpu::arena::module_name;
use crate::host_memory::Mapped;
use crate::kernels::pointwise::add_scaled;
use crate::model::experts::{ExpertShape, Gated, Scratch};

/// Some tokens' way through the sparse layers of one module.
pub(super) struct SparseStep<'a> {
    pub module: Module,
    pub phase: Phase,
    /// When the step began.
    pub tick: Tick,
    /// Shape of its experts.
    pub expert: ExpertShape,
    /// Experts of the next layer to read ahead.
    pub lookahead: u16,
    /// What its tokens carry into the routers.
    pub felt: Felt,
    /// Tokens that carry another modality's salience instead.
    pub spans: &'a [SalienceSpan],
}

/// Salience that tokens carry into the routers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Felt {
    /// In [0, 1].
    pub salience_t: f32,
    /// In [0, 1].
    pub surprise_t: f32,
    /// In [0, 1].
    pub reward: f32,
}

/// A sparse layer and its input.
pub(super) struct SparseLayer<'a> {
    pub number: usize,
    /// Input of the experts, `[tokens, hidden]`.
    pub normed: &'a [f32],
    /// Of its router, `[tokens, experts]`.
    pub logits: Vec<f32>,
}

/// A sparse layer whose experts are chosen.
struct Routed<'a> {
    key: LayerKey,
    phase: Phase,
    expert: ExpertShape,
    /// Input of the experts, `[tokens, hidden]`.
    normed: &'a [f32],
    selection: &'a Selection,
}

/// Outputs of a layer's experts, kept until they can be summed in a fixed order.
struct ExpertOutput {
    expert: u16,
    /// (token, weight) in order of tokens.
    rows: Vec<(usize, f32)>,
    /// `[rows, hidden]`.
    values: Vec<f32>,
}

impl Engine {
    /// Has a layer's experts chosen, and adds their weighted outputs to `x`; what was chosen and what it took goes into
    /// `out`, the router's entropy as a sum. `residency` is the layer's before, the next one's afterwards.
    pub(super) async fn run_sparse(
        &mut self,
        step: &SparseStep<'_>,
        layer: SparseLayer<'_>,
        residency: &mut Residency,
        x: &mut [f32],
        out: &mut Forward,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<(), EngineError> {
        let key = LayerKey {
            module: step.module,
            layer: layer.number as u16,
        };
        if let Some(probe) = probe.as_deref_mut() {
            let name = module_name(step.module);
            probe.tensor(
                &format!("{name}.router_logits.{}", layer.number),
                &layer.logits,
            );
        }
        let route = route(step, layer.logits, residency);
        let selection = self.asked.time(1, self.mind.route(key, route)).await?;
        if let Some(probe) = probe.as_deref_mut() {
            probe.selection(layer.number, &selection);
        }
        out.router_entropy += selection.entropy_sum;
        out.span_entropies.resize(step.spans.len(), 0.0);
        let layers = self.layers_of(step.module).len().max(1) as f32;
        let shares = selection.span_entropy_sums.iter().map(|sum| sum / layers);
        for (entropy, share) in out.span_entropies.iter_mut().zip(shares) {
            *entropy += share;
        }
        note_selection(out, key.layer, &selection);
        if step.phase == Phase::Decode && self.read_ahead {
            self.look_ahead(key, layer.normed, step.lookahead).await?;
        }
        let routed = Routed {
            key,
            phase: step.phase,
            expert: step.expert,
            normed: layer.normed,
            selection: &selection,
        };
        let before = std::mem::take(residency);
        *residency = self.run_experts(&routed, before, x, out).await?;
        Ok(())
    }

    /// Leases and runs a layer's experts window by window and adds their weighted outputs to `x`, in ascending
    /// order of experts for every token, whatever was in memory first. Returns the next layer's residency.
    async fn run_experts(
        &mut self,
        routed: &Routed<'_>,
        residency: Residency,
        x: &mut [f32],
        out: &mut Forward,
    ) -> Result<Residency, EngineError> {
        let hidden = routed.expert.hidden;
        let mut outputs = gather(routed.selection);
        in_window_order(&mut outputs, &residency.resident);
        let mut next = residency;
        for window in outputs.chunks_mut(self.window_experts) {
            let request = LeaseRequest {
                tick: self.tick,
                phase: routed.phase,
                layer: routed.key,
                tokens: routed.selection.rows() as u32,
                uses: window
                    .iter()
                    .map(|e| Use {
                        expert: e.expert,
                        tokens: e.rows.len() as u32,
                    })
                    .collect(),
                next_layer: self.layer_after(routed.key),
            };
            let lease = self.asked.time(1, self.mind.lease(request)).await?;
            out.hits += lease.experts.iter().filter(|expert| expert.hit).count() as u64;
            out.misses += lease.experts.iter().filter(|expert| !expert.hit).count() as u64;
            out.miss_bytes += lease.miss_bytes;
            let ran = self.run_window(routed, window, &lease.experts);
            // Given back before an error is passed on: a lease must never be lost.
            self.asked.time(1, self.mind.release(lease.id)).await?;
            ran?;
            next = lease.next;
        }
        outputs.sort_unstable_by_key(|output| output.expert);
        out.used.extend(outputs.iter().map(|output| Used {
            layer: routed.key.layer,
            expert: output.expert,
            tokens: output.rows.len() as u32,
        }));
        for output in &outputs {
            for ((token, weight), value) in
                output.rows.iter().zip(output.values.chunks_exact(hidden))
            {
                add_scaled(&mut x[token * hidden..(token + 1) * hidden], value, *weight);
            }
        }
        Ok(next)
    }

    /// Computes what is in memory while the rest is read.
    fn run_window(
        &mut self,
        routed: &Routed<'_>,
        window: &mut [ExpertOutput],
        leased: &[LeasedExpert],
    ) -> Result<(), EngineError> {
        let key = |leased: &LeasedExpert| ExpertKey {
            layer: routed.key,
            expert: leased.expert,
        };
        let mut waiting = Vec::new();
        let mut ready = Vec::new();
        for (output, leased) in window.iter_mut().zip(leased) {
            if self.arena.is_ready(leased.slot) {
                let memory = self.arena.wait(key(leased), leased.slot)?;
                ready.push((output, memory));
            } else {
                waiting.push((output, leased));
            }
        }
        ready
            .par_iter_mut()
            .try_for_each_init(Scratch::default, |scratch, (output, memory)| {
                run_expert(routed, output, memory, scratch)
            })?;
        for (output, leased) in waiting {
            let memory = self.arena.wait(key(leased), leased.slot)?;
            run_expert(routed, output, &memory, &mut self.scratch)?;
        }
        Ok(())
    }

    /// Predicts the next sparse layer's experts with its router on this layer's input, and has them read ahead.
    async fn look_ahead(
        &mut self,
        key: LayerKey,
        normed: &[f32],
        lookahead: u16,
    ) -> Result<(), EngineError> {
        let count = usize::from(lookahead);
        let next = self.layer_after(key);
        // The first layer's input is another token's: nothing to predict from.
        if count == 0 || next <= key {
            return Ok(());
        }
        let Some(logits) = self.router_logits(next, normed) else {
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
            !self.absent.contains(&ExpertKey { layer, expert })
        });
        order.truncate(count);
        let prefetch = self.mind.prefetch(next, order);
        Ok(self.asked.time(1, prefetch).await?)
    }

    fn router_logits(&mut self, of: LayerKey, normed: &[f32]) -> Option<Vec<f32>> {
        let (layer, scratch) = (usize::from(of.layer), &mut self.scratch);
        match of.module {
            Module::Thinker => self.thinker.router_logits(layer, normed, scratch),
            Module::Talker => {
                let voice = self.voice.as_ref()?;
                Some(voice.talker.router_logits(layer, normed, scratch))
            }
        }
    }

    /// Sparse layers of a module, in order.
    pub(super) fn layers_of(&self, module: Module) -> &[LayerKey] {
        match module {
            Module::Thinker => &self.sparse_layers,
            Module::Talker => self.voice.as_ref().map_or(&[], |voice| &voice.layers),
        }
    }

    fn layer_after(&self, key: LayerKey) -> LayerKey {
        let layers = self.layers_of(key.module);
        let after = layers.iter().find(|layer| **layer > key);
        after.or(layers.first()).copied().unwrap_or(key)
    }
}

/// What the layer's router is asked.
fn route(step: &SparseStep<'_>, logits: Vec<f32>, residency: &Residency) -> Route {
    Route {
        tick: step.tick,
        phase: step.phase,
        logits,
        resident: residency.resident.clone(),
        bytes_left: residency.bytes_left.filter(|_| step.phase == Phase::Decode),
        salience_t: step.felt.salience_t,
        surprise_t: step.felt.surprise_t,
        reward: step.felt.reward,
        spans: step.spans.to_vec(),
    }
}

/// The chosen experts with the tokens that each works on.
fn gather(selection: &Selection) -> Vec<ExpertOutput> {
    let mut by_expert = BTreeMap::<u16, Vec<(usize, f32)>>::new();
    for row in 0..selection.rows() {
        for chosen in selection.row(row) {
            by_expert
                .entry(chosen.expert)
                .or_default()
                .push((row, chosen.weight));
        }
    }
    by_expert
        .into_iter()
        .map(|(expert, rows)| ExpertOutput {
            expert,
            rows,
            values: Vec::new(),
        })
        .collect()
}

/// Residents first: a window of misses must not evict what a later window of the same layer could have hit.
fn in_window_order(outputs: &mut [ExpertOutput], resident: &ExpertSet) {
    outputs.sort_by_key(|output| (!resident.contains(output.expert), output.expert));
}

fn run_expert(
    routed: &Routed<'_>,
    output: &mut ExpertOutput,
    memory: &Mapped,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let shape = routed.expert;
    let expert = Gated::of_record(memory, shape).ok_or(EngineError::ShortRecord {
        component: module_name(routed.key.module),
        layer: routed.key.layer,
        expert: output.expert,
    })?;
    let (rows, hidden) = (output.rows.len(), shape.hidden);
    let row = |token: usize| &routed.normed[token * hidden..(token + 1) * hidden];
    output.values = vec![0.0; rows * hidden];
    if let [(token, _)] = output.rows.as_slice() {
        expert.apply(row(*token), 1, &mut output.values, scratch);
        return Ok(());
    }
    let x: Vec<f32> = output
        .rows
        .iter()
        .flat_map(|(token, _)| row(*token).iter().copied())
        .collect();
    expert.apply(&x, rows, &mut output.values, scratch);
    Ok(())
}

fn note_selection(out: &mut Forward, layer: u16, selection: &Selection) {
    for (row, worked) in out.worked.iter_mut().enumerate() {
        let row = selection.row(row).iter();
        worked.extend(row.map(|Chosen { expert, weight }| Worked {
            layer,
            expert: *expert,
            gate: *weight,
        }));
    }
    let mut used = BTreeMap::<u16, f32>::new();
    for Chosen { expert, weight } in &selection.chosen {
        *used.entry(*expert).or_default() += weight;
    }
    out.gates
        .extend(used.into_iter().map(|(expert, gate)| Worked {
            layer,
            expert,
            gate,
        }));
    out.denied_mass += selection.denied_mass;
    out.denied_count += selection.denied.len();
    let denied = selection.denied.iter().zip(&selection.denied_each);
    out.denied.extend(denied.map(|(expert, mass)| Worked {
        layer,
        expert: *expert,
        gate: *mass,
    }));
}
