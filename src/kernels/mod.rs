//! Arithmetic over weights in the formats they are stored in. Knows nothing of models.
//!
//! Invariant: every output is one dot product in a fixed order, whatever the instruction set, the number of
//! threads, or the rows computed together. Threads split rows; nothing is ever reduced across threads.

mod attend;
mod exp;
mod fold;
mod lanes;
pub(crate) mod matrix;
pub mod pointwise;
pub(crate) mod threads;
mod tiles;

pub use attend::HeadAttention;
pub(crate) use exp::silu_times;
pub use lanes::InstructionSet;
pub(crate) use lanes::multiply;
pub use matrix::{Matrix, MatrixView, matmul};

/// Names the order of summation and the functions that every result depends on: equal inputs give equal bits wherever it
/// is the same. To be changed with them.
pub const SPEC: &str = "dot-lanes-32/1";

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
                .all(|format| format.arithmetic() == super::SPEC)
        );
    }

    #[test]
    fn the_name_of_the_order_is_the_orders() {
        assert!(super::SPEC.starts_with(&format!("dot-lanes-{}/", super::fold::LANES)));
    }
}
