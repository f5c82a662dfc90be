//! How what was read is remembered beyond the context.

use serde::{Deserialize, Serialize};

/// Which segments are kept where there is no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// No segment is kept beyond the context, which loses its oldest turns when it is full.
    #[default]
    Off,
    /// The most salient.
    Salience,
    /// The newest.
    Recency,
    /// A uniform sample, by a hash of their numbers.
    Uniform,
}

/// Numbers of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Which segments are kept.
    pub retention: Retention,
    /// Bytes of all segments that are kept.
    pub store_bytes: u64,
    /// Share of the context that is kept when it is full, in (0, 1).
    pub context_share: f64,
    /// Share of the context that the newest segments have of it at least, in [0, 1].
    pub recent_share: f64,
    /// Share of the context for segments that a question brings back, in [0, 1).
    pub recall_share: f64,
    /// Weights of surprise, novelty, arousal, reward and conflict in what is salient enough to keep.
    pub weights: [f32; 5],
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            retention: Retention::Off,
            store_bytes: 262_144,
            context_share: 0.5,
            recent_share: 0.25,
            recall_share: 0.125,
            weights: [1.0, 1.0, 1.0, 1.0, 1.0],
        }
    }
}
