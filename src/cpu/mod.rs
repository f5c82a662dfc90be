//! The processor of this machine: slots of memory for experts, and the reads that fill them.

pub mod arena;
pub mod direct;
