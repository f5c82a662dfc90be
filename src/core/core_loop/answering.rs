//! The end of a request: its answer is complete, or will not be.

use super::answer::{Answer, Completed};
use super::conductor::CoreLoop;
use super::job::{Job, Stage};
use crate::core::EngineError;
use crate::core::speech::SpeechEnded;
use crate::events::{Ended, Event, EventKind};

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
        if !ended.is_whole() || job.request.voice.is_none() {
            return Ok(());
        }
        match self.begin_speech(&mut job)? {
            true => self.queue.jobs.push_front(job),
            false => self.stay_silent(&job, sink),
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
                let held = stream.finish(text)?;
                job.answer.push_str(&held);
                // Whoever joins the pieces has the answer; before version 3 of the format the last one was left out.
                let tape = self.outside.tape.as_ref();
                if !held.is_empty() && tape.is_none_or(|tape| tape.schema() >= 3) {
                    sink(Event {
                        tick: self.engine.tick(),
                        kind: EventKind::Token {
                            request: job.id,
                            text: held,
                        },
                    });
                }
            }
            tokens.clone_from(&answering.tokens);
        }
        if job.is_turn() {
            self.end_turn(&mut job)?;
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
