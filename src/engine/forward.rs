//! One step through the model: attention here, experts by way of the mind.

use std::collections::BTreeMap;

use sage_actors::protocol::{
    Chosen, ExpertSet, LayerKey, LeaseRequest, LeasedExpert, Module, Phase, Residency, Route,
    SalienceSpan, Selection, Use, Used, Worked,
};

use super::orient::Orientation;
use super::scene::Scene;
use super::{Engine, EngineError};
use crate::kernels::Mapped;
use crate::kernels::pointwise::add_scaled;
use crate::model::experts::{ExpertShape, Gated, Scratch};
use crate::model::{KvCache, Positions};
use rayon::prelude::*;

/// Hears of every intermediate result; for comparing with a reference.
pub trait Probe {
    /// A tensor by the golden files' name, row-major.
    fn tensor(&mut self, name: &str, values: &[f32]);
    /// The experts that a layer's router chose.
    fn selection(&mut self, layer: usize, selection: &Selection);
}

/// What a step gave, and what it took.
#[derive(Debug, Default)]
pub struct Forward {
    /// Final hidden states after `model.norm`, `[tokens, hidden]`.
    pub normed: Vec<f32>,
    /// Mean over tokens and sparse layers of the router's entropy, normalised by ln E.
    pub router_entropy: f32,
    /// Sum over the tokens of each run of another modality, and the mean over sparse layers, of the router's entropy.
    pub span_entropies: Vec<f32>,
    /// Who worked on each token.
    pub worked: Vec<Vec<Worked>>,
    /// How many of the step's tokens each expert worked on, layer by layer.
    pub used: Vec<Used>,
    /// Mixing weight of each expert that worked, summed over the step's tokens.
    pub gates: Vec<Worked>,
    /// Router mass that experts were denied.
    pub denied: Vec<Worked>,
    /// Sum over layers and tokens of the denied router mass.
    pub denied_mass: f32,
    /// Choices of the exact router that were not admitted.
    pub denied_count: usize,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
}

/// New tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Fed<'a> {
    /// Their ids.
    pub tokens: &'a [u32],
    /// The scene that they are a part of, and the number of their first in it; none for words alone.
    pub scene: Option<(&'a Scene, usize)>,
}

impl<'a> Fed<'a> {
    /// Words.
    pub fn words(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            scene: None,
        }
    }

    fn in_scene(&self) -> Option<(&'a Scene, std::ops::Range<usize>)> {
        let (scene, first) = self.scene?;
        Some((scene, first..first + self.tokens.len()))
    }
}

