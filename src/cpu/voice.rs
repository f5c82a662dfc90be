//! What speaks, in this process's memory, and what it takes of the floor.

use std::sync::Arc;

use super::decoder::{CpuDecoder, spec_of};
use super::sizes::{kv_bytes, workspace_bytes};
use super::slots::ExpertSlots;
use crate::checkpoint::Component;
use crate::checkpoint::config::TalkerConfig;
use crate::core::ports::{Decoder, DecoderError, FrameMaker, SpeechDemand, Voice};
use crate::input::KvPrecision;
use crate::model::code_predictor::FrameCache;
use crate::model::speech::{
    CHUNK_FRAMES, CodesError, Frame, LEFT_CONTEXT_FRAMES, PromptError, TalkerPrompt, ThinkerTurn,
    VocoderChunk,
};
use crate::model::{Code2Wav, CodePredictor, Talker};
use crate::store::{LoadError, WeightSource};

/// Rows of a talker's prompt beyond those of the thinker's: six that say how to speak.
const EXTRA_ROWS: usize = 9;

/// Talker, code predictor and vocoder.
pub struct CpuVoice {
    talker: Arc<Talker>,
    decoder: Arc<CpuDecoder>,
    predictor: Arc<CodePredictor>,
    vocoder: Code2Wav,
    codes: usize,
}

impl CpuVoice {
    /// Loads everything that speaks but the talker's routed experts, for turns of at most `codes` codes.
    ///
    /// # Errors
    /// When the model has no talker, or a tensor is missing, misshapen or damaged.
    pub fn load(source: &dyn WeightSource, codes: usize) -> Result<Self, LoadError> {
        let talker = Arc::new(Talker::load(source, |_, _| ())?);
        Ok(Self {
            decoder: Arc::new(CpuDecoder::talker(Arc::clone(&talker), spec_of(source))),
            predictor: Arc::new(CodePredictor::load(source)?),
            vocoder: Code2Wav::load(source)?,
            codes,
            talker,
        })
    }
}

/// Whether the source has everything that speaks.
#[cfg(feature = "cli")]
pub fn can_speak(source: &dyn WeightSource) -> bool {
    Talker::sizes(source).is_ok()
        && CodePredictor::weights_bytes(source).is_ok()
        && Code2Wav::weights_bytes(source).is_ok()
}

impl Voice for CpuVoice {
    fn decoder(&self) -> Arc<dyn Decoder> {
        Arc::clone(&self.decoder) as Arc<dyn Decoder>
    }

    fn codes(&self) -> usize {
        self.codes
    }

    fn check(&self, prompt: &[u32], speaker: &str) -> Result<(), PromptError> {
        self.talker.speaker(speaker)?;
        self.talker.check_opening(prompt)
    }

    fn tts_tokens(&self) -> [u32; 3] {
        self.talker.tokens.tts()
    }

    fn prompt(&self, heard: &ThinkerTurn<'_>) -> Result<TalkerPrompt, PromptError> {
        self.talker.prompt(heard)
    }

    fn new_frames(&self) -> Result<Box<dyn FrameMaker>, DecoderError> {
        let cache = self.predictor.cache();
        Ok(Box::new(CpuFrames {
            cache: cache.map_err(|source| DecoderError::Memory {
                what: "no memory for the talker's key-value cache",
                source,
            })?,
            talker: Arc::clone(&self.talker),
            predictor: Arc::clone(&self.predictor),
        }))
    }

    fn samples(
        &self,
        codes: &[u32],
        frames: usize,
        chunk: &VocoderChunk,
    ) -> Result<Vec<f32>, CodesError> {
        self.vocoder.decode_chunk(codes, frames, chunk)
    }

    fn samples_probed(
        &self,
        codes: &[u32],
        frames: usize,
        probe: &mut dyn FnMut(&str, &[f32]),
    ) -> Result<Vec<f32>, CodesError> {
        self.vocoder.decode_probed(codes, frames, probe)
    }
}

/// The code predictor with its cache, and the talker's table of first codes.
struct CpuFrames {
    talker: Arc<Talker>,
    predictor: Arc<CodePredictor>,
    cache: FrameCache,
}

impl FrameMaker for CpuFrames {
    fn complete(
        &mut self,
        state: &[f32],
        first: u32,
        choose: &mut dyn FnMut(usize, &[f32]) -> u32,
    ) -> Frame {
        let embedding = self.talker.embed_code(first);
        self.predictor
            .frame(state, &embedding, &mut self.cache, choose)
    }
}

/// What speaking takes for an answer in `context_tokens` tokens and `codes` codes, the prompt read in chunks, keys and values
/// kept in `kv`; none where the talker's cannot be.
///
/// # Errors
/// When the model has no talker, no code predictor or no vocoder.
pub fn demand(
    source: &dyn WeightSource,
    context_tokens: usize,
    chunk_tokens: usize,
    codes: usize,
    kv: KvPrecision,
) -> Result<Option<SpeechDemand>, LoadError> {
    let (_, talker_bytes) = Talker::sizes(source)?;
    let weights =
        talker_bytes + CodePredictor::weights_bytes(source)? + Code2Wav::weights_bytes(source)?;
    let absent = || LoadError::Absent {
        component: Component::Talker,
        key: "talker_config",
    };
    let config = source.config().talker.as_ref().ok_or_else(absent)?;
    let vocoder = source.config().code2wav.as_ref();
    let (text, groups) = (&config.text, config.num_code_groups);
    let predictor = &config.code_predictor;
    let rows = context_tokens + EXTRA_ROWS + codes;
    let Some(caches) = kv_bytes(text, rows, kv) else {
        return Ok(None);
    };
    let caches = caches + CodePredictor::kv_shape(predictor).bytes(groups);
    let frames = codes.min(CHUNK_FRAMES + LEFT_CONTEXT_FRAMES);
    // The prompt is made before the first frame, and no sound before that.
    let making = vocoder.map_or(0, |config| Code2Wav::workspace_bytes(config, frames));
    let making = making.max(prompt_bytes(config, context_tokens));
    let shared = chunk_tokens * 3 * text.shared_expert_intermediate_size * size_of::<f32>();
    let slots = ExpertSlots::of(source, Component::Talker);
    Ok(Some(SpeechDemand {
        experts: text.num_hidden_layers * text.num_experts,
        slot_bytes: slots.largest_bytes,
        experts_bytes: slots.total_bytes,
        k_trained: text.num_experts_per_tok,
        bytes: weights
            + caches
            + kept_bytes(config, context_tokens, chunk_tokens)
            + making
            + workspace_bytes(text, chunk_tokens, rows)
            + (shared + codes * groups * size_of::<u32>()) as u64,
    }))
}

/// Of every fed token its embedding and a hidden state, and once more those of a chunk on their way; then the rows made of them.
fn kept_bytes(config: &TalkerConfig, context_tokens: usize, chunk_tokens: usize) -> u64 {
    let of_thinker = 2 * (context_tokens + chunk_tokens) * config.thinker_hidden_size;
    let rows = 3 * (context_tokens + EXTRA_ROWS) * config.text.hidden_size;
    ((of_thinker + rows) * size_of::<f32>()) as u64
}

/// Making the prompt: rows gathered and joined, between the projections' layers, turned for the product.
fn prompt_bytes(config: &TalkerConfig, context_tokens: usize) -> u64 {
    let a_row = 4 * config.thinker_hidden_size
        + 2 * config.text.intermediate_size
        + config.text.hidden_size;
    ((context_tokens + EXTRA_ROWS) * a_row * size_of::<f32>()) as u64
}
