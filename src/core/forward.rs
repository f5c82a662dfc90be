//! One step through the thinker.

use std::ops::Range;

use sage_actors::protocol::{Module, Phase, SalienceSpan};

use super::engine::Engine;
use super::error::EngineError;
use super::layers::{Accepted, LayerStep, Passage, RoutingSalience};
use super::orient::Orientation;
use super::ports::{DecoderInput, InputRows, Sequence};
use super::probe::{Listener, Probe};
use super::scene::Scene;
use super::step_result::Forward;
use crate::model::Positions;

/// New tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct TokenChunk<'a> {
    /// Their ids.
    pub tokens: &'a [u32],
    /// The scene that they are a part of, and the number of their first in it; none for words alone.
    pub scene: Option<(&'a Scene, usize)>,
    /// Rows whose router entropies are wanted each by themselves, where there is no scene.
    pub pieces: &'a [Range<usize>],
}

impl<'a> TokenChunk<'a> {
    /// Tokens of a text, without sounds and pictures.
    pub fn words(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            scene: None,
            pieces: &[],
        }
    }

    fn in_scene(&self) -> Option<(&'a Scene, Range<usize>)> {
        let (scene, first) = self.scene?;
        Some((scene, first..first + self.tokens.len()))
    }
}

impl Engine {
    /// Runs new tokens of one sequence, prefill or decode, under the orientation's directive; the sequence then holds
    /// them. The result for a token does not depend on how a prompt is cut into steps when the policy is exact.
    ///
    /// # Errors
    /// When the context is full, a token is unknown, an expert cannot be read, or an actor failed.
    pub async fn forward<'a>(
        &mut self,
        sequence: &mut Sequence,
        tokens: &'a [u32],
        phase: Phase,
        orientation: &Orientation,
        probe: Option<&'a mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let chunk = TokenChunk::words(tokens);
        self.forward_chunk(sequence, chunk, phase, orientation, probe)
            .await
    }

    /// As [`Engine::forward`], for tokens that may be a part of a scene.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward_chunk<'a>(
        &mut self,
        sequence: &mut Sequence,
        chunk: TokenChunk<'a>,
        phase: Phase,
        orientation: &Orientation,
        probe: Option<&'a mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let never = &mut |_| false;
        let step = step_of(phase, orientation, Listener::new(probe));
        self.run_chunk(sequence, chunk, step, orientation, never)
            .await
    }

    /// As [`Engine::forward_chunk`], unless `interrupt`, which is asked before every layer, says that it is to be given up.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward_unless(
        &mut self,
        sequence: &mut Sequence,
        chunk: TokenChunk<'_>,
        phase: Phase,
        orientation: &Orientation,
        interrupt: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Forward, EngineError> {
        let step = step_of(phase, orientation, Listener::NOBODY);
        self.run_chunk(sequence, chunk, step, orientation, interrupt)
            .await
    }

    async fn run_chunk<'a>(
        &mut self,
        sequence: &mut Sequence,
        chunk: TokenChunk<'a>,
        step: LayerStep<'a>,
        orientation: &Orientation,
        interrupt: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Forward, EngineError> {
        let (tokens, phase) = (chunk.tokens.len(), step.phase);
        self.check(sequence, chunk.tokens)?;
        let mut passage = self.enter(sequence, chunk, step, orientation)?;
        let layers = self.text_config().num_hidden_layers;
        let given_up = self.run_layers(&mut passage, sequence, layers, interrupt);
        if let Some(layer) = given_up.await? {
            let share = layer as f64 / layers as f64;
            let mut out = passage.out;
            self.note_spent(tokens as f64 * share, phase, orientation, &out);
            // The layers that were computed take their share of the ticks: else the cost of a long chunk would meet one tick's refill.
            self.clock.pass((tokens * layer / layers) as u64);
            out.given_up = true;
            return Ok(out);
        }
        sequence.advance(tokens);
        if let Some((scene, of)) = &passage.scene
            && of.end == scene.modalities.len()
        {
            sequence.set_position_delta(scene.position_delta);
        }
        passage.finish()?;
        let Passage {
            mut out, accepted, ..
        } = passage;
        match accepted {
            Some(Accepted::Embedding) => out.heard.accepted = out.heard.embeds.clone(),
            Some(Accepted::Normed) => out.heard.accepted = out.normed.clone(),
            _ => {}
        }
        out.entropy.mean /= (tokens * self.experts.thinker.len().max(1)) as f32;
        self.clock.pass(tokens as u64);
        self.note_spent(tokens as f64, phase, orientation, &out);
        Ok(out)
    }

    /// Tokens at the entry of the thinker's first layer.
    pub(super) fn enter<'a>(
        &self,
        sequence: &Sequence,
        chunk: TokenChunk<'a>,
        mut step: LayerStep<'a>,
        orientation: &Orientation,
    ) -> Result<Passage<'a>, EngineError> {
        let hidden = self.text_config().hidden_size;
        let scene = chunk.in_scene();
        let (mut replaced, mut positions) = (Vec::new(), None);
        if let Some((scene, of)) = &scene {
            replaced = scene.replaced(of.clone(), hidden);
            step.spans = scene.spans(of.clone());
            positions = Some(scene.positions.of(of.clone()));
        } else {
            let span = |rows: &Range<usize>| SalienceSpan {
                first_row: rows.start as u32,
                rows: rows.len() as u32,
                salience_t: step.felt.salience_t,
                surprise_t: step.felt.surprise_t,
            };
            step.spans = chunk.pieces.iter().map(span).collect();
        }
        let words = || Positions::text_from(sequence.next_position(), chunk.tokens.len());
        let input = DecoderInput {
            rows: InputRows::Tokens {
                ids: chunk.tokens,
                replaced,
            },
            positions: &positions.unwrap_or_else(words),
        };
        let (decoder, residency) = (self.body.thinker.clone(), orientation.residency.clone());
        let mut passage = Passage::begin(step, decoder, input, residency)?;
        passage.scene = scene;
        let listener = &mut passage.step.listener;
        listener.rows(format_args!("thinker.inputs_embeds"), &*passage.x)?;
        if let Some(talker) = self.source.config().talker.as_ref()
            && self.speaks()
        {
            let layers = self.text_config().num_hidden_layers;
            passage.accepted = Some(Accepted::of(talker, layers));
            passage.out.heard.embeds = passage.x.read()?.into_owned();
        }
        Ok(passage)
    }

    pub(super) fn check(&self, sequence: &Sequence, tokens: &[u32]) -> Result<(), EngineError> {
        let needed = sequence.len() + tokens.len();
        if needed > sequence.capacity() {
            return Err(EngineError::ContextFull {
                needed,
                capacity: sequence.capacity(),
            });
        }
        let vocabulary = self.text_config().vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(EngineError::UnknownToken {
                id: *id,
                vocabulary,
            }),
            None => Ok(()),
        }
    }

    fn note_spent(&mut self, tokens: f64, phase: Phase, orientation: &Orientation, out: &Forward) {
        let trained = self.text_config().num_experts_per_tok as f64;
        let directive = &orientation.directive;
        let units = if directive.router_mass < 1.0 {
            // A token has as many as its mass asks for.
            let layers = self.experts.thinker.len().max(1) as f64;
            let worked: usize = out.work.worked.iter().map(Vec::len).sum();
            worked as f64 / layers / trained
        } else {
            tokens * f64::from(directive.k_in(phase)) / trained
        };
        self.clock.spend(units, out.traffic.miss_bytes);
    }
}

/// A step of the thinker under the orientation's directive.
pub(super) fn step_of<'a>(
    phase: Phase,
    orientation: &Orientation,
    listener: Listener<'a>,
) -> LayerStep<'a> {
    LayerStep {
        module: Module::Thinker,
        phase,
        tick: orientation.tick,
        lookahead: orientation.directive.lookahead,
        felt: felt(orientation, phase),
        spans: Vec::new(),
        listener,
    }
}

/// Words that are read carry the words' own salience; those that are said carry that of the whole segment before them.
fn felt(orientation: &Orientation, phase: Phase) -> RoutingSalience {
    let report = &orientation.report;
    let words = report.senses.filter(|_| phase == Phase::Prefill);
    let (salience_t, surprise_t) = words.map_or((report.salience_t, report.surprise_t), |senses| {
        (senses.text.salience_t, senses.text.surprise_t)
    });
    RoutingSalience {
        salience_t,
        surprise_t,
        reward: report.salience.reward,
    }
}
