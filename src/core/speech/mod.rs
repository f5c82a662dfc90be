//! Speech: what the thinker read and wrote becomes codec frames, and those become sound.
//!
//! The talker runs as the thinker does: attention here, experts by way of the mind. One codec frame is one idle cycle of the
//! loop: one tick, one orientation with the drive of the turn that is spoken, so that the arbiter shares memory and reads
//! between the two modules while it lasts. Invariant: frames and samples depend on neither memory nor threads.

mod demand;
mod forward;
mod positions;
mod said;
mod speaking;
mod vocoding;

use std::sync::Arc;

use sage_actors::config::ModuleShape;
use sage_actors::protocol::{LayerKey, Module};

use super::{Engine, EngineError};
use crate::checkpoint::config::TalkerConfig;
use crate::model::code2wav::CodesError;
use crate::model::load::LoadError;
use crate::model::positions::PositionsError;
use crate::model::talker::PromptError;
use crate::model::{Code2Wav, CodePredictor, Talker};
use crate::store::WeightSource;

pub use demand::SpeechDemand;
pub use demand::demand;
pub use positions::talker_positions;
pub use said::{Said, Turn};
pub(super) use speaking::prompt_of;
pub use speaking::{Choosing, SpeechEnded, SpeechRequest, Spoken, speak};

/// Whose voice, where nobody else is asked for, as in the released pipeline.
pub const SPEAKER: &str = "Ethan";

/// Codes of one turn beyond which memory cannot be planned: a day of sound.
pub const MOST_CODES: usize = 1 << 20;

/// Why nothing is spoken.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// The engine was opened without a voice.
    #[error(
        "the model was opened without its voice: memory has to be planned for it (`EngineOptions::speaks`)"
    )]
    Mute,
    /// The prompt, the answer, or the speaker.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Where the talker's prompt stands.
    #[error("positions of what the talker hears: {0}")]
    Positions(#[from] PositionsError),
    /// Codes that are no sound.
    #[error(transparent)]
    Codes(#[from] CodesError),
    /// More codes than there is memory for.
    #[error("{asked} codes are asked for, expected 2 to the {planned} that memory is planned for")]
    CodeCount {
        /// Codes at most, the end code included.
        asked: usize,
        /// `EngineOptions::codes`.
        planned: usize,
    },
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

/// The parts that speak.
#[derive(Debug)]
pub struct Voice {
    /// The always-resident part of the talker.
    pub talker: Talker,
    /// The rest of a frame.
    pub predictor: CodePredictor,
    /// Frames to sound.
    pub vocoder: Code2Wav,
    /// Codes of one turn that memory is planned for.
    pub codes: usize,
    pub(crate) layers: Vec<LayerKey>,
    thinker_layers: usize,
}

impl Voice {
    /// Loads everything that speaks but the talker's routed experts.
    ///
    /// # Errors
    /// When the model has no talker, or a tensor is missing, misshapen or damaged.
    pub fn load(source: &dyn WeightSource, codes: usize) -> Result<Self, LoadError> {
        let talker = Talker::load(source, |_, _| ())?;
        Ok(Self {
            predictor: CodePredictor::load(source)?,
            vocoder: Code2Wav::load(source)?,
            codes,
            layers: layers(&talker.config).collect(),
            thinker_layers: source.config().thinker.text.num_hidden_layers,
            talker,
        })
    }

    /// `accept_hidden_layer` counts the embedding as 0.
    pub(super) fn accepted(&self) -> Accepted {
        match self.talker.config.accept_hidden_layer {
            0 => Accepted::Embedding,
            last if last == self.thinker_layers => Accepted::Normed,
            index => Accepted::After(index - 1),
        }
    }
}

/// Whether the source has everything that speaks.
pub fn can_speak(source: &dyn WeightSource) -> bool {
    Talker::sizes(source).is_ok()
        && CodePredictor::weights_bytes(source).is_ok()
        && Code2Wav::weights_bytes(source).is_ok()
}

/// Every layer of the talker is sparse.
fn layers(config: &TalkerConfig) -> impl Iterator<Item = LayerKey> {
    (0..config.text.num_hidden_layers).map(|layer| LayerKey {
        module: Module::Talker,
        layer: layer as u16,
    })
}

/// The talker's sparse part, as the mind knows it; none where the model has no talker.
pub fn talker_shape(config: &TalkerConfig, expert_bytes: u64) -> ModuleShape {
    ModuleShape {
        module: Module::Talker,
        layers: layers(config).map(|key| key.layer).collect(),
        experts: config.text.num_experts as u16,
        k_trained: config.text.num_experts_per_tok as u16,
        norm_topk_prob: config.text.norm_topk_prob,
        expert_bytes,
    }
}

impl Engine {
    /// What speaks.
    ///
    /// # Errors
    /// When the model was opened without.
    pub fn voice(&self) -> Result<Arc<Voice>, EngineError> {
        let voice = self.voice.as_ref().ok_or(SpeechError::Mute)?;
        Ok(Arc::clone(voice))
    }

    /// Refuses what could not be spoken, before anything is read: an unknown speaker, a prompt that does not open an answer, more
    /// codes than memory is planned for.
    ///
    /// # Errors
    /// Those, and that the model was opened without a voice.
    pub fn check_speech(&self, prompt: &[u32], request: &SpeechRequest) -> Result<(), EngineError> {
        let voice = self.voice()?;
        if !(2..=voice.codes).contains(&request.max_codes) {
            return Err(SpeechError::CodeCount {
                asked: request.max_codes,
                planned: voice.codes,
            }
            .into());
        }
        let talker = &voice.talker;
        let checked = talker
            .speaker(&request.speaker)
            .and_then(|_| talker.check_opening(prompt));
        Ok(checked.map_err(SpeechError::from)?)
    }
}
