//! Products of many rows, a few at a time.

use super::super::attention::Projection;
use crate::kernels::pointwise::add_scaled;

/// Rows that go through a product together: few enough for a core's cache, and all that is ever as wide as the inner layers.
pub(super) const ROWS: usize = 64;

/// `W x + b` of all rows, [`ROWS`] at a time.
pub(super) fn rows_through(projection: &Projection, x: &[f32], scratch: &mut Vec<f32>) -> Vec<f32> {
    let width = projection.weight.cols();
    let mut y = Vec::with_capacity(x.len() / width * projection.weight.rows());
    for x in x.chunks(ROWS * width) {
        y.extend(projection.apply(x, x.len() / width, scratch));
    }
    y
}

/// `x += W y + b` of all rows, [`ROWS`] at a time.
pub(super) fn add_through(
    projection: &Projection,
    y: &[f32],
    x: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (inner, width) = (projection.weight.cols(), projection.weight.rows());
    for (x, y) in x.chunks_mut(ROWS * width).zip(y.chunks(ROWS * inner)) {
        add_scaled(x, &projection.apply(y, y.len() / inner, scratch), 1.0);
    }
}
