//! Matrices that AWQ or GPTQ packed: several small integers in each 32-bit word, with a scale and a zero for every group of
//! inputs. A number is (integer - zero) times scale, which an f32 holds exactly.
//!
//! `X.weight` is then `X.qweight`, `X.qzeros`, `X.scales` and, of GPTQ, `X.g_idx`:
//!
//! | | AWQ, version `gemm` | GPTQ |
//! |---|---|---|
//! | `qweight` | `[in, out / n]`, a word holds n outputs of one input, in the order 0 2 4 6 1 3 5 7 | `[in / n, out]`, a word holds n inputs of one output, ascending |
//! | `qzeros` | `[groups, out / n]`, ordered alike | `[groups, out / n]`, ascending; `checkpoint_format` `gptq` stores them less one |
//! | `scales` | `[groups, out]` | `[groups, out]` |
//! | `g_idx` | none: inputs are grouped as they stand | `[in]`, the group of each input |
//!
//! n is 32 divided by the bits of an integer; the lowest bits are first.

mod config;
mod gather;
mod matrix;
mod tensor;

pub(super) use config::{of_config, of_text, quantisation};
pub(super) use gather::{WrongPart, gather};
pub(crate) use matrix::PackedMatrix;
pub(super) use tensor::PackedPart;
pub(crate) use tensor::UnpackError;
pub use tensor::{PackedTensor, Packing};
