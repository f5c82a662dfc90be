//! What waits in the loop: how it gets in, how much it is, and how it is given up.

use std::collections::VecDeque;

use super::job::{Job, Want};
use super::perceive::Percept;
use super::{Answer, CoreLoop, Observation};
use crate::core::EngineError;
use crate::events::Ended;
use crate::events::Event;

/// What was submitted and is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Observations that the next tick takes.
    pub inbox: usize,
    /// Texts that are not read to their end.
    pub texts: usize,
    /// Questions and turns that are not answered.
    pub questions: usize,
    /// Alarms that are not answered.
    pub alarms: usize,
    /// Bytes of the texts of all three, and of the files that they came with.
    pub bytes: usize,
}

/// What was given up.
#[derive(Clone, Debug, Default)]
pub struct Abandoned {
    /// Requests, as far as they were answered.
    pub answers: Vec<Answer>,
    /// Texts, sounds and pictures that were not read to their end: number, kind and source.
    pub unread: Vec<(u64, &'static str, String)>,
}

impl CoreLoop {
    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.jobs.is_empty()
    }

    /// Whether an answer is being given: some of its words may be out already.
    pub fn is_answering(&self) -> bool {
        self.jobs.iter().any(Job::is_answering)
    }

    /// What was submitted and is not done.
    pub fn waiting(&self) -> Waiting {
        let mut waiting = Waiting {
            inbox: self.inbox.len(),
            ..Waiting::default()
        };
        for job in &self.jobs {
            let files = job.percept.as_ref().map_or(0, Percept::file_bytes);
            waiting.bytes += job.text.len() + files;
            *(match job.want {
                Want::Nothing => &mut waiting.texts,
                Want::Answer => &mut waiting.questions,
                Want::AlarmAnswer => &mut waiting.alarms,
            }) += 1;
        }
        waiting
    }

    /// Hands an observation to the next tick; returns its number.
    pub fn submit(&mut self, observation: Observation) -> u64 {
        let id = self.next_id;
        self.submit_as(id, observation);
        id
    }

    /// As [`CoreLoop::submit`], under a number that the host has given it; no two may have the same.
    pub fn submit_as(&mut self, id: u64, observation: Observation) {
        self.next_id = self.next_id.max(id.saturating_add(1));
        self.record_input(id, &observation);
        self.inbox.push_back((id, observation));
    }

    /// Gives up everything that waits or is under way. Every request ends with an answer that says so.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn abandon(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Abandoned, EngineError> {
        let answers = self.break_off(Job::is_request, sink)?;
        let unread = self.jobs.drain(..);
        let unread = unread.map(|job| (job.id, job.kind(), job.source));
        Ok(Abandoned {
            answers,
            unread: unread.collect(),
        })
    }

    fn break_off(
        &mut self,
        which: impl FnMut(&Job) -> bool,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Vec<Answer>, EngineError> {
        let (broken, kept): (VecDeque<Job>, VecDeque<Job>) = self.jobs.drain(..).partition(which);
        self.jobs = kept;
        let answers = broken.into_iter();
        answers
            .map(|job| self.finish(job, Ended::Interrupted, sink))
            .collect()
    }
}
