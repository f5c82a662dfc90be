//! One sparse layer looked at closely: what a state's rules choose there for a prompt's last token, what each chosen expert
//! takes to read and to run, and what of the layer was not needed.
//!
//! The prompt runs as the state has it up to that layer; in the layer itself only the last token does, so that none of its
//! experts was in memory before. Then the whole prompt is read, for the one outcome that trust learns from.

mod report;
mod talker;

use std::time::{Duration, Instant};

use sage_actors::protocol::{
    ExpertKey, LayerKey, Module, Origin, Phase, Residency, State, TokenOutcome, Worked,
};

use super::experts::apart::TimedLayer;
use super::experts::{SparseLayer, SparseStep};
use super::forward::felt;
use crate::core::orient::{Arrivals, Orientation};
use crate::core::reading::Reading;
use crate::core::{Engine, EngineError, Forward};
use crate::cpu::direct::{component_of, is_direct};
use crate::kernels::pointwise::nll_and_entropy;
use crate::model::{KvCache, Positions};
use crate::store::StoreError;

pub use report::{Belief, ChosenExpert, Closeup, LayerOutput, RouterTime, Selective};

/// Tokens of the answer whose beginning the talker hears.
pub const ANSWER_TOKENS: usize = 8;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct CloseupRequest {
    /// Whose layer.
    pub module: Module,
    /// The layer's number in the checkpoint; a sparse one.
    pub layer: usize,
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Whose voice, for the talker.
    pub speaker: String,
}

/// The layer's own part of a look.
struct Seen {
    timed: TimedLayer,
    product_in: Duration,
    rows: usize,
    k: u16,
}

impl Engine {
    /// Looks at one layer; the mind is to be held in a state. A talker's is looked at behind an answer of
    /// [`ANSWER_TOKENS`] tokens, which has to fit into the context.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit, the talker sleeps in this state, an expert cannot be read, or an actor
    /// failed.
    pub async fn look_closely(&mut self, request: &CloseupRequest) -> Result<Closeup, EngineError> {
        if request.tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let key = LayerKey {
            module: request.module,
            layer: request.layer as u16,
        };
        let seen = match request.module {
            Module::Thinker => self.look_at_thinker(request).await?,
            Module::Talker => self.look_at_talker(request).await?,
        };
        let resident_expert_bytes = self.mind.cache_stats().await?.resident_bytes;
        let chosen: Vec<u16> = seen.timed.experts.iter().map(|e| e.expert).collect();
        let before = self.beliefs(key, &chosen).await?;
        let after = match request.module {
            Module::Thinker => {
                self.learn_last(&request.tokens).await?;
                self.beliefs(key, &chosen).await?
            }
            Module::Talker => vec![None; chosen.len()],
        };
        let experts = seen.timed.experts.iter().zip(before.into_iter().zip(after));
        let experts = experts.map(|(timed, (trust_before, trust_after))| ChosenExpert {
            expert: timed.expert,
            weight: timed.weight,
            resident_before: timed.hit,
            load_ms: timed.read_in.map(milliseconds),
            forward_ms: milliseconds(timed.ran_in),
            trust_before,
            trust_after,
        });
        let experts = experts.collect();
        self.report(request, &seen, experts, resident_expert_bytes)
    }

    fn report(
        &self,
        request: &CloseupRequest,
        seen: &Seen,
        experts: Vec<ChosenExpert>,
        resident_expert_bytes: u64,
    ) -> Result<Closeup, EngineError> {
        let component = component_of(request.module);
        let first = experts
            .first()
            .map_or(0, |chosen| usize::from(chosen.expert));
        let record = self.source.expert(component, request.layer, first)?;
        let path = record.segments.first().map(|segment| &*segment.path);
        let direct_reads = path.map_or(Ok(false), is_direct).map_err(|source| {
            EngineError::Store(StoreError::Io {
                action: "open",
                path: path.unwrap_or(self.source.folder()).to_owned(),
                source,
            })
        })?;
        let config = self.source.config();
        let (num_experts, k_trained) = component
            .text_config(config)
            .map_or((0, 0), |text| (text.num_experts, text.num_experts_per_tok));
        let expert_bytes = record.len_bytes as u64;
        let layers = self.layers_of(request.module).len();
        let product = milliseconds(seen.product_in);
        let choice = milliseconds(seen.timed.chosen_in);
        let k = usize::from(seen.k);
        Ok(Closeup {
            state: self.mind_config.hold_state.unwrap_or(State::Focus),
            component: component.name(),
            layer: request.layer,
            k: seen.k,
            k_trained,
            experts_of_layer: num_experts,
            prompt_rows: seen.rows,
            token: match request.module {
                Module::Thinker => request.tokens.last().copied(),
                Module::Talker => None,
            },
            denied_mass: seen.timed.selection.denied_mass,
            direct_reads,
            router: RouterTime {
                product_ms: product,
                choice_ms: choice,
                total_ms: product + choice,
            },
            output: LayerOutput::of(&seen.timed.output),
            format: record.dtype.name(),
            expert_bytes,
            memory: Selective::new(1, experts.len(), num_experts, expert_bytes),
            module_memory: Selective::new(layers, k, num_experts, expert_bytes),
            resident_expert_bytes,
            experts,
        })
    }

