//! What is urgent does not wait for the end of a chunk.
//!
//! Where it is known when something urgent comes (a script says so), a chunk that would end more than 8 tokens after it ends
//! with it. Where it comes by itself, the chunk that is being read is given up between two layers: none of its tokens
//! counts as read, one tick passes, and the next one hears what came. Both are recorded, for no input says when they were.

use sage_actors::protocol::Tick;

use crate::core::request::RequestKind;
use crate::trace::{Tape, TraceRecord};

/// An alarm is heard after so many tokens at the latest.
pub const HEARD_WITHIN_TOKENS: usize = 8;

/// Who knows of what is urgent before it reaches the loop.
pub trait Heed: Send {
    /// When the next of it comes, where that is known; later than `tick`, which is now.
    fn due(&self, tick: Tick) -> Option<Tick>;

    /// Whether it waits now; asked before every layer of a chunk.
    fn waits(&self) -> bool;
}

/// Whom the loop heeds.
#[derive(Default)]
pub(super) struct Heeding {
    pub(super) to: Option<Box<dyn Heed>>,
    /// The chunk before was given up: this one is not, so that what comes without end cannot keep the loop from reading.
    gave_up: bool,
}

impl Heeding {
    /// What asks, before every layer of a chunk of `tokens` of a job, whether it is to be given up.
    pub(super) fn interrupt<'a>(
        &'a mut self,
        want: RequestKind,
        tokens: usize,
        tick: Tick,
        tape: Option<&'a Tape>,
    ) -> impl FnMut(usize) -> bool + 'a {
        let before = std::mem::take(&mut self.gave_up);
        let deaf = before || want == RequestKind::AlarmAnswer || tokens <= HEARD_WITHIN_TOKENS;
        move |layer| {
            if deaf || !self.to.as_ref().is_some_and(|heed| heed.waits()) {
                return false;
            }
            if let Some(tape) = tape {
                tape.put(&TraceRecord::GivenUp { tick, layer });
            }
            self.gave_up = true;
            true
        }
    }
}
