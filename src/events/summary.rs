//! What a run took in all.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DreamEvent, LimitPeriod};
use crate::reads::ReadBytes;

/// What one state did, in all.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StateSummary {
    /// Ticks spent in it.
    pub ticks: u64,
    /// Tokens read and generated.
    pub tokens: u64,
    /// Tokens a second of the time that steps took.
    pub tokens_per_second: f64,
    /// Share of leased experts that were resident.
    pub hit_rate: f64,
    /// Logical bytes missed per token.
    pub bytes_per_token: f64,
    /// Mean loss of the text read, nats a token; none where nothing was read.
    pub mean_loss: Option<f64>,
    /// Experts a token.
    pub k: u16,
}

/// See [`super::EventKind::Summary`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The limit, if there is one; where it changed, the widest.
    pub limit_bytes: Option<u64>,
    /// Peak of the resident set, as the system counts it.
    pub peak_rss_bytes: u64,
    /// The limits that were in force one after the other.
    pub limits: Vec<LimitPeriod>,
    /// Logical bytes of all misses, and of towers: what the steps asked for. It is the same in every run of the same inputs.
    pub bytes_read: u64,
    /// What was read from disk in all, by purpose; it depends on the moment.
    pub read_bytes: ReadBytes,
    /// What the kernel says that storage delivered for this process; none where it does not say.
    pub kernel_read_bytes: Option<u64>,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Misses whose expert had been read ahead.
    pub waits_avoided: u64,
    /// What Rest and Dream did; none of it is in the figures above.
    pub dreamt: DreamEvent,
    /// Mean loss of all text read, nats a token.
    pub mean_loss: Option<f64>,
    /// States that were entered.
    pub states: BTreeMap<String, StateSummary>,
    /// Expectations that came true.
    pub expectations_met: usize,
    /// Expectations that did not.
    pub expectations_failed: usize,
}
