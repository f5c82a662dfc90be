//! One sparse layer looked at closely: what a state's rules choose there for a prompt's last token, what each chosen expert
//! takes to read and to run, and what of the layer was not needed.
//!
//! The prompt runs as the state has it up to that layer; in the layer itself only the last token does, so that none of its
//! experts was in memory before. Then the whole prompt is read, for the one outcome that trust learns from.

mod report;
mod talker;

use std::time::{Duration, Instant};

use sage_actors::protocol::{
    ExpertKey, LayerKey, Module, Phase, State, TokenOrigin, TokenOutcome, Worked,
};

use crate::core::drive;
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::experts::apart::TimedLayer;
use crate::core::forward::{TokenChunk, step_of};
use crate::core::layers::Passage;
use crate::core::orient::{Arrivals, Orientation};
use crate::core::ports::{DecoderInput, Sequence, component_of};
use crate::core::prediction::nll_and_entropy;
use crate::core::probe::Listener;
use crate::core::reading::PrefillRun;
use crate::core::speech::CollectedTurn;
use crate::model::Positions;
use crate::store::{StoreError, is_direct};

pub use report::{Belief, ChosenExpert, Closeup, LayerOutput, RouterTime, Selective};

/// Tokens of the answer whose beginning the talker hears.
pub const ANSWER_TOKENS: usize = 8;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct CloseupRequest {
    /// Module that the layer is of.
    pub module: Module,
    /// The layer's number in the checkpoint; a sparse one.
    pub layer: usize,
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Whose voice, for the talker.
    pub speaker: String,
    /// What the talker hears; needed for its layers alone.
    pub said: Option<CollectedTurn>,
}

/// The layer's own part of a look.
struct LayerLook {
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
        seen: &LayerLook,
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
            format: record.formats.to_string(),
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

    async fn look_at_thinker(
        &mut self,
        request: &CloseupRequest,
    ) -> Result<LayerLook, EngineError> {
        let mut sequence = self.new_sequence()?;
        self.check(&sequence, &request.tokens)?;
        let mut arrivals = Arrivals {
            tokens_in: request.tokens.len() as u32,
            events_in: 1,
            open_requests: 1,
            ..Arrivals::default()
        };
        let (mut done, mut seen) = (0, None);
        while seen.is_none() {
            let act = async |engine: &mut Self, orientation: &Orientation| {
                let end = (done + engine.step_tokens(orientation)).min(request.tokens.len());
                let chunk = TokenChunk::words(&request.tokens[done..end]);
                let step = step_of(Phase::Prefill, orientation, Listener::NOBODY);
                let passage = engine.enter(&sequence, chunk, step, orientation)?;
                let passage = engine.up_to(passage, &mut sequence, request.layer).await?;
                if end == request.tokens.len() {
                    let k = orientation.directive.k;
                    seen = Some(engine.last_row(request.layer, passage, end, k).await?);
                }
                engine.idle((end - done) as u32);
                done = end;
                Ok::<(), EngineError>(())
            };
            drive::turn(self, std::mem::take(&mut arrivals), act).await?;
            arrivals = Arrivals {
                open_requests: 1,
                unfinished: true,
                ..Arrivals::default()
            };
        }
        seen.ok_or(EngineError::EmptyPrompt)
    }

    /// Runs rows up to the attention of `layer`, and makes their last one, with which of the layer's experts are in memory, a
    /// passage of its own.
    async fn up_to<'a>(
        &mut self,
        mut passage: Passage<'a>,
        sequence: &mut Sequence,
        layer: usize,
    ) -> Result<Passage<'a>, EngineError> {
        self.run_layers(&mut passage, sequence, layer, &mut |_| false)
            .await?;
        let Passage {
            step,
            decoder,
            mut x,
            residency,
            ..
        } = passage;
        decoder.attend(layer, &mut *x, sequence)?;
        sequence.advance(x.rows());
        let mut rows = x.into_numbers()?;
        let last = rows.split_off(rows.len() - decoder.config().hidden_size);
        // Nothing attends any more: where the row stands is of no account.
        let place = Positions::text(0, 1);
        let input = DecoderInput::numbers(last, &place);
        Passage::begin(step, decoder, input, residency)
    }

    /// The last row of `rows` in the layer itself.
    async fn last_row(
        &mut self,
        layer: usize,
        mut passage: Passage<'_>,
        rows: usize,
        k: u16,
    ) -> Result<LayerLook, EngineError> {
        let started = Instant::now();
        let routed = passage.decoder.route(layer, &mut *passage.x)?;
        let routed = routed.ok_or_else(|| dense(passage.step.module, layer))?;
        let product_in = started.elapsed();
        let timed = self.run_apart(&passage, layer, &*routed.input, routed.logits);
        Ok(LayerLook {
            timed: timed.await?,
            product_in,
            rows,
            k,
        })
    }

    /// Reads the whole prompt, and lets the ledger learn from its last token as from one that the model wrote: by the entropy of
    /// what it predicts.
    async fn learn_last(&mut self, tokens: &[u32]) -> Result<(), EngineError> {
        let hidden = self.text_config().hidden_size;
        let mut kv = self.new_sequence()?;
        let mut reading = PrefillRun::new(tokens.to_vec(), hidden, false);
        while !reading.is_done() {
            let arrivals = Arrivals {
                open_requests: 1,
                ..Arrivals::default()
            };
            let act = async |engine: &mut Self, orientation: &Orientation| {
                let mut step = reading.step(engine, &mut kv, orientation).await?;
                if !reading.is_done() {
                    return Ok::<(), EngineError>(());
                }
                let logits = reading.logits(engine)?;
                let (_, entropy) = nll_and_entropy(&logits, None);
                let worked: Vec<Worked> = step.forward.work.worked.pop().unwrap_or_default();
                let outcome = TokenOutcome {
                    origin: TokenOrigin::Generated,
                    error: entropy,
                    entropy,
                    worked,
                };
                engine
                    .learn(orientation, vec![outcome], Vec::new(), None)
                    .await
            };
            drive::turn(self, arrivals, act).await?;
        }
        Ok(())
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
