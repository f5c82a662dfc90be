//! Arithmetic over weights in the formats they are stored in. Knows nothing of models.
//!
//! Invariant: every output is one dot product in a fixed order, whatever the instruction set, the number of
//! threads, or the rows computed together. Threads split rows; nothing is ever reduced across threads.

mod attend;
mod blocks;
mod dense;
mod exp;
mod instructions;
pub(crate) mod matrix;
pub mod pointwise;
mod prefetch;
mod reading;
pub(crate) mod threads;
#[cfg(target_arch = "x86_64")]
mod wide_fold;

pub use attend::{HeadAttention, HeadRows, WIDENED_ROWS};
pub(crate) use dense::multiply_row;
pub(crate) use exp::silu_times;
pub use instructions::InstructionSet;
pub use matrix::{Matrix, MatrixView, matmul};
pub use reading::reading_rate;

/// Names the order of summation and the functions that every result depends on: equal inputs give equal bits wherever it
/// is the same. To be changed with them.
pub const SPEC: &str = "dot-lanes-32/3";

/// Bytes that a product with `rows` rows of `cols` numbers takes to lay them out, or to round them.
pub fn panel_bytes(rows: usize, cols: usize) -> usize {
    let panel = match rows {
        0 | 1 => 0,
        _ => dense::panel_numbers(rows.min(dense::X_ROWS), cols),
    };
    panel.max(blocks::words(rows.min(blocks::X_ROWS), cols)) * size_of::<f32>()
}

/// Where exponential and logarithm come from: results depend on its release.
pub const LIBM: &str = "libm 0.2";

#[cfg(test)]
mod tests {
    use crate::formats::WeightFormat;

    #[test]
    fn every_format_names_the_arithmetic_that_it_is_multiplied_by() {
        assert!(
            WeightFormat::ALL
                .iter()
                .all(|format| (format.arithmetic() == super::SPEC) == format.is_plain())
        );
    }
}
