//! The speaking loop: prompt, then frame by frame a code of the talker, the rest by the code predictor, and the next step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sage_actors::protocol::{Module, ModuleDirective, Phase};
use serde::Serialize;

use super::forward::TalkerStep;
use super::said::{Said, Turn};
use super::vocoding::Vocoding;
use super::{SpeechError, Voice, talker_positions};
use crate::core::orient::{Arrivals, Orientation};
use crate::core::sampling::Sampling;
use crate::core::{Engine, EngineError, Forward, Probe};
use crate::kernels::pointwise::add_scaled;
use crate::model::code_predictor::{self, FrameCache};
use crate::model::code2wav::SAMPLE_RATE_HZ;
use crate::model::experts::Scratch;
use crate::model::talker::{Heard, Prompt, choice};
use crate::model::{KvCache, Positions};

/// Ticks to wait for a state in which the talker is awake: what tired the mind refills well within them.
const WAIT_TICKS: u32 = 1024;

/// Sets the codes' random numbers apart from the words'.
const CODES: u64 = 0x636f_6465_735f_3830;

/// How codes are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choosing {
    /// A frame's first code: the talker's.
    pub first: Sampling,
    /// Its other codes: the code predictor's.
    pub rest: Sampling,
}

impl Choosing {
    /// The most probable code, always: of the talker and so of the code predictor too.
    pub const GREEDY: Self = Self {
        first: Sampling::GREEDY,
        rest: Sampling::GREEDY,
    };

    /// As the released pipeline chooses. An answer's tokens may be drawn by the same seed: the codes have their own numbers.
    pub fn released(seed: u64) -> Self {
        let seed = seed ^ CODES;
        Self {
            first: Sampling {
                temperature: choice::TEMPERATURE,
                top_p: 1.0,
                top_k: choice::TOP_K,
                seed,
            },
            rest: Sampling {
                temperature: code_predictor::TEMPERATURE,
                top_p: code_predictor::TOP_P,
                top_k: code_predictor::TOP_K,
                seed,
            },
        }
    }
}

/// How a turn is to be spoken.
#[derive(Clone, Debug)]
pub struct SpeechRequest {
    /// Whose voice; upper and lower case are the same.
    pub speaker: String,
    /// How codes are chosen.
    pub choosing: Choosing,
    /// Codes at most, the end code included: one more than frames of 80 ms.
    pub max_codes: usize,
    /// The code that ends speech, where it is not the model's own.
    pub end: Option<u32>,
}

/// Why speech ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeechEnded {
    /// The model's own end code.
    End,
    /// As many codes as were asked for.
    Length,
    /// The mind ran out of energy, or stayed in a state in which the talker sleeps.
    Depletion,
}

/// What was spoken, and what it took.
#[derive(Clone, Debug, Serialize)]
pub struct Spoken {
    /// Why it ended.
    pub ended: SpeechEnded,
    /// The talker's codes, the last one not vocoded.
    #[serde(skip)]
    pub tokens: Vec<u32>,
    /// All codes, `[groups, frames]`.
    #[serde(skip)]
    pub codes: Vec<u32>,
    /// Ids of the talker's prompt, which count for positions only.
    #[serde(skip)]
    pub prompt_ids: Vec<u32>,
    /// Rows of the talker's prompt.
    pub prompt_rows: usize,
    /// Frames of 80 ms.
    pub frames: usize,
    /// Samples of the sound, 24 000 a second.
    pub samples: usize,
    /// How long the sound is.
    pub sound_seconds: f64,
    /// How long it took to make it.
    pub made_in_seconds: f64,
    /// Sound by time: above 1 it is made faster than it is heard.
    pub real_time_factor: f64,
    /// Until the first samples were there.
    pub time_to_first_sound_ms: f64,
    /// Share of the talker's routed experts that were resident, frames only.
    pub hit_rate: f64,
    /// Logical bytes of the others, per frame.
    pub bytes_per_frame: f64,
    /// Logical bytes missed in all, the prompt included.
    pub miss_bytes: u64,
    /// Drive of the turn, which shared memory between thinker and talker.
    pub drive: f32,
    /// Ticks that passed without a frame.
    pub idle_ticks: u32,
}

