//! The one way through a module's layers: attention and router behind the decoder's port, experts by way of the mind.

use std::ops::Range;
use std::sync::Arc;

use sage_actors::protocol::{Module, Phase, Residency, SalienceSpan, Tick};
use tracing::Instrument;

use super::engine::Engine;
use super::error::EngineError;
use super::ports::{Decoder, DecoderError, DecoderInput, HiddenRows, Sequence, module_name};
use super::probe::Listener;
use super::scene::Scene;
use super::step_result::Forward;
use crate::checkpoint::config::TalkerConfig;
use crate::spans;

/// Salience that tokens carry into the routers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoutingSalience {
    /// In [0, 1].
    pub salience_t: f32,
    /// In [0, 1].
    pub surprise_t: f32,
    /// In [0, 1].
    pub reward: f32,
}

/// How some tokens go through the sparse layers of one module, and who listens.
pub(super) struct LayerStep<'a> {
    pub module: Module,
    pub phase: Phase,
    /// When the step began.
    pub tick: Tick,
    /// Experts of the next layer to read ahead.
    pub lookahead: u16,
    /// What its tokens carry into the routers.
    pub felt: RoutingSalience,
    /// Tokens that carry another modality's salience instead.
    pub spans: Vec<SalienceSpan>,
    pub listener: Listener<'a>,
}

/// Which of the thinker's hidden states the talker listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// Index 0: the input embedding.
    Embedding,
    /// What this decoder layer gives, before anything is added to it.
    After(usize),
    /// The last index: behind the final norm.
    Normed,
}

impl Accepted {
    /// `accept_hidden_layer` counts the embedding as 0.
    pub fn of(talker: &TalkerConfig, thinker_layers: usize) -> Self {
        match talker.accept_hidden_layer {
            0 => Self::Embedding,
            last if last == thinker_layers => Self::Normed,
            index => Self::After(index - 1),
        }
    }
}

/// Rows on their way through the layers, and what they gave so far.
pub(super) struct Passage<'a> {
    pub step: LayerStep<'a>,
    pub decoder: Arc<dyn Decoder>,
    pub x: Box<dyn HiddenRows>,
    /// Of the layer that runs next.
    pub residency: Residency,
    /// The hidden states to keep for the talker; none where nothing speaks.
    pub accepted: Option<Accepted>,
    /// What the rows are a part of, and which part; none for words alone.
    pub scene: Option<(&'a Scene, Range<usize>)>,
    pub out: Forward,
}

impl<'a> Passage<'a> {
    /// Rows that enter the first layer, as words alone to which nobody listens for the talker.
    ///
    /// # Errors
    /// When the decoder is lost.
    pub fn begin(
        step: LayerStep<'a>,
        decoder: Arc<dyn Decoder>,
        input: DecoderInput<'_>,
        residency: Residency,
    ) -> Result<Self, EngineError> {
        let x = decoder.embed(input)?;
        let out = Forward::of_rows(x.rows());
        Ok(Self {
            step,
            decoder,
            x,
            residency,
            accepted: None,
            scene: None,
            out,
        })
    }

    /// Behind a layer: who listens hears of it, and pictures get what they have of the layer.
    fn layer_done(&mut self, layer: usize) -> Result<(), DecoderError> {
        let name = module_name(self.step.module);
        let listener = &mut self.step.listener;
        listener.rows(format_args!("{name}.layer_out.{layer}"), &*self.x)?;
        if self.accepted == Some(Accepted::After(layer)) {
            self.out.heard.accepted = self.x.read()?.into_owned();
        }
        let hidden = self.decoder.config().hidden_size;
        let deeper = self.scene.as_ref();
        let deeper = deeper.and_then(|(scene, of)| scene.deeper(layer, of.clone(), hidden));
        if let Some(added) = deeper {
            self.decoder.add_rows(&mut *self.x, &added)?;
            let name = format_args!("{name}.layer_in.{}", layer + 1);
            listener.rows(name, &*self.x)?;
        }
        Ok(())
    }

    /// The rows behind the final norm, `[rows, hidden]`.
    ///
    /// # Errors
    /// When the decoder is lost.
    pub fn finish(&mut self) -> Result<(), EngineError> {
        self.out.normed = self.decoder.final_norm(&*self.x)?;
        let name = module_name(self.step.module);
        let listener = &mut self.step.listener;
        listener.tensor(format_args!("{name}.final_norm"), &self.out.normed);
        Ok(())
    }
}

impl Engine {
    /// Runs rows through the first `layers` layers, unless `interrupt`, which is asked before each of them, says that they
    /// are to be given up: then the layer is returned that did not run. The sequence does not count the rows yet.
    ///
    /// # Errors
    /// When an expert cannot be read, a port is lost, or an actor failed.
    pub(super) async fn run_layers(
        &mut self,
        passage: &mut Passage<'_>,
        sequence: &mut Sequence,
        layers: usize,
        interrupt: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<usize>, EngineError> {
        for layer in 0..layers {
            if interrupt(layer) {
                return Ok(Some(layer));
            }
            let decoder = Arc::clone(&passage.decoder);
            let span = spans::layer(passage.step.module, layer);
            let run = async {
                decoder.attend(layer, &mut *passage.x, sequence)?;
                if let Some(routed) = decoder.route(layer, &mut *passage.x)? {
                    self.run_sparse(passage, layer, &*routed.input, routed.logits)
                        .await?;
                    decoder.add_shared(layer, &mut *passage.x, &*routed.input)?;
                }
                Ok::<(), EngineError>(passage.layer_done(layer)?)
            };
            run.instrument(span).await?;
            self.body.progress.share(layer + 1, layers);
        }
        Ok(None)
    }
}
