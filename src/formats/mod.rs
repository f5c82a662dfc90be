//! How weights are stored: one type for every format that there is, and one table of what each takes.
//!
//! A format says for how many numbers of a row a block stands, how many bytes that block takes, and by which arithmetic
//! its products are summed. Whatever holds weights carries the format beside their bytes, so that tensors of different
//! formats lie in one store and in one layer. A further format is a file of this room with its numbers, a row of the
//! table, and an arm in the kernels.

mod bf16;
mod blocks;
mod error;
mod f16;
mod f32;
mod number;
mod quantise;
mod rounding;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use blocks::{
    Blocks, MOST_NUMBERS, Q2K, Q4_0, Q4K, Q6K, Q8_0, half_bits, pack_q8_0, widen_blocks,
};
pub use error::ConvertError;
pub(crate) use number::{Number, numbers_of, widen};
pub use rounding::convert;
pub(crate) use rounding::{narrow, widen_all};

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WeightFormat {
    /// 32-bit float.
    F32,
    /// 16-bit brain float: the upper half of an `F32`.
    BF16,
    /// 16-bit IEEE float.
    F16,
    /// Blocks of 32 numbers of eight bits.
    #[allow(non_camel_case_types)] // GGML's name
    Q8_0,
    /// Blocks of 32 numbers of four bits.
    #[allow(non_camel_case_types)] // GGML's name
    Q4_0,
    /// Blocks of 256 numbers of four bits.
    #[allow(non_camel_case_types)] // GGML's name
    Q4_K,
    /// Blocks of 256 numbers of six bits.
    #[allow(non_camel_case_types)] // GGML's name
    Q6_K,
    /// Blocks of 256 numbers of two bits.
    #[allow(non_camel_case_types)] // GGML's name
    Q2_K,
}

/// A row of the table of formats.
struct Layout {
    /// In a manifest, and in a safetensors header where that has a word for it.
    name: &'static str,
    /// On the command line.
    option: &'static str,
    /// In config.json, as `torch_dtype` has it; none for what is no number of its own.
    config_name: Option<&'static str>,
    /// Numbers of a row that share a block; rows are whole blocks.
    block_numbers: usize,
    /// Bytes of a block.
    block_bytes: usize,
    /// Names the arithmetic of its products.
    arithmetic: &'static str,
}

/// The order of sums over numbers that widen to f32 one by one.
const BY_LANES: &str = "dot-lanes-32/3";

/// Rows of blocks times rows that are rounded to bytes, 32 or 256 numbers at a time.
const BY_BLOCKS_32: &str = "int8-blocks-32/1";
const BY_BLOCKS_256: &str = "int8-blocks-256/1";

const TABLE: [Layout; 8] = [
    Layout {
        name: "F32",
        option: "f32",
        config_name: Some("float32"),
        block_numbers: 1,
        block_bytes: 4,
        arithmetic: BY_LANES,
    },
    Layout {
        name: "BF16",
        option: "bf16",
        config_name: Some("bfloat16"),
        block_numbers: 1,
        block_bytes: 2,
        arithmetic: BY_LANES,
    },
    Layout {
        name: "F16",
        option: "f16",
        config_name: Some("float16"),
        block_numbers: 1,
        block_bytes: 2,
        arithmetic: BY_LANES,
    },
    Layout {
        name: "Q8_0",
        option: "q8_0",
        config_name: None,
        block_numbers: 32,
        block_bytes: 34,
        arithmetic: BY_BLOCKS_32,
    },
    Layout {
        name: "Q4_0",
        option: "q4_0",
        config_name: None,
        block_numbers: 32,
        block_bytes: 18,
        arithmetic: BY_BLOCKS_32,
    },
    Layout {
        name: "Q4_K",
        option: "q4_k",
        config_name: None,
        block_numbers: 256,
        block_bytes: 144,
        arithmetic: BY_BLOCKS_256,
    },
    Layout {
        name: "Q6_K",
        option: "q6_k",
        config_name: None,
        block_numbers: 256,
        block_bytes: 210,
        arithmetic: BY_BLOCKS_256,
    },
    Layout {
        name: "Q2_K",
        option: "q2_k",
        config_name: None,
        block_numbers: 256,
        block_bytes: 84,
        arithmetic: BY_BLOCKS_256,
    },
];

