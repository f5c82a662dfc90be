//! One step of the first job: a chunk read, or a token of an answer.

use super::job::{Job, Stage, Want};
use super::{Answer, CoreLoop};
use crate::core::reading::{Answering, GENERATED_SEGMENT_TOKENS, Reading};
use crate::core::sampling::Sampling;
use crate::core::{EngineError, Forward, Orientation};
use crate::events::Ended;
use crate::events::{CacheEvent, Event, EventKind};
use crate::text::Stream;

/// Turns that say the same are sampled apart.
fn sampling_of(sampling: Sampling, turn: bool, id: u64) -> Sampling {
    let seed = sampling.seed.wrapping_add(if turn { id } else { 0 });
    Sampling { seed, ..sampling }
}

impl CoreLoop {
    /// One step of a job; tells when it is done.
    pub(super) async fn step(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Ended>, EngineError> {
        self.prepare_context(job, orientation, sink)?;
        let state = orientation.directives.state;
        self.enter_domain(&job.source, state).await?;
        let hidden = self.engine.thinker.config.hidden_size;
        let kind = job.kind();
        match &mut job.stage {
            Stage::Waiting(tokens) => {
                let tokens = std::mem::take(tokens);
                let scene = self.perceive(job, &tokens, orientation, sink)?;
                job.stage = Stage::Reading(Reading::of_scene(tokens, scene, hidden, true));
                Box::pin(self.step(job, orientation, sink)).await
            }
            Stage::Reading(_) => self.read(job, orientation, sink).await,
            Stage::Answering(answering, stream) => {
                let step = answering
                    .step(&mut self.engine, &mut self.kv, orientation)
                    .await?;
                let ended = answering.ended;
                if let Some(token) = step.token {
                    let shown = stream.push(&self.text, token)?;
                    job.answer.push_str(&shown);
                    sink(Event {
                        tick: orientation.tick,
                        kind: EventKind::Token { text: shown },
                    });
                }
                self.carried.last_token = Some(step.measure);
                if let Some(forward) = &step.forward {
                    self.held.extend(step.token);
                    self.recall.work(job.id, forward, 1);
                    self.own.add(forward, &[step.measure], None);
                    self.own_uses.add(forward, 1);
                    if self.own.rows() >= GENERATED_SEGMENT_TOKENS {
                        self.carried.segment = Some(self.own.take());
                        let uses = std::mem::take(&mut self.own_uses);
                        let episodes = &mut self.dreaming.episodes;
                        episodes.record(&job.source, state, &[], &uses);
                        self.carried_source.clone_from(&job.source);
                    }
                    self.usage.note(kind, &job.source, forward, 1);
                    self.report_forward(orientation, forward, 1, sink).await?;
                }
                Ok(ended)
            }
        }
    }

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
        let Stage::Reading(reading) = &mut job.stage else {
            return Ok(None);
        };
        let step = {
            let (tick, tape) = (orientation.tick, self.tape.as_ref());
            let interrupt = &mut self.heeding.interrupt(job.want, tokens, tick, tape);
            let (engine, kv) = (&mut self.engine, &mut self.kv);
            let step = reading.step_of(tokens, engine, kv, orientation, interrupt);
            step.await?
        };
        if step.forward.given_up {
            self.carried.unfinished = true;
            self.engine.idle(1);
            self.report_forward(orientation, &step.forward, 0, sink)
                .await?;
            return Ok(None);
        }
        self.account.read(&step.measures);
        if job.want != Want::Nothing {
            self.recall.work(job.id, &step.forward, step.tokens);
        }
        let mean_loss = reading.mean_loss();
        self.usage
            .note(kind, &job.source, &step.forward, step.tokens);
        self.report_forward(orientation, &step.forward, step.tokens, sink)
            .await?;
        if job.want == Want::Nothing {
            let kind = EventKind::Read {
                id: job.id,
                source: job.source.clone(),
                tokens: step.tokens,
                mean_loss,
            };
            sink(Event {
                tick: orientation.tick,
                kind,
            });
        }
        if !reading.is_done() {
            self.carried.unfinished = true;
            return Ok(None);
        }
        let segment = reading.segment();
        // What has no words is no episode of theirs; what was heard or seen among words cannot be read again
        // without it, so that its experts are counted and not scored.
        let words = match reading.scene() {
            None => reading.tokens(),
            Some(_) => &[],
        };
        let state = orientation.directives.state;
        if reading.scene().is_none() || !segment.mean_hidden.is_empty() {
            let episodes = &mut self.dreaming.episodes;
            episodes.record(&job.source, state, words, reading.uses());
        }
        self.carried.segment = Some(segment);
        self.carried_source.clone_from(&job.source);
        let sampling = sampling_of(self.sampling, job.turn, job.id);
        if job.want == Want::Nothing {
            return Ok(Some(Ended::Stop));
        }
        let logits = reading.logits(&mut self.engine);
        let stop = self.stop.clone();
        job.stage = Stage::Answering(
            Answering::new(logits, sampling, stop, self.answer_tokens),
            Stream::default(),
        );
        Ok(None)
    }

    /// The cache must hold the job's own context, or nothing: a reading that was interrupted by something more
    /// urgent begins again.
    fn prepare_context(
        &mut self,
        job: &mut Job,
        orientation: &Orientation,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let name = job.context_name();
        let chunk = job.next_tokens(self.engine.step_tokens(orientation));
        let same = self.context.as_deref() == Some(name.as_str());
        if !same {
            job.begin_again();
        }
        if !same || self.kv.len() + chunk > self.kv.capacity() {
            self.kv.truncate(0);
        }
        self.context = Some(name);
        if job.turn && !job.is_started() {
            self.prepare_turn(job, sink)?;
        }
        Ok(())
    }

    async fn report_forward(
        &mut self,
        orientation: &Orientation,
        forward: &Forward,
        tokens: usize,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        let stats = self.engine.mind.cache_stats().await?;
        let tick = orientation.tick;
        sink(Event {
            tick,
            kind: EventKind::Cache(CacheEvent {
                hits: forward.hits,
                misses: forward.misses,
                bytes_read: forward.miss_bytes,
                resident_bytes: stats.resident_bytes,
                resident_experts: stats.resident_experts,
                capacity_bytes: stats.capacity_bytes,
            }),
        });
        if forward.denied_mass > 0.0 {
            let experts = forward.denied_count;
            sink(Event {
                tick,
                kind: EventKind::Denied {
                    mass: forward.denied_mass,
                    experts,
                },
            });
        }
        self.account.step(forward, tokens);
        Ok(())
    }

    pub(super) fn complete(
        &mut self,
        job: Job,
        ended: Ended,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<Answer>, EngineError> {
        if job.want == Want::Nothing {
            Ok(None)
        } else {
            self.finish(job, ended, sink).map(Some)
        }
    }

    pub(super) fn finish(
        &mut self,
        mut job: Job,
        ended: Ended,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Answer, EngineError> {
        let mut tokens = 0;
        if let Stage::Answering(answering, stream) = &mut job.stage {
            job.answer.push_str(&stream.finish(&self.text)?);
            tokens = answering.tokens.len();
        }
        if job.turn {
            self.conversation.add(&job.text, &job.answer);
        }
        let answer = Answer {
            id: job.id,
            source: job.source,
            question: job.text,
            text: job.answer.trim().to_owned(),
            ended,
        };
        sink(Event {
            tick: self.engine.tick(),
            kind: EventKind::Answer {
                id: answer.id,
                question: answer.question.clone(),
                text: answer.text.clone(),
                tokens,
                ended,
            },
        });
        Ok(answer)
    }
}