    async fn beliefs(
        &self,
        layer: LayerKey,
        experts: &[u16],
    ) -> Result<Vec<Option<Belief>>, EngineError> {
        let mut beliefs = Vec::with_capacity(experts.len());
        for expert in experts {
            let key = ExpertKey {
                layer,
                expert: *expert,
            };
            beliefs.push(self.mind.record(key).await?.map(Belief::from));
        }
        Ok(beliefs)
    }

    async fn look_at_thinker(&mut self, request: &CloseupRequest) -> Result<Seen, EngineError> {
        let mut kv = self.new_sequence()?;
        self.check(&kv, &request.tokens)?;
        let mut arrivals = Arrivals {
            tokens_in: request.tokens.len() as u32,
            events_in: 1,
            open_requests: 1,
            ..Arrivals::default()
        };
        let mut done = 0;
        loop {
            let orientation = self.orient(arrivals).await?;
            let end = (done + self.step_tokens(&orientation)).min(request.tokens.len());
            let chunk = &request.tokens[done..end];
            let (row, residency) = self
                .up_to(&mut kv, chunk, request.layer, &orientation)
                .await?;
            if end == request.tokens.len() {
                let seen = self.last_row(request.layer, &row, &orientation, &residency);
                let seen = seen.await?;
                self.idle((end - done) as u32);
                return Ok(Seen { rows: end, ..seen });
            }
            self.idle((end - done) as u32);
            done = end;
            arrivals = Arrivals {
                open_requests: 1,
                unfinished: true,
                ..Arrivals::default()
            };
        }
    }

    /// Runs a chunk of the prompt up to the attention of `layer`. Returns the last row behind it, `[hidden]`, and which of the layer's
    /// experts are in memory.
    async fn up_to(
        &mut self,
        kv: &mut KvCache,
        chunk: &[u32],
        layer: usize,
        orientation: &Orientation,
    ) -> Result<(Vec<f32>, Residency), EngineError> {
        let mut x = self.thinker.embed(chunk);
        let positions = Positions::text_from(kv.next_position(), chunk.len());
        let angles = self.thinker.angles(&positions);
        let step = self.thinker_step(orientation);
        let mut residency = orientation.residency.clone();
        let mut out = Forward {
            worked: vec![Vec::new(); chunk.len()],
            ..Forward::default()
        };
        for number in 0..=layer {
            self.thinker
                .attend(number, &mut x, kv, &angles, &mut self.scratch);
            if number < layer {
                self.feed_forward(&step, number, &mut residency, &mut x, &mut out, &mut None)
                    .await?;
            }
        }
        kv.advance(chunk.len());
        let row = x.split_off(x.len() - self.thinker.config.hidden_size);
        Ok((row, residency))
    }

    fn thinker_step(&self, orientation: &Orientation) -> SparseStep<'static> {
        SparseStep {
            module: Module::Thinker,
            phase: Phase::Prefill,
            tick: orientation.tick,
            expert: self.thinker.expert,
            lookahead: 0,
            felt: felt(orientation, Phase::Prefill),
            spans: &[],
        }
    }

    /// The prompt's last token in the layer itself.
    async fn last_row(
        &mut self,
        number: usize,
        row: &[f32],
        orientation: &Orientation,
        residency: &Residency,
    ) -> Result<Seen, EngineError> {
        let normed = self.thinker.feed_forward_input(number, row);
        let started = Instant::now();
        let logits = self
            .thinker
            .router_logits(number, &normed, &mut self.scratch)
            .ok_or_else(|| dense(Module::Thinker, number))?;
        let product_in = started.elapsed();
        let layer = SparseLayer {
            number,
            normed: &normed,
            logits,
        };
        let step = self.thinker_step(orientation);
        Ok(Seen {
            timed: self.run_apart(&step, layer, residency).await?,
            product_in,
            rows: 1,
            k: orientation.directive.k,
        })
    }

    /// Reads the whole prompt, and lets the ledger learn from its last token as from one that the model wrote: by the entropy of
    /// what it predicts.
    async fn learn_last(&mut self, tokens: &[u32]) -> Result<(), EngineError> {
        let hidden = self.thinker.config.hidden_size;
        let mut kv = self.new_sequence()?;
        let mut reading = Reading::new(tokens.to_vec(), hidden, false);
        loop {
            let orientation = self
                .orient(Arrivals {
                    open_requests: 1,
                    ..Arrivals::default()
                })
                .await?;
            let mut step = reading.step(self, &mut kv, &orientation).await?;
            if !reading.is_done() {
                continue;
            }
            let logits = reading.logits(self);
            let (_, entropy) = nll_and_entropy(&logits, None);
            let worked: Vec<Worked> = step.forward.worked.pop().unwrap_or_default();
            let outcome = TokenOutcome {
                origin: Origin::Generated,
                error: entropy,
                entropy,
                worked,
            };
            return self
                .learn(&orientation, vec![outcome], Vec::new(), None)
                .await;
        }
    }
}

fn dense(module: Module, layer: usize) -> EngineError {
    let component = component_of(module).name();
    EngineError::Unsound(format!(
        "layer {layer} of the {component} is dense: it has no experts"
    ))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
