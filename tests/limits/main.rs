//! Memory limits hold.

mod chunks;
#[path = "../common/mod.rs"]
mod common;
mod limit;
mod media_limit;
mod memory;
