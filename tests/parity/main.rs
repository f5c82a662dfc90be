//! The model equals the reference implementation: every part against its goldens, and what arrives against known answers.

#[path = "../common/mod.rs"]
mod common;
mod ears;
mod goldens;
mod hosts;
#[cfg(feature = "candle")]
mod oracles;
mod pictures;
mod positions;
mod reference;
mod sound;
mod sound_files;
mod speech;
mod spoken;
mod vision;
