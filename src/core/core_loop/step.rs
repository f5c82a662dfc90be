//! One step of the first job: a chunk read, or a token of an answer.

use super::conductor::CoreLoop;
use super::job::{Job, Stage};
use crate::core::reading::{Answering, GENERATED_SEGMENT_TOKENS, PrefillRun};
use crate::core::request::{RequestKind, Stop};
use crate::core::sampling::Sampling;
use crate::core::{EngineError, Forward, Orientation};
use crate::events::Ended;
use crate::events::{CacheEvent, Event, EventKind};
use crate::progress::Work;
use crate::text::TextStream;

impl CoreLoop {
    /// One step of a job; tells when it is done.
    pub(super) async fn step(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Ended>, EngineError> {
        self.tell_memory().await?;
        self.prepare_context(job, orientation, sink).await?;
        let state = orientation.directives.state;
        self.enter_domain(&job.request.source, state).await?;
        if let Stage::Waiting(tokens) = &mut job.stage {
            let tokens = std::mem::take(tokens);
            job.meter.begin_reading();
            job.prompt_tokens = self.context.len() + tokens.len();
            let scene = self.perceive(job, &tokens, orientation, sink)?;
            let hidden = self.engine.text_config().hidden_size;
            let measure = !job.request.unmeasured;
            let reading = PrefillRun::of_scene(tokens.clone(), scene, hidden, measure);
            let reading = self.measured_pieces(job, &tokens, reading)?;
            job.stage = Stage::Reading(reading);
        }
        match &job.stage {
            Stage::Reading(_) => self.read(job, orientation, sink).await,
            Stage::Answering(..) => self.answer(job, orientation, sink).await,
            Stage::Waiting(_) | Stage::Speaking(_) => Ok(None),
        }
    }

    /// Decodes the next token of an answer.
    async fn answer(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Ended>, EngineError> {
        let (kind, state) = (job.kind(), orientation.directives.state);
        let Stage::Answering(answering, stream) = &mut job.stage else {
            return Ok(None);
        };
        let step = answering
            .step(&mut self.engine, &mut self.context.kv, orientation)
            .await?;
        let ended = answering.ended;
        if let Some(token) = step.token {
            let shown = match &self.text {
                Some(text) => stream.push(text, token)?,
                None => format!("{token} "),
            };
            job.answer.push_str(&shown);
            sink(Event {
                tick: orientation.tick,
                kind: EventKind::Token {
                    request: job.id,
                    text: shown,
                },
            });
        }
        self.present.carried.last_token = Some(step.measure);
        let Some(forward) = &step.forward else {
            return Ok(ended);
        };
        self.context.append(step.token.as_slice(), forward);
        job.meter.decoded(forward);
        let minding = &mut self.minding;
        minding.books.recall.work(job.id, forward, 1);
        minding.own.segment.add(forward, &[step.measure], None);
        minding.own.uses.add(forward, 1);
        if minding.own.segment.rows() >= GENERATED_SEGMENT_TOKENS {
            self.present.carried.segment = Some(minding.own.segment.take());
            let uses = std::mem::take(&mut minding.own.uses);
            let episodes = &mut minding.dreaming.episodes;
            episodes.record(&job.request.source, state, &[], &uses);
            self.present.carried_source.clone_from(&job.request.source);
        }
        minding
            .books
            .usage
            .note(kind, &job.request.source, forward, 1);
        self.report_forward(job.id, orientation, forward, 1, sink)
            .await?;
        Ok(ended)
    }

    // Long: what follows a chunk is said in the order in which it happens.
    /// Reads the next chunk of a job, or as much of it as comes before something urgent.
    async fn read(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Ended>, EngineError> {
        let kind = job.kind();
        let Stage::Reading(reading) = &job.stage else {
            return Ok(None);
        };
        let most = reading.next_tokens(&self.engine, orientation);
        let tokens = self.heeded_tokens(job, most);
        self.tell_reading(reading, tokens);
        let Stage::Reading(reading) = &mut job.stage else {
            return Ok(None);
        };
        let step = {
            let (tick, tape) = (orientation.tick, self.outside.tape.as_ref());
            let heeding = &mut self.outside.heeding;
            let interrupt = &mut heeding.interrupt(job.request.want, tokens, tick, tape);
            let (engine, kv) = (&mut self.engine, &mut self.context.kv);
            let step = reading.step_of(tokens, engine, kv, orientation, interrupt);
            step.await?
        };
        if step.forward.given_up {
            self.present.carried.unfinished = true;
            self.engine.idle(1);
            self.report_forward(job.id, orientation, &step.forward, 0, sink)
                .await?;
            return Ok(None);
        }
        let (mean_loss, done) = (reading.mean_loss(), reading.done());
        let read = &reading.tokens()[done - step.tokens..done];
        self.context.append(read, &step.forward);
        job.meter.read(step.tokens, mean_loss);
        let books = &mut self.minding.books;
        books.account.read(&step.measures);
        if job.request.want != RequestKind::Reading {
            books.recall.work(job.id, &step.forward, step.tokens);
        }
        let source = &job.request.source;
        books.usage.note(kind, source, &step.forward, step.tokens);
        self.report_forward(job.id, orientation, &step.forward, step.tokens, sink)
            .await?;
        if job.request.want == RequestKind::Reading {
            let kind = EventKind::Read {
                id: job.id,
                request: job.id,
                source: job.request.source.clone(),
                tokens: step.tokens,
                mean_loss,
            };
            sink(Event {
                tick: orientation.tick,
                kind,
            });
        }
        let Stage::Reading(reading) = &job.stage else {
            return Ok(None);
        };
        // What is read in one step has nothing to tell of.
        if reading.tokens().len() > step.tokens {
            let kind = EventKind::Progress {
                request: job.id,
                read_tokens: done,
                prompt_tokens: reading.tokens().len(),
            };
            let tick = orientation.tick;
            sink(Event { tick, kind });
        }
        if !reading.is_done() {
            self.present.carried.unfinished = !job.request.unmeasured;
            return Ok(None);
        }
        self.engine.progress().end();
        self.end_reading(job, orientation)
    }

    /// Tells who looks from another thread what is to be read now.
    fn tell_reading(&self, reading: &PrefillRun, tokens: usize) {
        let (done, total) = (reading.done() as u64, reading.tokens().len() as u64);
        let progress = self.engine.progress();
        progress.step(Work::Reading, done, tokens as u64, total);
    }

    /// Everything of a job is read: the mind is told of the whole of it, and an answer can begin.
    fn end_reading(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
    ) -> Result<Option<Ended>, EngineError> {
        let Stage::Reading(reading) = &mut job.stage else {
            return Ok(None);
        };
        if !job.request.unmeasured {
            let segment = reading.segment();
            // What has no words is no episode of theirs; what was heard or seen among words cannot be read again
            // without it, so that its experts are counted and not scored.
            let words = match reading.scene() {
                None => reading.tokens(),
                Some(_) => &[],
            };
            let state = orientation.directives.state;
            if reading.scene().is_none() || !segment.mean_hidden.is_empty() {
                let episodes = &mut self.minding.dreaming.episodes;
                episodes.record(&job.request.source, state, words, reading.uses());
            }
            self.present.carried.segment = Some(segment);
            self.present.carried_source.clone_from(&job.request.source);
        }
        if job.is_told() && self.end_portion(job) {
            return Ok(None);
        }
        if job.request.want == RequestKind::Reading {
            return Ok(Some(Ended::Stop));
        }
        let Stage::Reading(reading) = &mut job.stage else {
            return Ok(None);
        };
        job.asked = reading.take_pieces().pop().map(|(_, segment)| segment);
        let logits = reading.logits(&self.engine)?;
        let answering = Answering::new(
            logits,
            self.sampling_of(job),
            self.stop_of(&job.request.stop),
            self.answer_tokens(&job.request),
        );
        job.meter
            .begin_answering(&self.engine, self.minding.books.waits_avoided);
        job.stage = Stage::Answering(answering, TextStream::default());
        Ok(None)
    }

    /// Turns that say the same are sampled apart.
    fn sampling_of(&self, job: &Job) -> Sampling {
        let sampling = job.request.sampling.unwrap_or(self.policy.sampling);
        let apart = if job.is_turn() { job.id } else { 0 };
        Sampling {
            seed: sampling.seed.wrapping_add(apart),
            ..sampling
        }
    }

    fn stop_of(&self, stop: &Stop) -> Vec<u32> {
        match stop {
            Stop::Model => self.stop.clone(),
            Stop::Never => Vec::new(),
            Stop::Tokens(tokens) => tokens.clone(),
        }
    }

    /// The cache must hold the job's own context, or nothing: a reading that was interrupted by something more
    /// urgent begins again.
    async fn prepare_context(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let name = job.context_name();
        let precision = job.request.kv.unwrap_or(self.engine.kv_precision());
        self.context.keep_in(&self.engine, precision)?;
        let chunk = job.next_tokens(self.engine.step_tokens(orientation));
        let same = self.context.is(&name);
        // A turn that came between has gone on with the conversation.
        let overtaken = job.is_turn()
            && matches!(&job.stage, Stage::Reading(reading)
                if self.context.len() + reading.left() != job.prompt_tokens);
        if !same || overtaken {
            job.begin_again();
        }
        if !same || self.context.len() + chunk > self.context.capacity() {
            self.context.truncate(0);
        }
        self.context.rename(Some(name));
        if job.is_turn() && !job.is_started() {
            self.prepare_conversation(job, sink).await?;
        }
        Ok(())
    }

    async fn report_forward(
        &mut self,
        request: u64,
        orientation: &Orientation,
        forward: &Forward,
        tokens: usize,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let stats = self.engine.mind.cache_stats().await?;
        self.minding.books.waits_avoided = stats.waits_avoided;
        let tick = orientation.tick;
        sink(Event {
            tick,
            kind: EventKind::Cache(CacheEvent {
                request: Some(request),
                hits: forward.traffic.hits,
                misses: forward.traffic.misses,
                bytes_read: forward.traffic.miss_bytes,
                resident_bytes: stats.resident_bytes,
                resident_experts: stats.resident_experts,
                capacity_bytes: stats.capacity_bytes,
            }),
        });
        if forward.denials.mass > 0.0 {
            let experts = forward.denials.count;
            sink(Event {
                tick,
                kind: EventKind::Denied {
                    request: Some(request),
                    mass: forward.denials.mass,
                    experts,
                },
            });
        }
        self.minding.books.account.step(forward, tokens);
        Ok(())
    }
}
