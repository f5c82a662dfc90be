//! What Rest and Dream do.

use sage_actors::protocol::State;
use serde::Serialize;

/// See [`super::EventKind::Dream`]. Shadow runs are no demand: their reads and their work stand here and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DreamEvent {
    /// Scores of denied experts.
    pub scored: u32,
    /// Episodes consolidated.
    pub episodes: u32,
    /// Of those, episodes that were not scored, because what scoring reads would not be saved in a week.
    pub unscored: u32,
    /// Episodes that wait.
    pub left: u32,
    /// Episodes merged into one nearly alike.
    pub pruned: u32,
    /// Bytes that shadow runs read.
    pub bytes_read: u64,
    /// Bytes that habits saved, since the event before, less than 0 where more was missed because of them.
    pub saved_bytes: i64,
    /// What shadow runs cost, in exact tokens.
    pub units: f64,
    /// Hot lists: domain, state, and how many experts at least a quarter of its tokens use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hot: Vec<(String, State, u32)>,
}
