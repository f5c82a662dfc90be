//! The configuration that headers and towers are made after.

/// The configuration of the released model.
pub const RELEASED_CONFIG: &str = include_str!("qwen3-omni-30b-config.json");
