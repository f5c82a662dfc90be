//! Speech in the loop: what was answered is said aloud, one frame a tick.

use std::sync::Arc;

use super::answer::{Completed, SpokenAnswer};
use super::conductor::CoreLoop;
use super::job::{Job, Stage};
use crate::core::request::{Request, RequestKind, VoiceChoice};
use crate::core::speech::{
    Choosing, SPEAKER, Speaking, SpeechEnded, SpeechRequest, SpeechStep, TurnStyle,
    talker_directive,
};
use crate::core::{EngineError, Orientation};
use crate::events::{AudioEvent, Event, EventKind, SpokenEvent};

impl CoreLoop {
    /// Refuses what could not be spoken, before anything is read.
    pub(super) fn check_voice(
        &self,
        voice: &VoiceChoice,
        request: &Request,
        prompt: &[u32],
    ) -> Result<(), EngineError> {
        if self.answer_tokens(request) < 2 {
            let problem = "an answer that is spoken has at least 2 tokens: its last one is never said; expected max_tokens of 2 or more";
            return Err(EngineError::Unsound(problem.to_owned()));
        }
        let speech = self.speech_request(voice, request)?;
        self.engine.check_speech(prompt, &speech)
    }

    /// How a request is to be spoken.
    fn speech_request(
        &self,
        voice: &VoiceChoice,
        request: &Request,
    ) -> Result<SpeechRequest, EngineError> {
        let seed = request.sampling.unwrap_or(self.policy.sampling).seed;
        Ok(SpeechRequest {
            speaker: voice.speaker.as_deref().unwrap_or(SPEAKER).to_owned(),
            choosing: match voice.greedy {
                true => Choosing::GREEDY,
                false => Choosing::released(seed),
            },
            max_codes: voice.max_codes.unwrap_or(self.engine.voice()?.codes()),
            end: None,
        })
    }

    /// Begins to speak what was answered; whether there is anything to be spoken. An answer of one token has nothing to be heard.
    pub(super) fn begin_speech(&mut self, job: &mut Job) -> Result<bool, EngineError> {
        let Some(voice) = &job.request.voice else {
            return Ok(false);
        };
        let Stage::Answering(answering, _) = &job.stage else {
            return Ok(false);
        };
        if answering.tokens.len() < 2 {
            return Ok(false);
        }
        let request = self.speech_request(voice, &job.request)?;
        let style = self
            .orientation()
            .map_or_else(TurnStyle::default, TurnStyle::of);
        let Some(rows) = self.context.turn_rows(job.prompt_tokens, style) else {
            return Ok(false);
        };
        let grids = job.percept.as_ref().map(|percept| percept.grids.clone());
        let grids = grids.unwrap_or_default();
        let speaking = Speaking::new(&self.engine, &rows, &grids, &request, &mut None)?;
        job.stage = Stage::Speaking(Box::new(speaking));
        Ok(true)
    }

    /// One step of the speech of a job: a part of what the talker reads, or a frame.
    pub(super) async fn speak(
        &mut self,
        mut job: Job,
        orientation: &Orientation,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let Stage::Speaking(speaking) = &mut job.stage else {
            return Ok(());
        };
        let Some(directive) = talker_directive(orientation) else {
            if speaking.wait() {
                self.put_off(job);
                return Ok(());
            }
            return self.fall_silent(job, SpeechEnded::Depletion, completed, sink);
        };
        // The mind has heard of the last word only now.
        speaking.attune(TurnStyle::of(orientation));
        let before = speaking.miss_bytes();
        let step = speaking
            .step(&mut self.engine, orientation, directive, &mut None)
            .await?;
        let missed = speaking.miss_bytes() - before;
        self.minding.books.account.perceived(missed);
        match step {
            SpeechStep::Reading => {}
            SpeechStep::Frame(sound) => self.sound(job.id, sound, orientation.tick, sink),
            SpeechStep::Ended(ended) => return self.fall_silent(job, ended, completed, sink),
        }
        self.queue.jobs.push_front(job);
        Ok(())
    }

    /// Speech ends: the sound of its last frames, and what it took.
    pub(super) fn fall_silent(
        &mut self,
        job: Job,
        ended: SpeechEnded,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let (id, tick) = (job.id, self.engine.tick());
        let Stage::Speaking(mut speaking) = job.stage else {
            return Ok(());
        };
        let last = speaking.finish()?;
        self.sound(id, last, tick, sink);
        let spoken = speaking.summary(ended);
        sink(Event {
            tick,
            kind: EventKind::Spoken(SpokenEvent {
                request: id,
                ended,
                frames: spoken.frames,
                samples: spoken.samples,
                codes_blake3: digest(spoken.codes.iter().map(|code| code.to_le_bytes())),
                hits: spoken.hits,
                misses: spoken.misses,
                miss_bytes: spoken.miss_bytes,
                idle_ticks: spoken.idle_ticks,
            }),
        });
        completed.spoken.push(SpokenAnswer { id, spoken });
        Ok(())
    }

    /// What is to be spoken has nothing to be heard: whoever waits for its end is told so.
    pub(super) fn stay_silent(&self, job: &Job, sink: &mut dyn FnMut(Event)) {
        let kind = EventKind::Spoken(SpokenEvent {
            request: job.id,
            ended: SpeechEnded::End,
            frames: 0,
            samples: 0,
            codes_blake3: digest(std::iter::empty()),
            hits: 0,
            misses: 0,
            miss_bytes: 0,
            idle_ticks: 0,
        });
        let tick = self.engine.tick();
        sink(Event { tick, kind });
    }

    /// An alarm is not kept waiting by what is said aloud, unless that answers an alarm itself.
    pub(super) fn hush(
        &mut self,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let is_alarm = |job: &Job| job.want() == RequestKind::AlarmAnswer;
        if !self.queue.jobs.iter().any(is_alarm) {
            return Ok(());
        }
        let spoken = |job: &Job| job.speaking().is_some() && !is_alarm(job);
        for job in self.queue.take_out(spoken) {
            self.fall_silent(job, SpeechEnded::Interrupted, completed, sink)?;
        }
        Ok(())
    }

    fn sound(
        &self,
        request: u64,
        samples: Option<Vec<f32>>,
        tick: u64,
        sink: &mut dyn FnMut(Event),
    ) {
        let samples = samples.unwrap_or_default();
        if samples.is_empty() {
            return;
        }
        let kind = EventKind::Audio(AudioEvent {
            request,
            samples: samples.len(),
            blake3: digest(samples.iter().map(|sample| sample.to_le_bytes())),
            pcm: Arc::from(samples),
        });
        sink(Event { tick, kind });
    }
}

/// BLAKE3 of numbers, little-endian.
fn digest(numbers: impl Iterator<Item = [u8; 4]>) -> String {
    let mut hasher = blake3::Hasher::new();
    numbers.for_each(|bytes| {
        hasher.update(&bytes);
    });
    hasher.finalize().to_hex().to_string()
}
