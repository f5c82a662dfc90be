//! From what a limit is chosen where nobody asked for one.

use std::fmt;

use serde::Serialize;

use crate::input::human_bytes;
use crate::sensors::MemoryBound;

/// From what a limit was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitChoice {
    /// What leaves the least.
    pub bound: MemoryBound,
    /// What of that is left to the system.
    pub reserve_bytes: u64,
}

impl fmt::Display for LimitChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reserve = human_bytes(self.reserve_bytes);
        write!(f, "{}, less a reserve of {reserve}", self.bound)
    }
}
