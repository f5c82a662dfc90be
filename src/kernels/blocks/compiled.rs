//! Integer products as compiled for the instruction sets of x86-64.

use super::rounded::{Cut, RoundedRows, round_rows};
use super::tile::{Laid, rows_by_rows};
use super::x86::{Avx2, Vnni};
use crate::formats::Blocks;
use crate::kernels::dense::Outputs;

#[target_feature(enable = "avx2")]
pub(super) fn round<'a>(
    x: &[f32],
    rows: usize,
    cut: Cut,
    most_rows: usize,
    buffer: &'a mut Vec<f32>,
) -> RoundedRows<'a> {
    round_rows(x, rows, cut, most_rows, buffer)
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tiles_avx2<B: Blocks>(
    w: &[u8],
    x: RoundedRows<'_>,
    out: Outputs,
    laid: &mut Laid,
) {
    // SAFETY: as the caller promises.
    unsafe { rows_by_rows::<B, Avx2>(w, x, out, laid) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn tiles_vnni<B: Blocks>(
    w: &[u8],
    x: RoundedRows<'_>,
    out: Outputs,
    laid: &mut Laid,
) {
    // SAFETY: as the caller promises.
    unsafe { rows_by_rows::<B, Vnni>(w, x, out, laid) };
}
