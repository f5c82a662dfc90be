//! Memory limits that change while the loop runs.

use super::conductor::CoreLoop;
use crate::core::{Limit, LimitChange, LimitError};
use crate::events::{Event, EventKind, LimitEvent};

impl CoreLoop {
    /// Another limit from the next tick on, at the wish of `source`. (What is no wish is an
    /// [`super::Observation::Limit`].)
    ///
    /// # Errors
    /// [`LimitError`] with the number that would do; nothing changes then.
    pub fn set_limit(
        &mut self,
        source: &str,
        limit: Limit,
        sink: &mut dyn FnMut(Event),
    ) -> Result<LimitChange, LimitError> {
        let change = self.engine.set_limit(limit)?;
        self.report_limit(source.to_owned(), change, sink);
        Ok(change)
    }

    pub(super) fn report_limit(
        &self,
        source: String,
        change: LimitChange,
        sink: &mut dyn FnMut(Event),
    ) {
        let LimitChange { before, after } = change;
        sink(Event {
            tick: self.engine.tick(),
            kind: EventKind::Limit(LimitEvent {
                source,
                limit_bytes: after.limit_bytes,
                limit_bytes_before: before.limit_bytes,
                pool_bytes: after.pool_bytes,
                pool_bytes_before: before.pool_bytes,
                floor_bytes: after.floor.total(),
                lacking_bytes: after.shortfall_bytes(),
            }),
        });
    }
}
