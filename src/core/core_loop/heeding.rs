//! Whom the loop heeds, and how far it reads before it does.

use super::conductor::CoreLoop;
use super::heed::{HEARD_WITHIN_TOKENS, Heed};
use super::job::Job;
use crate::core::request::RequestKind;
use crate::trace::TraceRecord;

impl CoreLoop {
    /// From now on the loop interrupts what it reads for what `heed` knows of.
    pub fn heed(&mut self, heed: Box<dyn Heed>) {
        self.outside.heeding.to = Some(heed);
    }

    /// Tokens that the next chunk of `job`, which could have `most`, may have.
    pub(super) fn heeded_tokens(&self, job: &Job, most: usize) -> usize {
        let (Some(heed), tick) = (&self.outside.heeding.to, self.engine.tick()) else {
            return most;
        };
        if job.request.want == RequestKind::AlarmAnswer {
            return most;
        }
        let until = heed.due(tick).map(|due| due.saturating_sub(tick) as usize);
        match until.filter(|until| *until > 0 && until + HEARD_WITHIN_TOKENS < most) {
            Some(tokens) => {
                if let Some(tape) = &self.outside.tape {
                    tape.put(&TraceRecord::Cut { tick, tokens });
                }
                tokens
            }
            None => most,
        }
    }
}
