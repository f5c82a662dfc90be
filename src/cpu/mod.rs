//! The processor of this machine behind the core's ports: decoders, slots of memory for experts with the reads that fill
//! them, towers and voice.

pub(crate) mod arena;
pub(crate) mod decoder;
pub(crate) mod direct;
pub mod encode;
mod experts;
pub(crate) mod host;
mod loaded;
mod mapped;
pub mod probe;
mod scratch;
mod shadow;
pub(crate) mod sizes;
pub mod slots;
pub(crate) mod towers;
pub(crate) mod voice;
