//! A session: requests in, events out.

use std::ops::{Deref, DerefMut};

use crate::core::EngineError;
use crate::core::core_loop::{Answer, Completed, CoreLoop, Observation, SpokenAnswer};
use crate::core::perception::Features;
use crate::core::request::Request;
use crate::events::{Event, EventKind, RunMode};
use crate::kernels::LIBM;

/// A model that runs with its mind: requests go in, events come out. It lives on one thread, together with its actors; a host
/// that wants it on a thread of its own takes [`super::Sage`].
pub struct Session {
    core: CoreLoop,
    mode: RunMode,
    torn_bytes: u64,
}

/// What the loop itself offers, a session offers too.
impl Deref for Session {
    type Target = CoreLoop;

    fn deref(&self) -> &CoreLoop {
        &self.core
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut CoreLoop {
        &mut self.core
    }
}

impl Session {
    pub(super) fn new(core: CoreLoop, mode: RunMode, torn_bytes: u64) -> Self {
        Self {
            core,
            mode,
            torn_bytes,
        }
    }

    /// Names of the arithmetic that runs: of products and sums, and of exponentials and logarithms.
    pub(crate) fn arithmetic(&self) -> [(&'static str, &str); 2] {
        [("kernels", self.core.engine().spec()), ("functions", LIBM)]
    }

    /// Which mode runs.
    pub fn mode(&self) -> &RunMode {
        &self.mode
    }

    /// The first event of a run.
    pub fn mode_event(&self) -> Event {
        Event {
            tick: 0,
            kind: EventKind::Mode(self.mode.clone()),
        }
    }

    /// Bytes at the end of the ledger's log that were no whole entry and are left out.
    pub fn torn_ledger_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Ends a request with what there is of its answer, at the next tick.
    pub fn cancel(&mut self, request: u64) {
        let source = String::new();
        self.core.submit(Observation::Cancel { source, request });
    }

    /// Answers one request to its end, and speaks it where it asks for that; `sink` hears of every event and may call for a
    /// halt: then the request is cancelled.
    ///
    /// # Errors
    /// Why it was refused, an expert that cannot be read, an actor that failed.
    pub async fn answer(
        &mut self,
        request: Request,
        decoded: Option<Features>,
        sink: &mut dyn FnMut(Event) -> bool,
    ) -> Result<(Answer, Option<SpokenAnswer>), EngineError> {
        let id = self.core.submit_sensed(request, decoded);
        let (mut answer, mut spoken) = (None, None);
        let mut halted = false;
        while answer.is_none() || self.core.is_answering() {
            let mut go_on = true;
            let completed = self.core.tick(&mut |event| go_on &= sink(event)).await?;
            let Completed {
                answers,
                spoken: said,
            } = completed;
            answer = answer.or(answers.into_iter().find(|answer| answer.id == id));
            spoken = spoken.or(said.into_iter().find(|spoken| spoken.id == id));
            if let Some(refusal) = self.core.take_refused().into_iter().next() {
                return Err(refusal.error);
            }
            if !go_on && !halted {
                halted = true;
                self.cancel(id);
            }
        }
        // The loop above ends with an answer.
        answer
            .map(|answer| (answer, spoken))
            .ok_or(EngineError::EmptyPrompt)
    }

    /// Ends the session: the recording, if there is one, is whole, and what was learned is kept. The actors end whatever fails.
    ///
    /// # Errors
    /// When the recording or the ledger cannot be written.
    pub async fn close(mut self) -> Result<(), EngineError> {
        let recorded = self.core.end_recording();
        let kept = self.core.flush_ledger().await;
        self.core.shutdown().await;
        recorded.and(kept)
    }

    /// Ends a session whose run failed: of what was learned the ledger's log keeps what it has.
    pub async fn abort(self) {
        self.core.shutdown().await;
    }
}
