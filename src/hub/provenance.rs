//! Where a store came from.

use serde::{Deserialize, Serialize};

/// Says in a store where it came from.
pub const PROVENANCE: &str = "pull.json";

/// Where a store came from: `pull.json` in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The hub.
    pub endpoint: String,
    /// `OWNER/NAME`.
    pub repo: String,
    /// The revision that was asked for.
    pub revision: String,
    /// The commit that it was.
    pub commit: String,
    /// Formats as they were asked for; none: as they are.
    pub formats: Vec<String>,
    /// Whether the sum of everything that was fetched was compared with the hub's.
    pub verified: bool,
    /// What was fetched.
    pub shards: Vec<PulledShard>,
}

/// A shard that a store was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledShard {
    /// File name.
    pub name: String,
    /// Bytes that were fetched.
    pub bytes: u64,
    /// The sum that was compared; none where only parts were fetched, or the hub lists none.
    pub sha256: Option<String>,
}
