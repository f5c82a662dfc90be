//! The model: names as in the checkpoint, arithmetic of the reference implementation in f32.
//!
//! Invariant: nothing here decides. Which experts work on a token, and whether they are in memory, is asked by
//! the engine; the model computes what it is given. Routed experts are never owned here.

pub mod attention;
pub mod audio;
mod axes;
pub mod code2wav;
pub(crate) mod code_predictor;
mod embedding;
pub mod encoder;
pub mod experts;
pub mod heads;
pub(crate) mod kv;
pub(crate) mod load;
pub mod pieces;
pub mod positions;
pub(crate) mod rope;
pub mod speech;
pub mod talker;
mod talker_config;
pub(crate) mod thinker;
pub mod vision;

pub use axes::Positions;
pub use code_predictor::CodePredictor;
pub use code2wav::Code2Wav;
pub use kv::{KvCache, KvShape};
pub use rope::RotaryTable;
pub use talker::Talker;
pub use thinker::{DecoderLayer, FeedForward, Thinker};
