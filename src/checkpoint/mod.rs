//! Reading a Hugging Face checkpoint: `config.json`, the index, the headers of the shards, and tensors by name.

mod component;
pub mod config;
mod error;
pub(crate) mod expected;
mod findings;
pub(crate) mod foreign;
mod fused;
mod gguf;
mod header;
mod index;
mod names;
mod packed;
mod shards;
mod tensor;

pub use component::{Component, ExpertMatrix, Role, expert_tensor_name, router_tensor_name};
pub use config::{ModelConfig, ModelConfigError};
pub use error::CheckpointError;
pub use expected::{ExpectedTensor, expected_tensors};
pub use findings::{Findings, Misshapen, OtherFormat};
pub(crate) use header::read_no_further;
pub use header::{HeaderError, HeaderIntegers, HeaderTensor, SafetensorsHeader};
#[cfg(feature = "hub")]
pub(crate) use index::{INDEX, SINGLE, shards_of_index};
pub(crate) use names::HEAD;
pub(crate) use packed::{PackedMatrix, UnpackError};
pub use packed::{PackedTensor, Packing};
pub(crate) use shards::CONFIG;
pub use shards::Checkpoint;
pub use tensor::{StoredPart, TensorInfo};

/// Whether a file begins as those of llama.cpp do.
pub fn is_gguf(path: &std::path::Path) -> bool {
    path.is_file() && foreign::begins_with(path, gguf::MAGIC)
}