impl WeightFormat {
    /// Every format, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::F32,
        Self::BF16,
        Self::F16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_K,
        Self::Q6_K,
        Self::Q2_K,
    ];

    fn layout(self) -> &'static Layout {
        // The table is in the order of the variants: a test holds it to that.
        &TABLE[self as usize]
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// The name on the command line.
    pub fn option(self) -> &'static str {
        self.layout().option
    }

    /// The name in config.json, as its `torch_dtype` and `dtype` have it; none for blocks.
    pub fn config_name(self) -> Option<&'static str> {
        self.layout().config_name
    }

    /// The format of a name in a safetensors header, if weights may be stored in it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format of a name on the command line, if weights may be stored in it.
    pub fn from_option(option: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.option() == option)
    }

    /// Names the arithmetic of products with weights in this format: equal inputs give equal bits wherever it is the
    /// same.
    pub fn arithmetic(self) -> &'static str {
        self.layout().arithmetic
    }

    /// Numbers of a row that share one block: 1 where every number stands for itself.
    pub fn block_numbers(self) -> usize {
        self.layout().block_numbers
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Whether every number stands for itself.
    pub fn is_plain(self) -> bool {
        self.block_numbers() == 1
    }

    /// What of this format's family fits rows of `cols` numbers: itself, or where they are not whole blocks of 256 the
    /// blocks of 32 with as many bits or more, or where they are not whole blocks at all brain floats.
    pub fn fitting(self, cols: usize) -> Self {
        let fits = |format: Self| cols > 0 && cols.is_multiple_of(format.block_numbers());
        let smaller = match self {
            Self::Q4_K | Self::Q2_K => Self::Q4_0,
            Self::Q6_K => Self::Q8_0,
            other => other,
        };
        let mut candidates = [self, smaller].into_iter();
        candidates
            .find(|format| fits(*format))
            .unwrap_or(Self::BF16)
    }

    /// Bytes of a row of `cols` numbers; none where that is not a whole number of blocks, or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let Layout {
            block_numbers,
            block_bytes,
            ..
        } = self.layout();
        let blocks = cols / block_numbers;
        cols.is_multiple_of(*block_numbers)
            .then(|| blocks.checked_mul(*block_bytes))?
    }

    /// Bytes of a matrix `[rows, cols]`, row-major; none as for [`Self::row_bytes`].
    pub fn matrix_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        self.row_bytes(cols)?.checked_mul(rows)
    }

    /// Bytes of a tensor of `shape`, outermost dimension first, whose rows are its innermost one; none as for
    /// [`Self::row_bytes`].
    pub fn tensor_bytes(self, shape: &[usize]) -> Option<u64> {
        let (cols, outer) = match shape.split_last() {
            Some((cols, outer)) => (*cols, outer),
            None => (1, shape),
        };
        let row_bytes = self.row_bytes(cols)? as u64;
        outer.iter().try_fold(row_bytes, |bytes, &dimension| {
            bytes.checked_mul(dimension as u64)
        })
    }
}

/// How the matrices of a gated block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatedFormats {
    /// `[intermediate, hidden]`.
    pub gate: WeightFormat,
    /// `[intermediate, hidden]`.
    pub up: WeightFormat,
    /// `[hidden, intermediate]`.
    pub down: WeightFormat,
}

impl GatedFormats {
    /// All three alike.
    pub fn all(format: WeightFormat) -> Self {
        Self {
            gate: format,
            up: format,
            down: format,
        }
    }
}

impl fmt::Display for GatedFormats {
    /// One name where they are alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gate == self.up && self.gate == self.down {
            return write!(f, "{}", self.gate);
        }
        write!(f, "{}, {} and {}", self.gate, self.up, self.down)
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_format_at_its_place() {
        for (format, layout) in WeightFormat::ALL.into_iter().zip(&TABLE) {
            assert_eq!(WeightFormat::from_name(layout.name), Some(format));
            assert_eq!(WeightFormat::from_option(layout.option), Some(format));
            assert_eq!(format.arithmetic() == BY_LANES, format.is_plain());
            // What serde writes into a manifest is what stands in a header.
            let written = serde_json::to_string(&format).unwrap();
            assert_eq!(written, format!("{:?}", layout.name));
        }
    }

    #[test]
    fn rows_that_are_not_whole_blocks_fall_back() {
        let fitting = |format: WeightFormat| [768, 96, 40].map(|cols| format.fitting(cols));
        use WeightFormat::{BF16, F16, Q2_K, Q4_0, Q4_K, Q6_K, Q8_0};
        assert_eq!(fitting(Q4_K), [Q4_K, Q4_0, BF16]);
        assert_eq!(fitting(Q2_K), [Q2_K, Q4_0, BF16]);
        assert_eq!(fitting(Q6_K), [Q6_K, Q8_0, BF16]);
        assert_eq!(fitting(Q8_0), [Q8_0, Q8_0, BF16]);
        assert_eq!(fitting(F16), [F16; 3]);
    }

    #[test]
    fn bytes_follow_from_format_and_shape() {
        let bf16 = WeightFormat::BF16;
        assert_eq!(bf16.row_bytes(7), Some(14));
        assert_eq!(bf16.matrix_bytes(3, 7), Some(42));
        assert_eq!(bf16.tensor_bytes(&[2, 3, 7]), Some(84));
        assert_eq!(bf16.tensor_bytes(&[]), Some(2));
        assert_eq!(WeightFormat::F32.tensor_bytes(&[0, 5]), Some(0));
        assert_eq!(bf16.row_bytes(usize::MAX), None);
        assert_eq!(bf16.tensor_bytes(&[usize::MAX, 2]), None);
    }
}