/// A turn on its way into sound.
struct Speaking {
    voice: Arc<Voice>,
    turn: Turn,
    choosing: Choosing,
    end: u32,
    max_codes: usize,
    prompt: Prompt,
    kv: KvCache,
    cache: FrameCache,
    scratch: Scratch,
    /// The talker's last state after its final norm, `[hidden]`.
    state: Vec<f32>,
    tokens: Vec<u32>,
    vocoding: Vocoding,
    idle_ticks: u32,
    hits: u64,
    misses: u64,
    frame_miss_bytes: u64,
    miss_bytes: u64,
}

/// Speaks a turn; `hear` gets the samples, 24 000 a second in [-1, 1], as they come. Only then is the answer's request done:
/// until the end it is open.
///
/// # Errors
/// What [`Engine::check_speech`] refuses, an answer of fewer than two tokens, an expert that cannot be read, an actor that failed,
/// and what `hear` returns.
pub async fn speak<E: From<EngineError>>(
    engine: &mut Engine,
    said: &Said,
    request: &SpeechRequest,
    mut probe: Option<&mut dyn Probe>,
    mut hear: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<Spoken, E> {
    let started = Instant::now();
    let mut speaking = Speaking::new(engine, said, request, &mut probe)?;
    let mut samples = 0;
    let mut first_sound: Option<Duration> = None;
    let mut heard = |sound: Option<Vec<f32>>| {
        let sound = sound.unwrap_or_default();
        if !sound.is_empty() {
            first_sound.get_or_insert_with(|| started.elapsed());
        }
        samples += sound.len();
        hear(&sound)
    };
    let mut ended = speaking.listen(engine, said, &mut probe).await?;
    while ended.is_none() {
        let (sound, end) = speaking.frame(engine, &mut probe).await?;
        heard(sound)?;
        ended = end;
    }
    let last = speaking.vocoding.finish().map_err(EngineError::from)?;
    heard(last)?;
    let ended = ended.unwrap_or(SpeechEnded::Length);
    Ok(speaking.summary(ended, samples, started.elapsed(), first_sound))
}

/// What the talker hears of a turn before it speaks.
pub(crate) fn prompt_of(
    engine: &Engine,
    said: &Said,
    speaker: &str,
) -> Result<Prompt, EngineError> {
    let voice = engine.voice()?;
    let talker = &voice.talker;
    let heard = Heard {
        ids: &said.ids,
        embeddings: &said.embeddings,
        hidden: &said.hidden,
        generated: &said.generated,
        tts: &engine.thinker.embed(&talker.tokens.tts()),
        speaker,
    };
    Ok(talker.prompt(&heard).map_err(SpeechError::from)?)
}

impl Speaking {
    fn new(
        engine: &Engine,
        said: &Said,
        request: &SpeechRequest,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<Self, EngineError> {
        engine.check_speech(&said.ids, request)?;
        let voice = engine.voice()?;
        let talker = &voice.talker;
        let prompt = prompt_of(engine, said, &request.speaker)?;
        if let Some(probe) = probe {
            probe.tensor("talker.input_embeds", &prompt.rows);
            probe.tensor("talker.trailing_text_hidden", &prompt.trailing);
            probe.tensor("talker.tts_pad_embed", &prompt.tts_pad);
        }
        let memory = |source| EngineError::System {
            what: "no memory for the talker's key-value cache".into(),
            source,
        };
        let rows = prompt.ids.len() + request.max_codes;
        let groups = talker.config.num_code_groups;
        Ok(Self {
            turn: said.turn,
            choosing: request.choosing,
            end: request.end.unwrap_or(talker.config.codec_eos_token_id),
            max_codes: request.max_codes,
            kv: talker.cache(rows).map_err(memory)?,
            cache: voice.predictor.cache().map_err(memory)?,
            scratch: Scratch::default(),
            state: Vec::new(),
            tokens: Vec::new(),
            vocoding: Vocoding::new(Arc::clone(&voice), groups, request.max_codes),
            idle_ticks: 0,
            hits: 0,
            misses: 0,
            frame_miss_bytes: 0,
            miss_bytes: 0,
            prompt,
            voice,
        })
    }

    /// Reads the talker's prompt, chunk by chunk.
    async fn listen(
        &mut self,
        engine: &mut Engine,
        said: &Said,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<Option<SpeechEnded>, EngineError> {
        let config = engine.source.config();
        let (positions, delta) =
            talker_positions(&self.prompt.ids, config, &said.grids).map_err(SpeechError::from)?;
        if let Some(probe) = probe {
            probe.tensor("talker.prefill_position_ids", &positions.axes.concat());
        }
        let hidden = self.prompt.tts_pad.len();
        let mut done = 0;
        while done < positions.len() {
            let Some((orientation, directive)) = self.awake(engine).await? else {
                return Ok(Some(SpeechEnded::Depletion));
            };
            let end = positions.len().min(done + engine.step_tokens(&orientation));
            let rows = self.prompt.rows[done * hidden..end * hidden].to_vec();
            let step = self.step_of(rows, positions.of(done..end), directive, &orientation);
            let step = TalkerStep {
                phase: Phase::Prefill,
                ..step
            };
            let probe = probe.as_deref_mut().map(|probe| probe as &mut dyn Probe);
            let forward = engine.run_talker(&mut self.kv, step, probe).await?;
            self.miss_bytes += forward.miss_bytes;
            engine.idle(1);
            self.state = forward.normed[forward.normed.len() - hidden..].to_vec();
            done = end;
        }
        self.kv.set_position_delta(delta);
        Ok(None)
    }

    /// One frame: the sound of the chunk that it completes, and why speech ends, if it does.
    async fn frame(
        &mut self,
        engine: &mut Engine,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<(Option<Vec<f32>>, Option<SpeechEnded>), EngineError> {
        let first = self.first_code(probe);
        self.tokens.push(first);
        if first == self.end {
            return Ok((None, Some(SpeechEnded::End)));
        }
        if self.tokens.len() == self.max_codes {
            return Ok((None, Some(SpeechEnded::Length)));
        }
        let (codes, row) = self.rest_of_frame(first, probe);
        let sound = self.vocoding.add(codes.into_iter())?;
        let Some((orientation, directive)) = self.awake(engine).await? else {
            return Ok((sound, Some(SpeechEnded::Depletion)));
        };
        let positions = Positions::text_from(self.kv.next_position(), 1);
        if let Some(probe) = probe {
            probe.tensor("talker.decode_position_ids", &positions.axes[0]);
        }
        let step = self.step_of(row, positions, directive, &orientation);
        let forward = engine.run_talker(&mut self.kv, step, None).await?;
        self.note(&forward);
        engine.idle(1);
        self.state = forward.normed;
        Ok((sound, None))
    }

    fn step_of(
        &self,
        rows: Vec<f32>,
        positions: Positions,
        directive: ModuleDirective,
        orientation: &Orientation,
    ) -> TalkerStep {
        TalkerStep {
            rows,
            positions,
            phase: Phase::Decode,
            tick: orientation.tick,
            directive,
            felt: self.turn.felt,
        }
    }

    /// The frame's first code, of which the penalty, the special codes and then the sampling decide, in this order.
    fn first_code(&mut self, probe: &mut Option<&mut dyn Probe>) -> u32 {
        let talker = &self.voice.talker;
        let mut logits = talker.codec_logits(&self.state, &mut self.scratch);
        if let Some(probe) = probe {
            probe.tensor("talker.step_hidden", &self.state);
            probe.tensor("talker.step_logits", &logits);
        }
        choice::penalise(&mut logits, &self.tokens, choice::REPETITION_PENALTY);
        choice::suppress(&mut logits, talker.config.codec_eos_token_id);
        let counter = self.counter(0);
        self.choosing.first.choose(&logits, counter)
    }

    /// All codes of the frame, and the row that follows it: their embeddings and the text of this step.
    fn rest_of_frame(
        &mut self,
        first: u32,
        probe: &mut Option<&mut dyn Probe>,
    ) -> (Vec<u32>, Vec<f32>) {
        let frames = self.vocoding.frames();
        let at = self.counter(0);
        let rest = self.choosing.rest;
        let mut choose = |group: usize, logits: &[f32]| {
            if let Some(probe) = probe {
                probe.tensor("code_predictor.logits", logits);
            }
            rest.choose(logits, at + group as u64)
        };
        let embedding = self.voice.talker.embed_code(first);
        let predictor = &self.voice.predictor;
        let frame = predictor.frame(&self.state, &embedding, &mut self.cache, &mut choose);
        let mut row = frame.embedding_sum;
        add_scaled(&mut row, self.prompt.text_row(frames), 1.0);
        if let Some(probe) = probe {
            probe.tensor("talker.step_inputs_embeds", &row);
        }
        let codes = std::iter::once(first).chain(frame.codes);
        (codes.collect(), row)
    }

    /// Of the random numbers: every code of a turn has its own.
    fn counter(&self, group: u64) -> u64 {
        let groups = self.voice.talker.config.num_code_groups;
        (self.vocoding.frames() * groups) as u64 + group
    }

    /// Orients until the mind lets the talker step; none when it will not.
    async fn awake(
        &mut self,
        engine: &mut Engine,
    ) -> Result<Option<(Orientation, ModuleDirective)>, EngineError> {
        for _ in 0..WAIT_TICKS {
            let orientation = engine
                .orient(Arrivals {
                    open_requests: 1,
                    spoken_drive: Some(self.turn.drive),
                    ..Arrivals::default()
                })
                .await?;
            let directives = &orientation.directives;
            if directives.end_answer {
                return Ok(None);
            }
            let mut modules = directives.modules.iter();
            let talker = modules.find(|directive| directive.module == Module::Talker);
            if let Some(directive) = talker.copied().filter(|_| directives.may_step) {
                return Ok(Some((orientation, directive)));
            }
            engine.idle(1);
            self.idle_ticks += 1;
        }
        Ok(None)
    }

    fn note(&mut self, forward: &Forward) {
        self.hits += forward.hits;
        self.misses += forward.misses;
        self.frame_miss_bytes += forward.miss_bytes;
        self.miss_bytes += forward.miss_bytes;
    }

    fn summary(
        self,
        ended: SpeechEnded,
        samples: usize,
        made_in: Duration,
        first_sound: Option<Duration>,
    ) -> Spoken {
        let frames = self.vocoding.frames();
        let sound_seconds = samples as f64 / f64::from(SAMPLE_RATE_HZ);
        let made_in_seconds = made_in.as_secs_f64();
        Spoken {
            ended,
            codes: self.vocoding.codes(),
            prompt_rows: self.prompt.ids.len(),
            prompt_ids: self.prompt.ids,
            tokens: self.tokens,
            frames,
            samples,
            sound_seconds,
            made_in_seconds,
            real_time_factor: sound_seconds / made_in_seconds,
            time_to_first_sound_ms: first_sound.unwrap_or(made_in).as_secs_f64() * 1e3,
            hit_rate: self.hits as f64 / (self.hits + self.misses).max(1) as f64,
            bytes_per_frame: self.frame_miss_bytes as f64 / frames.max(1) as f64,
            miss_bytes: self.miss_bytes,
            drive: self.turn.drive,
            idle_ticks: self.idle_ticks,
        }
    }
}
