//! Leases of experts, and what the cache asks of the body.

use serde::{Deserialize, Serialize};

use super::ids::{ExpertKey, ExpertSet, LayerKey, LeaseId, Phase, SlotId, Tick};

/// One expert that a layer needs, and by how many of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Number of the expert in its layer.
    pub expert: u16,
    /// Tokens of this step that use it (at least 1).
    pub tokens: u32,
}

/// Asks the cache for a window of experts of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Of the step.
    pub tick: Tick,
    /// Prefill or decode (only decode counts against the byte cap).
    pub phase: Phase,
    /// Layer whose experts are asked for.
    pub layer: LayerKey,
    /// Tokens of the step (1 in decode).
    pub tokens: u32,
    /// Distinct experts, at most the window.
    pub uses: Vec<Use>,
    /// Experts of the same layer that later windows of the step will ask for: they leave last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upcoming: Vec<u16>,
    /// The layer that runs next, whose residency the answer carries.
    pub next_layer: LayerKey,
}

/// One expert of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedExpert {
    /// Number of the expert in its layer.
    pub expert: u16,
    /// Where it is or will be.
    pub slot: SlotId,
    /// It was resident before this request.
    pub hit: bool,
}

/// Which experts of a layer are resident, and what may still be missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// Experts in the demand pool.
    pub resident: ExpertSet,
    /// Bytes that may still be missed in this token; none: no cap.
    pub bytes_left: Option<u64>,
}

/// A granted lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// To be given back with `release`.
    pub id: LeaseId,
    /// In the order asked.
    pub experts: Vec<LeasedExpert>,
    /// Logical bytes of the misses among them.
    pub miss_bytes: u64,
    /// Residency of `next_layer` after this lease.
    pub next: Residency,
}

/// Totals of a cache since it was spawned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStats {
    /// Leased experts that were resident (logical: the speculation pool does not count).
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of those misses.
    pub miss_bytes: u64,
    /// Experts evicted from the demand pool.
    pub evictions: u64,
    /// Misses that found their expert in the speculation pool: no read to wait for.
    pub waits_avoided: u64,
    /// Reads admitted to the speculation pool.
    pub speculative_reads: u64,
    /// Bytes that habits kept from being missed; less than 0 where more was missed because of them.
    #[serde(default)]
    pub habits_saved_bytes: i64,
    /// Bytes in the demand pool now.
    pub resident_bytes: u64,
    /// Experts in the demand pool now.
    pub resident_experts: u64,
    /// Capacity of the demand pool now.
    pub capacity_bytes: u64,
}

/// One module's demand pool as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// What it may hold, bytes.
    pub capacity_bytes: u64,
    /// What it holds, bytes.
    pub resident_bytes: u64,
}

/// What the cache needs of the body: slots and reads. Implementations must not block.
///
/// Order of calls per decision: every `evict`, then every `admit`, then `settle`.
pub trait ExpertSource: Send + Sync + 'static {
    /// Starts reading `key` into `slot`; at demand priority, or behind every demand when `speculative`.
    fn admit(&self, key: ExpertKey, slot: SlotId, speculative: bool);
    /// A demand takes over a slot of the speculation pool: its read, if it has not begun, gets demand priority.
    fn promote(&self, slot: SlotId);
    /// The slot's contents are no longer needed; its memory may serve a following `admit`.
    fn evict(&self, slot: SlotId);
    /// The decision is complete: memory of evicted slots that no `admit` took over goes back to the system.
    fn settle(&self);
}
