//! Memory limits, and the times under them.

use sage_actors::protocol::Tick;
use serde::Serialize;

/// See [`super::EventKind::Limit`].
#[derive(Clone, Debug, Serialize)]
pub struct LimitEvent {
    /// Who set it.
    pub source: String,
    /// The limit; none if there is none.
    pub limit_bytes: Option<u64>,
    /// The limit until now.
    pub limit_bytes_before: Option<u64>,
    /// What is left for experts.
    pub pool_bytes: u64,
    /// What was left for experts until now.
    pub pool_bytes_before: u64,
    /// What must be in memory.
    pub floor_bytes: u64,
    /// What the limit lacks of that; above 0 it cannot hold.
    pub lacking_bytes: u64,
}

/// A time under one limit, and the peak of the resident set in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitPeriod {
    /// The tick at whose beginning it came into force.
    pub from_tick: Tick,
    /// The limit, if there was one.
    pub limit_bytes: Option<u64>,
    /// Whether it covers what must be in memory.
    pub covers_floor: bool,
    /// Where the system's own peak rose in this time, that; else the largest resident set that was seen before and after
    /// each of its steps. It counts from when the cache had obeyed the limit.
    pub peak_rss_bytes: u64,
}

impl LimitPeriod {
    /// Whether the peak stayed within the limit.
    pub fn is_within(&self) -> bool {
        self.limit_bytes
            .is_none_or(|limit| self.peak_rss_bytes <= limit)
    }
}
