//! What a packed matrix is, and where its parts lie.

use std::fmt;

use crate::formats::{ConvertError, WeightFormat};

/// Who packed the matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackingMethod {
    /// Activation-aware weight quantisation, in the layout of its `gemm` kernels.
    Awq,
    /// The quantiser of generative pre-trained transformers.
    Gptq,
}

/// How the matrices of a checkpoint are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    pub(crate) method: PackingMethod,
    /// Of an integer: 4 or 8.
    pub(crate) bits: u32,
    /// Inputs that share a scale; all of them where there is none.
    pub(crate) group: Option<usize>,
    /// Whether every zero is the middle of the integers; then it need not be stored.
    pub(crate) is_symmetric: bool,
    /// Whether inputs are grouped by importance, and so out of order.
    pub(crate) is_reordered: bool,
    /// Whether stored zeros are one less than what is meant.
    pub(crate) is_less_one: bool,
}

impl Packing {
    /// Integers in a word.
    pub(crate) fn per_word(self) -> usize {
        (u32::BITS / self.bits) as usize
    }

    /// The zero of symmetric numbers.
    pub(crate) fn middle(self) -> u16 {
        1 << (self.bits - 1)
    }

    /// The name of a packed tensor's format.
    pub fn name(self) -> &'static str {
        match (self.method, self.bits) {
            (PackingMethod::Awq, _) => "AWQ4",
            (PackingMethod::Gptq, 8) => "GPTQ8",
            (PackingMethod::Gptq, _) => "GPTQ4",
        }
    }
}

impl fmt::Display for Packing {
    /// As in `AWQ, 4 bits in groups of 128`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            PackingMethod::Awq => "AWQ",
            PackingMethod::Gptq => "GPTQ",
        };
        write!(f, "{method}, {} bits", self.bits)?;
        match self.group {
            Some(group) => write!(f, " in groups of {group}"),
            None => Ok(()),
        }
    }
}

/// Why unpacked numbers cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The format has no room for one.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The numbers are not what `config.json` says of them.
    #[error(
        "has {what}; expected what config.json says (symmetric, and inputs in order), of which q4_0 holds every number as it \
         is: name another format, such as --quant q8"
    )]
    NotExact {
        /// What was found, and where.
        what: String,
    },
}

/// A part of a packed tensor, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedPart {
    /// Its name in the files.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// How its numbers are stored; none of integers.
    pub(crate) format: Option<WeightFormat>,
    pub(crate) shard: usize,
    /// First byte, counted from the start of the shard file.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A packed matrix `[rows, cols]`, an output a row and an input a column, and where its parts lie. Its shapes are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedTensor {
    pub(crate) packing: Packing,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) integers: PackedPart,
    pub(crate) scales: PackedPart,
    /// None where every zero is the middle.
    pub(crate) zeros: Option<PackedPart>,
    /// The group of each input; none where they are grouped as they stand.
    pub(crate) groups: Option<PackedPart>,
}

impl PackedTensor {
    /// How it is packed.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Everything that it is made of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &PackedPart> {
        let parts = [Some(&self.integers), Some(&self.scales)];
        let others = [self.zeros.as_ref(), self.groups.as_ref()];
        parts.into_iter().chain(others).flatten()
    }

    /// Bytes in the files, of all its parts.
    pub fn stored_bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// Whether blocks of Q4_0 hold the same numbers, to the bit: four bits around a middle of 8, and a half for a scale that
    /// no block shares with another.
    pub(crate) fn is_q4_0(&self) -> bool {
        let packing = self.packing;
        let block = WeightFormat::Q4_0.block_numbers();
        packing.bits == 4
            && packing.is_symmetric
            && !packing.is_reordered
            && self.scales.format == Some(WeightFormat::F16)
            && self.cols.is_multiple_of(block)
            && packing.group.unwrap_or(self.cols).is_multiple_of(block)
    }

    /// In which format it is stored where nobody asks for one: the smallest that keeps what the packing left of the numbers.
    pub(crate) fn kept_format(&self) -> WeightFormat {
        let eight = WeightFormat::Q8_0;
        match self.is_q4_0() {
            true => WeightFormat::Q4_0,
            false if self.cols.is_multiple_of(eight.block_numbers()) => eight,
            false => WeightFormat::F32,
        }
    }
}
