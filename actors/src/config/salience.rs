//! How salience is measured.

use serde::{Deserialize, Serialize};

/// Numbers of the salience assessor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SalienceConfig {
    /// Ticks in which what feedback and memory say of the moment fades half-way to neutral; 0: it never fades.
    pub reward_half_life_ticks: u32,
    /// Whether a segment that begins a context is judged by such segments too, and not by those alone that had one.
    pub beginnings_apart: bool,
}

impl SalienceConfig {
    /// Of a recorded configuration that says nothing of it: what was so before there were such numbers.
    pub(super) fn unsaid() -> Self {
        Self {
            reward_half_life_ticks: 0,
            beginnings_apart: false,
        }
    }
}

impl Default for SalienceConfig {
    fn default() -> Self {
        Self {
            reward_half_life_ticks: 16,
            beginnings_apart: true,
        }
    }
}
