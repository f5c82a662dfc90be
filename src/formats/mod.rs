//! How weights are stored: one type for every format that there is, and one table of what each takes.
//!
//! A format says for how many numbers of a row a block stands, how many bytes that block takes, and by which arithmetic
//! its products are summed. Whatever holds weights carries the format beside their bytes, so that tensors of different
//! formats lie in one store and in one layer. A further format is a file of this room with its numbers, a row of the
//! table, and an arm in the kernels.

mod bf16;
mod f16;
mod f32;
mod number;
mod rounding;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use number::{Number, numbers_of, widen};
pub use rounding::{Overflow, convert};

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WeightFormat {
    /// 32-bit float.
    F32,
    /// 16-bit brain float: the upper half of an `F32`.
    BF16,
    /// 16-bit IEEE float.
    F16,
}

/// A row of the table of formats.
struct Layout {
    /// In a safetensors header.
    name: &'static str,
    /// On the command line.
    option: &'static str,
    /// In config.json, as `torch_dtype` has it.
    config_name: &'static str,
    /// Numbers of a row that share a block; rows are whole blocks.
    block_numbers: usize,
    /// Bytes of a block.
    block_bytes: usize,
    /// Names the arithmetic of its products.
    arithmetic: &'static str,
}

/// The order of sums over numbers that widen to f32 one by one.
const BY_LANES: &str = "dot-lanes-32/1";

const TABLE: [Layout; 3] = [
    Layout {
        name: "F32",
        option: "f32",
        config_name: "float32",
        block_numbers: 1,
        block_bytes: 4,
        arithmetic: BY_LANES,
    },
    Layout {
        name: "BF16",
        option: "bf16",
        config_name: "bfloat16",
        block_numbers: 1,
        block_bytes: 2,
        arithmetic: BY_LANES,
    },
    Layout {
        name: "F16",
        option: "f16",
        config_name: "float16",
        block_numbers: 1,
        block_bytes: 2,
        arithmetic: BY_LANES,
    },
];

impl WeightFormat {
    /// Every format, in the order of the table.
    pub const ALL: [Self; 3] = [Self::F32, Self::BF16, Self::F16];

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

    /// The name in config.json, as its `torch_dtype` and `dtype` have it.
    pub fn config_name(self) -> &'static str {
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
            // What serde writes into a manifest is what stands in a header.
            let written = serde_json::to_string(&format).unwrap();
            assert_eq!(written, format!("{:?}", layout.name));
        }
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