/// A sparse layer whose experts are chosen.
struct Routed<'a> {
    key: LayerKey,
    phase: Phase,
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
    /// Runs new tokens of one sequence, prefill or decode, under the orientation's directive; the cache then holds
    /// them. The result for a token does not depend on how a prompt is cut into steps when the policy is exact.
    ///
    /// # Errors
    /// When the context is full, a token is unknown, an expert cannot be read, or an actor failed.
    pub async fn forward(
        &mut self,
        kv: &mut KvCache,
        tokens: &[u32],
        phase: Phase,
        orientation: &Orientation,
        probe: Option<&mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let fed = Fed::words(tokens);
        self.forward_fed(kv, fed, phase, orientation, probe).await
    }

    /// As [`Engine::forward`], for tokens that may be a part of a scene.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward_fed(
        &mut self,
        kv: &mut KvCache,
        fed: Fed<'_>,
        phase: Phase,
        orientation: &Orientation,
        mut probe: Option<&mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let Fed { tokens, .. } = fed;
        self.check(kv, tokens)?;
        let hidden = self.thinker.config.hidden_size;
        let scene = fed.in_scene();
        let mut x = self.thinker.embed(tokens);
        let mut spans = Vec::new();
        if let Some((scene, of)) = &scene {
            scene.embed(of.clone(), &mut x, hidden);
            spans = scene.spans(of.clone());
        }
        report(&mut probe, "thinker.inputs_embeds", &x);
        let positions = match &scene {
            Some((scene, of)) => scene.positions.of(of.clone()),
            None => Positions::text_from(kv.next_position(), tokens.len()),
        };
        let angles = self.thinker.angles(&positions);
        let mut out = Forward {
            worked: vec![Vec::new(); tokens.len()],
            ..Forward::default()
        };
        let mut residency = orientation.residency.clone();
        let mut entropy_sum = 0.0;
        for layer in 0..self.thinker.layers.len() {
            self.thinker
                .attend(layer, &mut x, kv, &angles, &mut self.scratch);
            let normed = self.thinker.feed_forward_input(layer, &x);
            if let Some(added) = self.thinker.dense(layer, &normed, &mut self.scratch) {
                x.iter_mut().zip(&added).for_each(|(x, added)| *x += added);
            } else if let Some(logits) =
                self.thinker
                    .router_logits(layer, &normed, &mut self.scratch)
            {
                if let Some(probe) = probe.as_deref_mut() {
                    probe.tensor(&format!("thinker.router_logits.{layer}"), &logits);
                }
                let route = route_request(orientation, phase, logits, &residency, &spans);
                let key = LayerKey {
                    module: Module::Thinker,
                    layer: layer as u16,
                };
                let selection = self.asked.time(1, self.mind.route(key, route)).await?;
                if let Some(probe) = probe.as_deref_mut() {
                    probe.selection(layer, &selection);
                }
                entropy_sum += selection.entropy_sum;
                out.span_entropies.resize(spans.len(), 0.0);
                let sums = selection.span_entropy_sums.iter();
                let shares = sums.map(|sum| sum / self.sparse_layers.len().max(1) as f32);
                for (entropy, share) in out.span_entropies.iter_mut().zip(shares) {
                    *entropy += share;
                }
                note_selection(&mut out, layer as u16, &selection);
                if phase == Phase::Decode && self.read_ahead {
                    self.look_ahead(key, &normed, orientation).await?;
                }
                let routed = Routed {
                    key,
                    phase,
                    normed: &normed,
                    selection: &selection,
                };
                residency = self
                    .run_experts(&routed, residency, &mut x, &mut out)
                    .await?;
            }
            report(&mut probe, &format!("thinker.layer_out.{layer}"), &x);
            if let Some((scene, of)) = &scene
                && scene.deepen(layer, of.clone(), &mut x, hidden)
            {
                report(&mut probe, &format!("thinker.layer_in.{}", layer + 1), &x);
            }
        }
        kv.advance(tokens.len());
        if let Some((scene, of)) = &scene
            && of.end == scene.modalities.len()
        {
            kv.set_position_delta(scene.position_delta);
        }
        out.normed = self.thinker.final_norm(&x);
        report(&mut probe, "thinker.final_norm", &out.normed);
        out.router_entropy = entropy_sum / (tokens.len() * self.sparse_layers.len().max(1)) as f32;
        self.note_spent(tokens.len(), orientation, &out);
        Ok(out)
    }

    fn check(&self, kv: &KvCache, tokens: &[u32]) -> Result<(), EngineError> {
        let needed = kv.len() + tokens.len();
        if needed > kv.capacity() {
            return Err(EngineError::ContextFull {
                needed,
                capacity: kv.capacity(),
            });
        }
        let vocabulary = self.thinker.config.vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(EngineError::UnknownToken {
                id: *id,
                vocabulary,
            }),
            None => Ok(()),
        }
    }

    fn note_spent(&mut self, tokens: usize, orientation: &Orientation, out: &Forward) {
        self.tick += tokens as u64;
        let trained = self.thinker.config.num_experts_per_tok as f64;
        self.spent.compute_units += tokens as f64 * f64::from(orientation.directive.k) / trained;
        self.spent.miss_bytes += out.miss_bytes;
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
        let hidden = self.thinker.config.hidden_size;
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
        let mut waiting = Vec::new();
        let mut ready = Vec::new();
        for (output, leased) in window.iter_mut().zip(leased) {
            if self.arena.is_ready(leased.slot) {
                let memory = self.arena.wait(
                    Self::expert_key(routed.key.layer, leased.expert),
                    leased.slot,
                )?;
                ready.push((output, memory));
            } else {
                waiting.push((output, leased));
            }
        }
        let shape = self.thinker.expert;
        ready
            .par_iter_mut()
            .try_for_each_init(Scratch::default, |scratch, (output, memory)| {
                run_expert(routed, output, memory, shape, scratch)
            })?;
        for (output, leased) in waiting {
            let memory = self.arena.wait(
                Self::expert_key(routed.key.layer, leased.expert),
                leased.slot,
            )?;
            run_expert(routed, output, &memory, shape, &mut self.scratch)?;
        }
        Ok(())
    }

    /// Predicts the next sparse layer's experts with its router on this layer's input, and has them read ahead.
    async fn look_ahead(
        &mut self,
        key: LayerKey,
        normed: &[f32],
        orientation: &Orientation,
    ) -> Result<(), EngineError> {
        let count = usize::from(orientation.directive.lookahead);
        let next = self.layer_after(key);
        // The first layer's input is another token's: nothing to predict from.
        if count == 0 || next <= key {
            return Ok(());
        }
        let Some(logits) =
            self.thinker
                .router_logits(usize::from(next.layer), normed, &mut self.scratch)
        else {
            return Ok(());
        };
        let mut order: Vec<u16> = (0..logits.len() as u16).collect();
        order.sort_by(|a, b| {
            logits[usize::from(*b)]
                .total_cmp(&logits[usize::from(*a)])
                .then(a.cmp(b))
        });
        order.retain(|expert| !self.absent.contains(&Self::expert_key(next.layer, *expert)));
        order.truncate(count);
        let prefetch = self.mind.prefetch(next, order);
        Ok(self.asked.time(1, prefetch).await?)
    }

    fn layer_after(&self, key: LayerKey) -> LayerKey {
        let after = self.sparse_layers.iter().find(|layer| **layer > key);
        after.or(self.sparse_layers.first()).copied().unwrap_or(key)
    }
}

fn report(probe: &mut Option<&mut dyn Probe>, name: &str, values: &[f32]) {
    if let Some(probe) = probe.as_deref_mut() {
        probe.tensor(name, values);
    }
}

fn route_request(
    orientation: &Orientation,
    phase: Phase,
    logits: Vec<f32>,
    residency: &Residency,
    spans: &[SalienceSpan],
) -> Route {
    let report = &orientation.report;
    // Words that are read carry the words' own salience; those that are said carry that of the whole segment before them.
    let words = report.senses.filter(|_| phase == Phase::Prefill);
    let (salience_t, surprise_t) = words.map_or((report.salience_t, report.surprise_t), |senses| {
        (senses.text.salience_t, senses.text.surprise_t)
    });
    Route {
        tick: orientation.tick,
        phase,
        logits,
        resident: residency.resident.clone(),
        bytes_left: if phase == Phase::Decode {
            residency.bytes_left
        } else {
            None
        },
        salience_t,
        surprise_t,
        reward: report.salience.reward,
        spans: spans.to_vec(),
    }
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
    let mut used = std::collections::BTreeMap::<u16, f32>::new();
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
    shape: ExpertShape,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let expert = Gated::of_record(memory, shape).ok_or(EngineError::ShortRecord {
        component: "thinker",
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
