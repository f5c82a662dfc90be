//! Speech: what the thinker read and wrote becomes codec frames, and those become sound.
//!
//! The talker runs as the thinker does: attention here, experts by way of the mind. One codec frame is one idle cycle of the
//! loop: one tick, one orientation with the drive of the turn that is spoken, so that the arbiter shares memory and reads
//! between the two modules while it lasts. Invariant: frames and samples depend on neither memory nor threads.

mod choosing;
mod error;
mod forward;
mod positions;
mod said;
mod speaking;
mod vocoding;

use std::sync::Arc;

use sage_actors::config::ModuleShape;
use sage_actors::protocol::{LayerKey, Module};

use super::engine::Engine;
use super::error::EngineError;
use super::ports::Voice;
use crate::checkpoint::config::TalkerConfig;

pub use crate::events::SpeechEnded;
pub use choosing::{Choosing, SpeechRequest, Spoken};
pub use error::SpeechError;
pub(super) use forward::TalkerStep;
pub use positions::talker_positions;
pub use said::{CollectedTurn, TurnRows, TurnStyle};
pub(super) use speaking::prompt_of;
pub use speaking::{Speaking, SpeechStep, talker_directive};

/// Whose voice, where nobody else is asked for, as in the released pipeline.
pub const SPEAKER: &str = "Ethan";

/// Codes of one turn beyond which memory cannot be planned: a day of sound.
pub const MOST_CODES: usize = 1 << 20;

/// Every layer of the talker is sparse.
pub fn talker_layers(config: &TalkerConfig) -> impl Iterator<Item = LayerKey> {
    (0..config.text.num_hidden_layers).map(|layer| LayerKey {
        module: Module::Talker,
        layer: layer as u16,
    })
}

/// The talker's sparse part, as the mind knows it; none where the model has no talker.
pub fn talker_shape(config: &TalkerConfig, expert_bytes: u64) -> ModuleShape {
    ModuleShape {
        module: Module::Talker,
        layers: talker_layers(config).map(|key| key.layer).collect(),
        experts: config.text.num_experts as u16,
        k_trained: config.text.num_experts_per_tok as u16,
        norm_topk_prob: config.text.norm_topk_prob,
        expert_bytes,
        smaller: Vec::new(),
    }
}

impl Engine {
    /// What speaks.
    ///
    /// # Errors
    /// When the model was opened without.
    pub fn voice(&self) -> Result<Arc<dyn Voice>, EngineError> {
        let voice = self.body.voice.as_ref().ok_or(SpeechError::Mute)?;
        Ok(Arc::clone(voice))
    }

    /// Refuses what could not be spoken, before anything is read: an unknown speaker, a prompt that does not open an answer, more
    /// codes than memory is planned for.
    ///
    /// # Errors
    /// Those, and that the model was opened without a voice.
    pub fn check_speech(&self, prompt: &[u32], request: &SpeechRequest) -> Result<(), EngineError> {
        let voice = self.voice()?;
        if !(2..=voice.codes()).contains(&request.max_codes) {
            return Err(SpeechError::CodeCount {
                asked: request.max_codes,
                planned: voice.codes(),
            }
            .into());
        }
        let checked = voice.check(prompt, &request.speaker);
        Ok(checked.map_err(SpeechError::from)?)
    }
}
