//! Memory limits that change while the loop runs.

use super::conductor::CoreLoop;
use crate::core::LimitChange;
use crate::events::{Event, EventKind, LimitEvent};

impl CoreLoop {
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
