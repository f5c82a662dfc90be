//! The processor of this machine behind the core's ports: decoders, slots of memory for experts with the reads that fill
//! them, towers and voice.

pub mod arena;
pub mod decoder;
pub mod direct;
pub mod encode;
mod experts;
pub mod host;
mod scratch;
mod shadow;
pub mod sizes;
pub mod slots;
pub mod towers;
pub mod voice;
