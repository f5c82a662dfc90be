//! Speech step by step: the prompt, then frame by frame a code of the talker, the rest by the code predictor, and the next row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sage_actors::protocol::{Module, ModuleDirective, Phase};
use tracing::Instrument;

use super::choosing::{SpeechRequest, Spoken};
use super::forward::TalkerStep;
use super::said::{TurnRows, TurnStyle};
use super::vocoding::Vocoding;
use super::{SpeechError, talker_positions};
use crate::checkpoint::config::TalkerConfig;
use crate::core::orient::Orientation;
use crate::core::ports::{DecoderInput, FrameMaker, InputRows, Sequence, Voice};
use crate::core::{Engine, EngineError, Forward, Probe};
use crate::events::SpeechEnded;
use crate::model::Positions;
use crate::model::positions::MediaGrids;
use crate::model::speech::{SAMPLE_RATE_HZ, TalkerPrompt, ThinkerTurn, choice};
use crate::spans;

/// Ticks to wait for a state in which the talker is awake: what tired the mind refills well within them.
const WAIT_TICKS: u32 = 1024;

/// A turn on its way into sound: one step at a time, each under an orientation in which the talker is awake.
pub struct Speaking {
    voice: Arc<dyn Voice>,
    style: TurnStyle,
    how: SpeechRequest,
    prompt: TalkerPrompt,
    /// Where the prompt's rows stand; none once all of it is read.
    unread: Option<Unread>,
    decoding: Decoding,
    tokens: Vec<u32>,
    vocoding: Vocoding,
    tally: Tally,
}

/// What of the prompt the talker has not read.
struct Unread {
    positions: Positions,
    /// What a later row's position is above its number.
    delta: f32,
    done: usize,
}

/// Where the talker is.
struct Decoding {
    kv: Sequence,
    frames: Box<dyn FrameMaker>,
    /// Codes of a frame.
    groups: usize,
    /// The model's own end code.
    end_code: u32,
    /// Its last state after its final norm, `[hidden]`.
    state: Vec<f32>,
}

/// What it took so far.
struct Tally {
    started: Instant,
    first_sound: Option<Duration>,
    samples: usize,
    waited_ticks: u32,
    idle_ticks: u32,
    hits: u64,
    misses: u64,
    frame_miss_bytes: u64,
    miss_bytes: u64,
    /// What each part worked.
    talker: Duration,
    predictor: Duration,
    vocoder: Duration,
}

/// What a step of speech gave.
#[derive(Debug)]
pub enum SpeechStep {
    /// A part of the talker's prompt was read.
    Reading,
    /// A frame was made; with it the samples of a chunk, 24 000 a second in [-1, 1], where it completes one.
    Frame(Option<Vec<f32>>),
    /// No frame follows: [`Speaking::finish`] has the last samples.
    Ended(SpeechEnded),
}

/// What the mind says of the talker; none while it sleeps or may not step.
pub fn talker_directive(orientation: &Orientation) -> Option<ModuleDirective> {
    let directives = &orientation.directives;
    let mut modules = directives.modules.iter();
    let talker = modules.find(|directive| directive.module == Module::Talker);
    talker.copied().filter(|_| directives.may_step)
}

/// What the talker hears of a turn before it speaks.
pub(crate) fn prompt_of(
    engine: &Engine,
    rows: &TurnRows<'_>,
    speaker: &str,
) -> Result<TalkerPrompt, EngineError> {
    let voice = engine.voice()?;
    let tts = DecoderInput {
        rows: InputRows::Tokens {
            ids: &voice.tts_tokens(),
            replaced: Vec::new(),
        },
        positions: &Positions::text(0, 3),
    };
    let heard = ThinkerTurn {
        ids: rows.ids,
        embeddings: rows.embeddings,
        hidden: rows.hidden,
        generated: rows.generated,
        tts: &engine.body.thinker.embed(tts)?.into_numbers()?,
        speaker,
    };
    Ok(voice.prompt(&heard).map_err(SpeechError::from)?)
}

