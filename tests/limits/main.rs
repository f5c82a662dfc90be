//! Memory limits hold.

#[path = "../common/mod.rs"]
mod common;
mod limit;
mod media_limit;
mod memory;
