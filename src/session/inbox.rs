//! What waits before the loop sees it, with a bound; and who must go when more comes than can be taken.
//!
//! Everything that waits counts, here and unread in the loop itself. Who goes first: facts about the limit never (a newer
//! one takes the place of an older one); feedback, goals and alarms last; of the rest the least urgent, then texts
//! before readings before questions, then those whose source was least salient of late, then the youngest, but of
//! readings the oldest. No part of this is random or knows a clock.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::counts::{ObservationCounts, Tally};
use super::running::Running;
use crate::core::core_loop::{Observation, Waiting};
use crate::core::request::RequestKind;
use crate::events::ShedReason;

/// Observations that are told one by one between two ticks; the counters know all of them.
const MOST_NOTES: usize = 1024;

/// Texts, and questions, that the loop holds at most: enough that it never waits, few enough that what waits can still go.
const MOST_HELD: usize = 8;

/// An observation takes this much beyond its words.
const BYTES_BESIDE_WORDS: usize = 128;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) observations: usize,
    pub(super) bytes: usize,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) observation: Observation,
    /// Of feedback: on which answer, if that was said.
    pub(super) answer: Option<u64>,
    salience: f32,
}

impl Waiter {
    fn bytes(&self) -> usize {
        let source = self.observation.source();
        self.observation.len_bytes() + source.len() + BYTES_BESIDE_WORDS
    }

    /// Class and rank of its kind.
    fn kind(&self) -> (u8, u8) {
        match &self.observation {
            Observation::Request(request) => match request.want {
                RequestKind::Reading => (0, 0),
                RequestKind::Answer => (0, 2),
                RequestKind::AlarmAnswer => (1, 2),
            },
            Observation::Sensor(_) => (0, 1),
            Observation::Feedback(_) => (1, 0),
            Observation::Goal { .. } => (1, 1),
            Observation::Cancel { .. } | Observation::Forget { .. } => (1, 3),
            Observation::Limit { .. } => (2, 0),
        }
    }

    fn is_cancellation(&self) -> bool {
        matches!(self.observation, Observation::Cancel { .. })
    }

    /// The lesser goes first.
    fn order(&self, other: &Self) -> Ordering {
        let ((class, rank), (other_class, other_rank)) = (self.kind(), other.kind());
        let (urgency, other_urgency) = (self.observation.urgency(), other.observation.urgency());
        let older = other.id.cmp(&self.id);
        let of_age = if matches!(self.observation, Observation::Sensor(_)) {
            older.reverse()
        } else {
            older
        };
        class
            .cmp(&other_class)
            .then(urgency.total_cmp(&other_urgency))
            .then(rank.cmp(&other_rank))
            .then(self.salience.total_cmp(&other.salience))
            .then(of_age)
    }
}

/// One that was shed and is not told yet.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) kind: &'static str,
    pub(super) source: String,
    pub(super) urgency: f32,
    pub(super) reason: ShedReason,
    /// It asks for an answer.
    pub(super) is_request: bool,
    /// It is read, whether it is answered or not.
    pub(super) is_read: bool,
}

fn in_the_loop(held: &Waiting) -> usize {
    held.inbox + held.texts + held.questions + held.alarms
}

/// The waiting room.
#[derive(Debug)]
pub(super) struct Inbox {
    bound: Bound,
    waiting: VecDeque<Waiter>,
    bytes: usize,
    held: Waiting,
    next_id: u64,
    tally: Tally,
    notes: Vec<Note>,
    /// Shed ones that there was no room to note.
    unnoted: u64,
    pub(super) running: Running,
    pub(super) closed: bool,
}

impl Inbox {
    pub(super) fn new(bound: Bound) -> Self {
        Self {
            bound,
            waiting: VecDeque::new(),
            bytes: 0,
            held: Waiting::default(),
            next_id: 0,
            tally: Tally::default(),
            notes: Vec::new(),
            unnoted: 0,
            running: Running::default(),
            closed: false,
        }
    }

    /// Takes an observation on, or sheds it; the number of one that is taken on.
    pub(super) fn offer(
        &mut self,
        observation: Observation,
        answer: Option<u64>,
    ) -> Result<u64, (u64, ShedReason)> {
        let id = self.next_id;
        self.next_id += 1;
        self.tally.submitted += 1;
        let salience = self.running.of(observation.source());
        let waiter = Waiter {
            id,
            observation,
            answer,
            salience,
        };
        match self.make_room(&waiter) {
            Some(reason) => {
                self.shed(&waiter, reason);
                Err((id, reason))
            }
            None => {
                self.bytes += waiter.bytes();
                self.waiting.push_back(waiter);
                Ok(id)
            }
        }
    }

    /// Which bound `more` observations of `bytes` in all would break.
    fn broken(&self, more: usize, fewer: usize, bytes: usize) -> Option<ShedReason> {
        let held = in_the_loop(&self.held);
        // A cancellation makes room; it takes none.
        let waiting = self.waiting.len() - self.cancellations();
        if waiting + held + more > self.bound.observations + fewer {
            Some(ShedReason::Full)
        } else if bytes > self.bound.bytes {
            Some(ShedReason::Bytes)
        } else {
            None
        }
    }

    /// Cancellations that wait.
    fn cancellations(&self) -> usize {
        let waiting = self.waiting.iter();
        waiting.filter(|waiter| waiter.is_cancellation()).count()
    }

