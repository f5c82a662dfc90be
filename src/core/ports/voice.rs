//! What speaks: the talker's decoder, and what turns its states into codes and codes into samples.

use std::sync::Arc;

use super::decoder::{Decoder, DecoderError};
use crate::model::speech::{
    CodesError, Frame, PromptError, TalkerPrompt, ThinkerTurn, VocoderChunk,
};

/// Memory for speech, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeechDemand {
    /// Routed experts of the talker.
    pub experts: usize,
    /// What one of them takes in memory, whole pages; the largest where they differ.
    pub slot_bytes: u64,
    /// What all of them take in memory.
    pub experts_bytes: u64,
    /// Experts that one token uses in training: no lease window is smaller.
    pub k_trained: usize,
    /// Weights, caches, activations, and what is kept of the thinker; everything but experts.
    pub bytes: u64,
}

/// The parts that speak.
pub trait Voice: Send + Sync {
    /// The talker: its tokens are the first codes of frames.
    fn decoder(&self) -> Arc<dyn Decoder>;

    /// Codes of one turn that memory is planned for.
    fn codes(&self) -> usize;

    /// Refuses what could not be spoken to: a prompt that does not open an answer, an unknown speaker.
    ///
    /// # Errors
    /// Those.
    fn check(&self, prompt: &[u32], speaker: &str) -> Result<(), PromptError>;

    /// Ids of the three tokens whose thinker embeddings [`ThinkerTurn::tts`] asks for, in its order.
    fn tts_tokens(&self) -> [u32; 3];

    /// What the talker hears of a turn before it speaks.
    ///
    /// # Errors
    /// When there is nothing to say, the speaker is unknown, or rows are missing.
    fn prompt(&self, heard: &ThinkerTurn<'_>) -> Result<TalkerPrompt, PromptError>;

    /// What completes the frames of one turn.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn new_frames(&self) -> Result<Box<dyn FrameMaker>, DecoderError>;

    /// Samples in [-1, 1] of one chunk of `codes` `[groups, frames]`, row-major.
    ///
    /// # Errors
    /// When the codes are not such a table, or one is beyond the codebook.
    fn samples(
        &self,
        codes: &[u32],
        frames: usize,
        chunk: &VocoderChunk,
    ) -> Result<Vec<f32>, CodesError>;

    /// Samples of all of `codes` at once, with every intermediate result told to `probe`: for comparing with a reference.
    ///
    /// # Errors
    /// As [`Self::samples`].
    fn samples_probed(
        &self,
        codes: &[u32],
        frames: usize,
        probe: &mut dyn FnMut(&str, &[f32]),
    ) -> Result<Vec<f32>, CodesError>;
}

/// Completes frames, one after another.
pub trait FrameMaker: Send {
    /// The rest of a frame whose first code is `first`. `state` is the talker's last one behind its final norm, `[hidden]`;
    /// `choose(group, logits)` chooses the code of group 1, 2, ….
    fn complete(
        &mut self,
        state: &[f32],
        first: u32,
        choose: &mut dyn FnMut(usize, &[f32]) -> u32,
    ) -> Frame;
}
