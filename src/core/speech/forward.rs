//! One step through the talker.

use sage_actors::protocol::{Module, ModuleDirective, Phase, Tick};

use super::error::SpeechError;
use crate::core::engine::Engine;
use crate::core::error::EngineError;
use crate::core::layers::{LayerStep, Passage, RoutingSalience};
use crate::core::ports::{DecoderInput, Sequence};
use crate::core::probe::{Listener, Probe};
use crate::core::step_result::Forward;
use crate::model::Positions;

/// Rows on their way through the talker.
pub(in crate::core) struct TalkerStep {
    /// `[tokens, hidden]`.
    pub rows: Vec<f32>,
    pub positions: Positions,
    pub phase: Phase,
    /// When the step begins.
    pub tick: Tick,
    /// The talker's own.
    pub directive: ModuleDirective,
    /// Salience of the turn that is spoken.
    pub felt: RoutingSalience,
}

impl Engine {
    /// Runs rows through the talker; the sequence then holds them. [`Forward::normed`] is `[tokens, talker hidden]`.
    ///
    /// # Errors
    /// When the sequence is full, an expert cannot be read, a port is lost, or an actor failed.
    pub(super) async fn run_talker(
        &mut self,
        sequence: &mut Sequence,
        step: TalkerStep,
        probe: Option<&mut dyn Probe>,
    ) -> Result<Forward, EngineError> {
        let (tokens, directive) = (step.positions.len(), step.directive);
        let needed = sequence.len() + tokens;
        if needed > sequence.capacity() {
            let capacity = sequence.capacity();
            return Err(EngineError::ContextFull { needed, capacity });
        }
        let mut passage = self.enter_talker(step, Listener::new(probe)).await?;
        let layers = passage.decoder.config().num_hidden_layers;
        self.run_layers(&mut passage, sequence, layers, &mut |_| false)
            .await?;
        sequence.advance(tokens);
        passage.finish()?;
        let mut out = passage.out;
        out.entropy.mean /= (tokens * self.experts.talker.len()) as f32;
        self.book(tokens, &directive, &out);
        Ok(out)
    }

    /// Rows at the entry of the talker's first layer.
    ///
    /// # Errors
    /// When the model was opened without a voice, a port is lost, or the cache's actor failed.
    pub(in crate::core) async fn enter_talker<'a>(
        &mut self,
        step: TalkerStep,
        listener: Listener<'a>,
    ) -> Result<Passage<'a>, EngineError> {
        let decoder = self.body.decoder(Module::Talker).ok_or(SpeechError::Mute)?;
        let first = self.experts.talker.first().copied();
        let first = first.ok_or(SpeechError::Mute)?;
        // No lease has told of the first layer: the one before was of another step, or of the thinker.
        let residency = self.clock.ask(1, self.mind.residency(first)).await?;
        let input = DecoderInput::numbers(step.rows, &step.positions);
        let step = LayerStep {
            module: Module::Talker,
            phase: step.phase,
            tick: step.tick,
            lookahead: step.directive.lookahead,
            felt: step.felt,
            spans: Vec::new(),
            listener,
        };
        Passage::begin(step, decoder, input, residency)
    }

    /// Compute in units of one exact token of the thinker, by the bytes of the experts at work.
    fn book(&mut self, tokens: usize, directive: &ModuleDirective, out: &Forward) {
        let unit = self.mind_config.modules.first();
        let unit = unit.map_or(1, |shape| shape.exact_token_bytes().max(1));
        let talker = self.mind_config.shape(Module::Talker);
        let each = talker.map_or(0, |shape| shape.token_bytes(directive.k));
        let active = tokens as u64 * each;
        self.clock
            .spend(active as f64 / unit as f64, out.traffic.miss_bytes);
    }
}
