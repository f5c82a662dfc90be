//! What waits in the loop: how it gets in, how much it is, and how it is given up.

use std::collections::VecDeque;

use super::answer::{Answer, Completed};
use super::job::Job;
use super::observation::Observation;
use crate::core::EngineError;
use crate::core::perception::Features;
use crate::core::request::RequestKind;

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
    /// Requests, as far as they were answered and spoken.
    pub completed: Completed,
    /// Texts, sounds and pictures that were not read to their end: number, kind and source.
    pub unread: Vec<(u64, &'static str, String)>,
}

impl Abandoned {
    /// Requests, as far as they were answered.
    pub fn answers(&self) -> &[Answer] {
        &self.completed.answers
    }
}

/// An observation that could not be taken.
#[derive(Debug)]
pub struct Refusal {
    /// Its number.
    pub id: u64,
    /// Why.
    pub error: EngineError,
}

/// One that the next tick takes.
pub(super) struct Submitted {
    pub(super) id: u64,
    pub(super) observation: Observation,
    /// Its sounds and pictures, where they are decoded already.
    pub(super) decoded: Option<Features>,
}

/// Everything that waits.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) inbox: VecDeque<Submitted>,
    /// In the order that they are served in.
    pub(super) jobs: VecDeque<Job>,
    /// What the last tick could not take.
    pub(super) refused: Vec<Refusal>,
    pub(super) next_id: u64,
}

impl Queue {
    /// Puts a job behind everything of the same or greater urgency of kind; what is under way is not interrupted in an answer.
    pub(super) fn enqueue(&mut self, job: Job) {
        let at = self
            .jobs
            .iter()
            .position(|other| other.want() < job.want() && !other.is_answering());
        self.jobs.insert(at.unwrap_or(self.jobs.len()), job);
    }

    /// Takes the jobs out for which `which` holds.
    pub(super) fn take_out(&mut self, which: impl FnMut(&Job) -> bool) -> VecDeque<Job> {
        let (out, kept): (VecDeque<Job>, VecDeque<Job>) = self.jobs.drain(..).partition(which);
        self.jobs = kept;
        out
    }

    /// What was submitted and is not done.
    pub(super) fn waiting(&self) -> Waiting {
        let mut waiting = Waiting {
            inbox: self.inbox.len(),
            ..Waiting::default()
        };
        for job in &self.jobs {
            waiting.bytes += job.request.content.len_bytes();
            *(match job.want() {
                RequestKind::Reading => &mut waiting.texts,
                RequestKind::Answer => &mut waiting.questions,
                RequestKind::AlarmAnswer => &mut waiting.alarms,
            }) += 1;
        }
        waiting
    }
}
