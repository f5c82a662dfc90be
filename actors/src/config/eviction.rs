//! Who leaves the cache when room is needed: the choices and their names.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::named::Named;

/// Which expert leaves the demand pool when room is needed: never a pinned one; of equals the lowest layer, then the
/// lowest expert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvictionPolicy {
    /// The least recently used, counted in leases. Hits nothing in a pool that is smaller than what the other layers
    /// of one token use (see [`crate::cache::cycle_cliff`]).
    Lru,
    /// The least often used: tokens that used it since the start, counts that survive its eviction and never decay.
    /// Of equal counts the one whose layer's next turn is farthest.
    Lfu,
    /// The largest 0.4·age + 0.3·(1 − convergence) + 0.2·(1 − stability) + 0.1·size: age in leases since the last use,
    /// age and size normalised over the module's residents as the decision begins, a constant feature being 0; convergence and stability as
    /// the trust ledger's view of the last directive says. Where the ledger tells no expert from another this is LRU.
    Trust,
    /// The one whose next use is expected farthest away, counted in layer steps.
    Horizon {
        /// Half-life of the use frequency, tokens.
        half_life_tokens: f64,
    },
    /// As horizon, with a chance of use that is learned while running: several half-lives, weighed by how well each
    /// predicted so far.
    Learned,
}

impl EvictionPolicy {
    /// The default.
    pub(crate) const HORIZON: Self = Self::Horizon {
        half_life_tokens: 12.0,
    };
}

impl Default for EvictionPolicy {
    fn default() -> Self {
        Self::HORIZON
    }
}

impl Named for EvictionPolicy {
    const ALL: &'static [Self] = &[
        Self::Lru,
        Self::Lfu,
        Self::Trust,
        Self::HORIZON,
        Self::Learned,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Trust => "trust",
            Self::Horizon { .. } => "horizon",
            Self::Learned => "learned",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Lru => "Least recently used",
            Self::Lfu => "Least often used",
            Self::Trust => "Old, little trusted, unsteady",
            Self::Horizon { .. } => "Farthest expected next use",
            Self::Learned => "As horizon, with a chance of use learned while running",
        }
    }
}

/// With the settings that are its own: `horizon(12 tokens)`.
impl fmt::Display for EvictionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Horizon { half_life_tokens } => write!(f, "horizon({half_life_tokens} tokens)"),
            other => f.pad(other.name()),
        }
    }
}
