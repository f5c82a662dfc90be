//! What the loop's thread and its hosts share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use sage_actors::protocol::{State, Tick};
use tokio::sync::Notify;

use super::asks::Asks;
use super::error::ObserveError;
use super::inbox::{Bound, Inbox};
use super::ports::Action;
use super::stream::{Hub, lock};
use crate::core::core_loop::Observation;
use crate::events::{Event, RunMode};
use crate::reads::ReadCounter;

/// Bytes of a source's name at most: names are kept where texts are not.
const MOST_SOURCE_BYTES: usize = 256;

/// Where the loop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) tick: Tick,
    pub(super) state: State,
}

/// What the loop's thread and its hosts share.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    status: Mutex<Status>,
    pub(super) wake: Notify,
    pub(super) events: Hub<Event>,
    pub(super) actions: Hub<Action>,
    pub(super) mode: OnceLock<RunMode>,
    pub(super) reads: OnceLock<Arc<ReadCounter>>,
    asks: Mutex<Asks>,
    /// Every answer is spoken.
    pub(super) speaks: bool,
}

impl Shared {
    /// Before the first tick; so many events and actions may wait for a slow reader.
    pub(super) fn new(bound: Bound, (events, actions): (usize, usize), speaks: bool) -> Self {
        Self {
            inbox: Mutex::new(Inbox::new(bound)),
            status: Mutex::new(Status {
                tick: 0,
                state: State::Wake,
            }),
            wake: Notify::new(),
            events: Hub::new(events),
            actions: Hub::new(actions),
            mode: OnceLock::new(),
            reads: OnceLock::new(),
            asks: Mutex::default(),
            speaks,
        }
    }

    /// Questions whose answers somebody awaits.
    pub(super) fn asks(&self) -> MutexGuard<'_, Asks> {
        lock(&self.asks)
    }

    pub(super) fn cancel(&self, request: u64) -> bool {
        if self.inbox().cancel(request) {
            return true;
        }
        let source = "host".to_owned();
        let cancelled = self.offer(Observation::Cancel { source, request }, None);
        cancelled.is_ok()
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    pub(super) fn status(&self) -> Status {
        *lock(&self.status)
    }

    pub(super) fn tell(&self, status: Status) {
        *lock(&self.status) = status;
    }

    /// From a sensor or an effector to the waiting room. They cannot be told at the door: what is unsound is refused by the
    /// loop, with an event, and what is one too many is counted and told like any other. Nobody has to be woken, since
    /// the loop itself has asked.
    pub(super) fn offer_own(&self, observation: Observation) {
        let mut inbox = self.inbox();
        if !inbox.closed {
            let _ = inbox.offer(observation, None);
        }
    }

    /// From outside to the waiting room.
    pub(super) fn offer(
        &self,
        observation: Observation,
        answer: Option<u64>,
    ) -> Result<u64, ObserveError> {
        if let Some(problem) = observation.unsound() {
            return Err(ObserveError::Unsound(problem));
        }
        let bytes = observation.source().len();
        if bytes > MOST_SOURCE_BYTES {
            return Err(ObserveError::Unsound(format!(
                "the name of the source has {bytes} bytes; expected at most {MOST_SOURCE_BYTES}"
            )));
        }
        let mut inbox = self.inbox();
        if inbox.closed {
            return Err(ObserveError::Ended);
        }
        let offered = inbox.offer(observation, answer);
        drop(inbox);
        self.wake.notify_one();
        offered.map_err(|(id, reason)| ObserveError::Shed { id, reason })
    }
}
