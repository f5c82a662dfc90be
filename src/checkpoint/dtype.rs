//! Element types that weights are stored in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit brain float: the upper half of an `F32`.
    BF16,
    /// 16-bit IEEE float.
    F16,
}

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::BF16 | Self::F16 => 2,
        }
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::BF16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// The type of a name in a safetensors header, if weights may be stored in it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::BF16, Self::F16]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }

    /// Bytes of a tensor of this type; `None` if that overflows.
    pub fn tensor_bytes(self, shape: &[usize]) -> Option<u64> {
        shape
            .iter()
            .try_fold(self.size_bytes() as u64, |bytes, &dimension| {
                bytes.checked_mul(dimension as u64)
            })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