fn talker_config(engine: &Engine) -> Result<&TalkerConfig, EngineError> {
    let talker = engine.source.config().talker.as_ref();
    Ok(talker.ok_or(SpeechError::Mute)?)
}

impl Speaking {
    /// Speech of a turn, before its first step. `probe` hears of the talker's prompt.
    ///
    /// # Errors
    /// What [`Engine::check_speech`] refuses, an answer of fewer than two tokens, and that there is no memory for it.
    pub fn new(
        engine: &Engine,
        rows: &TurnRows<'_>,
        grids: &MediaGrids,
        request: &SpeechRequest,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<Self, EngineError> {
        engine.check_speech(rows.ids, request)?;
        let voice = engine.voice()?;
        let talker = talker_config(engine)?;
        let prompt = prompt_of(engine, rows, &request.speaker)?;
        let config = engine.source.config();
        let (positions, delta) =
            talker_positions(&prompt.ids, config, grids).map_err(SpeechError::from)?;
        if let Some(probe) = probe {
            probe.tensor("talker.input_embeds", &prompt.rows);
            probe.tensor("talker.trailing_text_hidden", &prompt.trailing);
            probe.tensor("talker.tts_pad_embed", &prompt.tts_pad);
            probe.tensor("talker.prefill_position_ids", &positions.axes.concat());
        }
        let capacity = prompt.ids.len() + request.max_codes;
        let groups = talker.num_code_groups;
        Ok(Self {
            style: rows.style,
            how: SpeechRequest {
                end: Some(request.end.unwrap_or(talker.codec_eos_token_id)),
                ..request.clone()
            },
            unread: Some(Unread {
                positions,
                delta,
                done: 0,
            }),
            decoding: Decoding {
                kv: voice
                    .decoder()
                    .new_sequence(capacity, engine.kv_precision())?,
                frames: voice.new_frames()?,
                groups,
                end_code: talker.codec_eos_token_id,
                state: Vec::new(),
            },
            tokens: Vec::new(),
            vocoding: Vocoding::new(Arc::clone(&voice), groups, request.max_codes),
            tally: Tally::begin(),
            prompt,
            voice,
        })
    }

    /// Drive of the turn, in [0, 1]: while it is spoken it shares memory between thinker and talker.
    pub fn drive(&self) -> f32 {
        self.style.drive
    }

    /// What the turn is like, where that is known only as speech begins.
    pub fn attune(&mut self, style: TurnStyle) {
        if self.unread.as_ref().is_some_and(|unread| unread.done == 0) {
            self.style = style;
        }
    }

    /// Logical bytes missed so far.
    pub fn miss_bytes(&self) -> u64 {
        self.tally.miss_bytes
    }

    /// A tick passes in which the talker may not step; whether to go on waiting.
    pub fn wait(&mut self) -> bool {
        self.tally.idle_ticks += 1;
        self.tally.waited_ticks += 1;
        self.tally.waited_ticks <= WAIT_TICKS
    }

    /// One step under an orientation that gave the talker this directive; one tick passes unless speech ends.
    ///
    /// # Errors
    /// An expert that cannot be read, an actor that failed.
    pub async fn step(
        &mut self,
        engine: &mut Engine,
        orientation: &Orientation,
        directive: ModuleDirective,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<SpeechStep, EngineError> {
        self.tally.waited_ticks = 0;
        let step = match self.unread.take() {
            Some(mut unread) => {
                self.read(engine, &mut unread, orientation, directive, probe)
                    .await?;
                if unread.done < unread.positions.len() {
                    self.unread = Some(unread);
                } else {
                    self.decoding.kv.set_position_delta(unread.delta);
                }
                SpeechStep::Reading
            }
            None => {
                let span = spans::frame(self.vocoding.frames());
                let frame = self.frame(engine, orientation, directive, probe);
                frame.instrument(span).await?
            }
        };
        if !matches!(step, SpeechStep::Ended(_)) {
            engine.idle(1);
        }
        Ok(step)
    }

    /// Reads the next chunk of the talker's prompt.
    async fn read(
        &mut self,
        engine: &mut Engine,
        unread: &mut Unread,
        orientation: &Orientation,
        directive: ModuleDirective,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<(), EngineError> {
        let hidden = self.prompt.tts_pad.len();
        let (done, all) = (unread.done, unread.positions.len());
        let end = all.min(done + engine.step_tokens(orientation));
        let rows = self.prompt.rows[done * hidden..end * hidden].to_vec();
        let step = self.step_of(rows, unread.positions.of(done..end), directive, orientation);
        let step = TalkerStep {
            phase: Phase::Prefill,
            ..step
        };
        let probe = probe.as_deref_mut().map(|probe| probe as &mut dyn Probe);
        let began = Instant::now();
        let forward = engine
            .run_talker(&mut self.decoding.kv, step, probe)
            .await?;
        self.tally.talker += began.elapsed();
        self.tally.miss_bytes += forward.traffic.miss_bytes;
        self.decoding.state = forward.normed[forward.normed.len() - hidden..].to_vec();
        unread.done = end;
        Ok(())
    }

    /// One frame, unless speech ends.
    async fn frame(
        &mut self,
        engine: &mut Engine,
        orientation: &Orientation,
        directive: ModuleDirective,
        probe: &mut Option<&mut dyn Probe>,
    ) -> Result<SpeechStep, EngineError> {
        let began = Instant::now();
        let first = self.first_code(probe)?;
        self.tally.talker += began.elapsed();
        self.tokens.push(first);
        if Some(first) == self.how.end {
            return Ok(SpeechStep::Ended(SpeechEnded::End));
        }
        if self.tokens.len() == self.how.max_codes {
            return Ok(SpeechStep::Ended(SpeechEnded::Length));
        }
        let began = Instant::now();
        let (codes, row) = self.rest_of_frame(first, probe);
        self.tally.predictor += began.elapsed();
        let began = Instant::now();
        let sound = self.vocoding.add(codes.into_iter())?;
        self.tally.vocoder += began.elapsed();
        self.tally.hear(sound.as_deref());
        let positions = Positions::text_from(self.decoding.kv.next_position(), 1);
        if let Some(probe) = probe {
            probe.tensor("talker.decode_position_ids", &positions.axes[0]);
        }
        let step = self.step_of(row, positions, directive, orientation);
        let began = Instant::now();
        let forward = engine.run_talker(&mut self.decoding.kv, step, None).await?;
        self.tally.talker += began.elapsed();
        self.tally.note(&forward);
        self.decoding.state = forward.normed;
        Ok(SpeechStep::Frame(sound))
    }

    /// The sound of the frames that no chunk was completed with.
    ///
    /// # Errors
    /// When a code is no sound.
    pub fn finish(&mut self) -> Result<Option<Vec<f32>>, EngineError> {
        let began = Instant::now();
        let last = self.vocoding.finish()?;
        self.tally.vocoder += began.elapsed();
        self.tally.hear(last.as_deref());
        Ok(last)
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
            felt: self.style.felt,
        }
    }

    /// The frame's first code, of which the penalty, the special codes and then the sampling decide, in this order.
    fn first_code(&mut self, probe: &mut Option<&mut dyn Probe>) -> Result<u32, EngineError> {
        let mut logits = self.voice.decoder().logits(&self.decoding.state)?;
        if let Some(probe) = probe {
            probe.tensor("talker.step_hidden", &self.decoding.state);
            probe.tensor("talker.step_logits", &logits);
        }
        choice::penalise(&mut logits, &self.tokens, choice::REPETITION_PENALTY);
        choice::suppress(&mut logits, self.decoding.end_code);
        let counter = self.counter(0);
        Ok(self.how.choosing.first.choose(&logits, counter))
    }

    /// All codes of the frame, and the row that follows it: their embeddings and the text of this step.
    fn rest_of_frame(
        &mut self,
        first: u32,
        probe: &mut Option<&mut dyn Probe>,
    ) -> (Vec<u32>, Vec<f32>) {
        let frames = self.vocoding.frames();
        let at = self.counter(0);
        let rest = self.how.choosing.rest;
        let mut choose = |group: usize, logits: &[f32]| {
            if let Some(probe) = probe {
                probe.tensor("code_predictor.logits", logits);
            }
            rest.choose(logits, at + group as u64)
        };
        let Decoding {
            frames: maker,
            state,
            ..
        } = &mut self.decoding;
        let frame = maker.complete(state, first, &mut choose);
        let mut row = frame.embedding_sum;
        let text = self.prompt.text_row(frames);
        row.iter_mut().zip(text).for_each(|(x, text)| *x += text);
        if let Some(probe) = probe {
            probe.tensor("talker.step_inputs_embeds", &row);
        }
        let codes = std::iter::once(first).chain(frame.codes);
        (codes.collect(), row)
    }

    /// Of the random numbers: every code of a turn has its own.
    fn counter(&self, group: u64) -> u64 {
        (self.vocoding.frames() * self.decoding.groups) as u64 + group
    }

    /// What was spoken, and what it took.
    pub fn summary(self, ended: SpeechEnded) -> Spoken {
        let frames = self.vocoding.frames();
        let tally = self.tally;
        let made_in = tally.started.elapsed();
        let sound_seconds = tally.samples as f64 / f64::from(SAMPLE_RATE_HZ);
        let made_in_seconds = made_in.as_secs_f64();
        Spoken {
            ended,
            codes: self.vocoding.codes(),
            prompt_rows: self.prompt.ids.len(),
            prompt_ids: self.prompt.ids,
            tokens: self.tokens,
            frames,
            samples: tally.samples,
            sound_seconds,
            made_in_seconds,
            talker_seconds: tally.talker.as_secs_f64(),
            code_predictor_seconds: tally.predictor.as_secs_f64(),
            vocoder_seconds: tally.vocoder.as_secs_f64(),
            real_time_factor: sound_seconds / made_in_seconds,
            time_to_first_sound_ms: tally.first_sound.unwrap_or(made_in).as_secs_f64() * 1e3,
            hits: tally.hits,
            misses: tally.misses,
            hit_rate: tally.hits as f64 / (tally.hits + tally.misses).max(1) as f64,
            bytes_per_frame: tally.frame_miss_bytes as f64 / frames.max(1) as f64,
            miss_bytes: tally.miss_bytes,
            drive: self.style.drive,
            idle_ticks: tally.idle_ticks,
        }
    }
}

impl Tally {
    fn begin() -> Self {
        Self {
            started: Instant::now(),
            first_sound: None,
            samples: 0,
            waited_ticks: 0,
            idle_ticks: 0,
            hits: 0,
            misses: 0,
            frame_miss_bytes: 0,
            miss_bytes: 0,
            talker: Duration::ZERO,
            predictor: Duration::ZERO,
            vocoder: Duration::ZERO,
        }
    }

    fn note(&mut self, forward: &Forward) {
        self.hits += forward.traffic.hits;
        self.misses += forward.traffic.misses;
        self.frame_miss_bytes += forward.traffic.miss_bytes;
        self.miss_bytes += forward.traffic.miss_bytes;
    }

    fn hear(&mut self, samples: Option<&[f32]>) {
        let samples = samples.map_or(0, <[f32]>::len);
        if samples > 0 {
            self.first_sound
                .get_or_insert_with(|| self.started.elapsed());
            self.samples += samples;
        }
    }
}
