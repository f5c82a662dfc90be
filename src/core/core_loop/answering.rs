//! The end of a request: its answer is complete, or will not be.

use super::conductor::CoreLoop;
use super::job::{Job, Stage};
use super::meter::RequestCost;
use crate::core::EngineError;
use crate::core::request::Want;
use crate::core::speech::{SpeechEnded, Spoken};
use crate::events::{Ended, Event, EventKind};

/// An answer that the loop gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of [`CoreLoop::submit`].
    pub id: u64,
    /// Who asked.
    pub source: String,
    /// What it answers.
    pub want: Want,
    /// The question.
    pub question: String,
    /// The answer.
    pub text: String,
    /// Its tokens, stop tokens not included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub ended: Ended,
    /// What it took.
    pub cost: RequestCost,
    /// Tokens of the whole prompt, and of it what the context held already.
    pub prompt_tokens: usize,
}

/// An answer that was spoken.
#[derive(Clone, Debug)]
pub struct SpokenAnswer {
    /// Of [`CoreLoop::submit`].
    pub id: u64,
    /// What was spoken, and what it took.
    pub spoken: Spoken,
}

/// What was completed in a tick.
#[derive(Clone, Debug, Default)]
pub struct Completed {
    /// Answers in words.
    pub answers: Vec<Answer>,
    /// Answers that were spoken to their end.
    pub spoken: Vec<SpokenAnswer>,
}

impl CoreLoop {
    /// A request is done, or given up: a text without an event, an answer with its words, speech with its last sound. A request
    /// that is to be spoken goes on once it is answered.
    ///
    /// # Errors
    /// When the tokenizer refuses, or the end of the speech cannot be made.
    pub(super) fn end(
        &mut self,
        job: Job,
        ended: Ended,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<(), EngineError> {
        if !job.is_request() {
            return Ok(());
        }
        if job.speaking().is_some() {
            let ended = match ended {
                Ended::Interrupted => SpeechEnded::Interrupted,
                _ => SpeechEnded::Depletion,
            };
            return self.fall_silent(job, ended, completed, sink);
        }
        let mut job = self.finish(job, ended, completed, sink)?;
        if ended.is_whole() && self.begin_speech(&mut job)? {
            self.queue.jobs.push_front(job);
        }
        Ok(())
    }

    /// Tells the answer as far as there is one.
    fn finish(
        &mut self,
        mut job: Job,
        ended: Ended,
        completed: &mut Completed,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Job, EngineError> {
        let mut tokens = Vec::new();
        if let Stage::Answering(answering, stream) = &mut job.stage {
            if let Some(text) = &self.text {
                job.answer.push_str(&stream.finish(text)?);
            }
            tokens.clone_from(&answering.tokens);
        }
        if job.is_turn() {
            self.conversation.add(&job.text, &job.answer);
        }
        let waits_avoided = self.minding.books.waits_avoided;
        let answer = Answer {
            id: job.id,
            source: job.request.source.clone(),
            want: job.want(),
            question: job.text.clone(),
            text: job.answer.trim().to_owned(),
            ended,
            cost: job.meter.cost(&self.engine, tokens.len(), waits_avoided),
            prompt_tokens: job.prompt_tokens,
            tokens,
        };
        sink(Event {
            tick: self.engine.tick(),
            kind: EventKind::Answer {
                id: answer.id,
                request: answer.id,
                question: answer.question.clone(),
                text: answer.text.clone(),
                tokens: answer.tokens.len(),
                ended,
            },
        });
        completed.answers.push(answer);
        Ok(job)
    }
}