    /// Lets the least go until there is room; if everything that waits matters more, nothing goes, and what bound was met
    /// is returned.
    fn make_room(&mut self, newcomer: &Waiter) -> Option<ShedReason> {
        if newcomer.is_cancellation() {
            let full = self.cancellations() >= self.bound.observations;
            return full.then_some(ShedReason::Full);
        }
        let mut bytes = self.bytes + self.held.bytes + newcomer.bytes();
        let mut broken = self.broken(1, 0, bytes)?;
        let mut lesser: Vec<usize> = (0..self.waiting.len())
            .filter(|at| !self.waiting[*at].is_cancellation())
            .filter(|at| self.waiting[*at].order(newcomer).is_lt())
            .collect();
        lesser.sort_by(|a, b| self.waiting[*a].order(&self.waiting[*b]));
        let mut leaving = 0;
        for at in &lesser {
            leaving += 1;
            bytes -= self.waiting[*at].bytes();
            match self.broken(1, leaving, bytes) {
                Some(still) => broken = still,
                None => {
                    let mut gone = lesser[..leaving].to_vec();
                    gone.sort_unstable();
                    for at in gone.into_iter().rev() {
                        self.remove(at, ShedReason::Displaced);
                    }
                    return None;
                }
            }
        }
        if !matches!(newcomer.observation, Observation::Limit { .. }) {
            return Some(broken);
        }
        // A fact is true whether there is room or not; only the newest still is.
        let is_limit = |waiter: &Waiter| matches!(waiter.observation, Observation::Limit { .. });
        if let Some(at) = self.waiting.iter().position(is_limit) {
            self.remove(at, ShedReason::Superseded);
        }
        None
    }

    fn remove(&mut self, at: usize, reason: ShedReason) {
        if let Some(waiter) = self.waiting.remove(at) {
            self.bytes -= waiter.bytes();
            self.shed(&waiter, reason);
        }
    }

    fn shed(&mut self, waiter: &Waiter, reason: ShedReason) {
        let source = waiter.observation.source();
        self.tally.shed(reason, source);
        if self.notes.len() == MOST_NOTES {
            self.unnoted += 1;
            return;
        }
        self.notes.push(Note {
            id: waiter.id,
            kind: waiter.observation.kind(),
            source: source.to_owned(),
            urgency: waiter.observation.urgency(),
            reason,
            is_request: waiter.observation.is_request(),
            is_read: waiter.observation.request().is_some(),
        });
    }

    /// Lets one go that waits and is no longer wanted; whether it did wait.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        let at = self.waiting.iter().position(|waiter| waiter.id == id);
        if let Some(at) = at {
            self.remove(at, ShedReason::Cancelled);
        }
        at.is_some()
    }

    /// What the next tick is given, in order of arrival: everything that it takes at once, one feedback (each is for a tick
    /// of its own), and of what it has to read as much as it may hold, the most urgent first.
    pub(super) fn take(&mut self) -> Vec<Waiter> {
        let most = (self.bound.observations / 4).clamp(1, MOST_HELD);
        let texts = most.saturating_sub(self.held.texts);
        let questions = most.saturating_sub(self.held.questions);
        let mut chosen = self.most_urgent(texts, |waiter| waiter.kind() == (0, 0));
        chosen.extend(self.most_urgent(questions, |waiter| waiter.kind() == (0, 2)));
        chosen.extend(self.most_urgent(1, |waiter| waiter.kind() == (1, 0)));
        let at_once = |waiter: &Waiter| !matches!(waiter.kind(), (0, 0 | 2) | (1, 0));
        chosen.extend((0..self.waiting.len()).filter(|at| at_once(&self.waiting[*at])));
        chosen.sort_unstable();
        let mut taken = Vec::with_capacity(chosen.len());
        for at in chosen.into_iter().rev() {
            taken.extend(self.waiting.remove(at));
        }
        taken.reverse();
        let bytes = taken.iter().map(Waiter::bytes).sum::<usize>();
        self.bytes -= bytes;
        // Until the tick says what it holds of them.
        self.held.inbox += taken.len();
        self.held.bytes += bytes;
        self.tally.taken += taken.len() as u64;
        taken
    }

    fn most_urgent(&self, count: usize, which: impl Fn(&Waiter) -> bool) -> Vec<usize> {
        let urgency = |at: &usize| self.waiting[*at].observation.urgency();
        let mut found: Vec<usize> = (0..self.waiting.len())
            .filter(|at| which(&self.waiting[*at]))
            .collect();
        // The sort is stable: of equals the oldest.
        found.sort_by(|a, b| urgency(b).total_cmp(&urgency(a)));
        found.truncate(count);
        found
    }

    /// What the loop holds now.
    pub(super) fn hold(&mut self, held: Waiting) {
        self.held = held;
    }

    /// Counts an observation that was taken and then refused.
    pub(super) fn refused(&mut self) {
        self.tally.refused += 1;
    }

    /// What was shed since it was last asked, and how many beyond that.
    pub(super) fn take_notes(&mut self) -> (Vec<Note>, u64) {
        (
            std::mem::take(&mut self.notes),
            std::mem::take(&mut self.unnoted),
        )
    }

    /// Takes no more, and sheds what waits.
    pub(super) fn close(&mut self) {
        self.closed = true;
        while let Some(waiter) = self.waiting.pop_front() {
            self.shed(&waiter, ShedReason::Shutdown);
        }
        self.bytes = 0;
    }

    /// Whether nothing waits, here or in the loop.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held == Waiting::default()
    }

    /// Whether something waits that does not wait for the end of a chunk.
    pub(super) fn is_urgent(&self) -> bool {
        let mut waiting = self.waiting.iter();
        waiting.any(|waiter| waiter.observation.is_urgent())
    }

    pub(super) fn counts(&self) -> ObservationCounts {
        let held = in_the_loop(&self.held) as u64;
        self.tally.counts(self.waiting.len() as u64, held)
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
