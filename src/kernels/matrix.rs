//! Weight matrices as stored, and their products with f32 rows.

use half::{bf16, f16};
use rayon::prelude::*;

use super::element::Element;
use super::lanes::{InstructionSet, multiply};
use crate::host_memory::Mapped;

/// How a matrix's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// 4 bytes.
    F32,
    /// 2 bytes, the upper half of an f32.
    Bf16,
    /// 2 bytes, IEEE half precision.
    F16,
}

impl Numbers {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Numbers::F32 => 4,
            Numbers::Bf16 | Numbers::F16 => 2,
        }
    }
}

/// A borrowed matrix `[rows, cols]`, row-major.
#[derive(Clone, Copy, Debug)]
pub enum MatrixView<'a> {
    /// Stored as f32.
    F32 {
        /// `rows * cols` numbers.
        data: &'a [f32],
        /// Numbers of a row.
        cols: usize,
    },
    /// Stored as bf16.
    Bf16 {
        /// `rows * cols` numbers.
        data: &'a [bf16],
        /// Numbers of a row.
        cols: usize,
    },
    /// Stored as f16.
    F16 {
        /// `rows * cols` numbers.
        data: &'a [f16],
        /// Numbers of a row.
        cols: usize,
    },
}

/// The same for a view's numbers, however they are stored.
macro_rules! whatever_stored {
    ($view:expr, $data:ident, $cols:ident => $do:expr) => {
        match $view {
            MatrixView::F32 {
                data: $data,
                cols: $cols,
            } => $do,
            MatrixView::Bf16 {
                data: $data,
                cols: $cols,
            } => $do,
            MatrixView::F16 {
                data: $data,
                cols: $cols,
            } => $do,
        }
    };
}

impl<'a> MatrixView<'a> {
    /// A matrix `[rows, cols]` at byte `at` of a mapping; none if it does not fit or is not aligned.
    pub fn within(
        memory: &'a Mapped,
        numbers: Numbers,
        at: usize,
        rows: usize,
        cols: usize,
    ) -> Option<Self> {
        let len = rows.checked_mul(cols)?;
        if !at.is_multiple_of(numbers.bytes()) || cols == 0 {
            return None;
        }
        let start = at / numbers.bytes();
        let range = start..start.checked_add(len)?;
        Some(match numbers {
            Numbers::F32 => MatrixView::F32 {
                data: memory.numbers::<f32>().get(range)?,
                cols,
            },
            Numbers::Bf16 => MatrixView::Bf16 {
                data: memory.numbers::<bf16>().get(range)?,
                cols,
            },
            Numbers::F16 => MatrixView::F16 {
                data: memory.numbers::<f16>().get(range)?,
                cols,
            },
        })
    }

    /// Number of rows: the output features.
    pub fn rows(&self) -> usize {
        whatever_stored!(self, data, cols => data.len() / cols)
    }

    /// Number of columns: the input features.
    pub fn cols(&self) -> usize {
        whatever_stored!(self, _data, cols => *cols)
    }

    /// Widens row `row` into `out` `[cols]`; panics when there is no such row.
    pub fn widen_row(&self, row: usize, out: &mut [f32]) {
        whatever_stored!(self, data, cols => widen(&data[row * cols..(row + 1) * cols], out));
    }

    /// `out[o * x_rows + r] = self[first + o] · x[r]` for as many rows as `out` has room for.
    pub fn multiply_rows(&self, first: usize, x: &[f32], x_rows: usize, out: &mut [f32]) {
        let count = out.len() / x_rows;
        let set = InstructionSet::best();
        whatever_stored!(self, data, cols => {
            let rows = &data[first * cols..(first + count) * cols];
            multiply(set, rows, *cols, x, x_rows, out);
        });
    }
}

/// The f32 of every number.
pub(crate) fn widen<E: Element>(numbers: &[E], out: &mut [f32]) {
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = number.widen();
    }
}

/// An always-resident matrix in memory of its own.
#[derive(Debug)]
pub struct Matrix {
    memory: Mapped,
    numbers: Numbers,
    rows: usize,
    cols: usize,
}

impl Matrix {
    /// Takes over a mapping that holds `rows * cols` numbers.
    ///
    /// Returns none when the mapping is too short.
    pub fn new(memory: Mapped, numbers: Numbers, rows: usize, cols: usize) -> Option<Self> {
        MatrixView::within(&memory, numbers, 0, rows, cols)?;
        Some(Self {
            memory,
            numbers,
            rows,
            cols,
        })
    }

    /// The matrix, borrowed.
    pub fn view(&self) -> MatrixView<'_> {
        let (len, cols) = (self.rows * self.cols, self.cols);
        match self.numbers {
            Numbers::F32 => MatrixView::F32 {
                data: &self.memory.numbers()[..len],
                cols,
            },
            Numbers::Bf16 => MatrixView::Bf16 {
                data: &self.memory.numbers()[..len],
                cols,
            },
            Numbers::F16 => MatrixView::F16 {
                data: &self.memory.numbers()[..len],
                cols,
            },
        }
    }

    /// Its product with every row of x `[x_rows, cols]`, `[x_rows, rows]`; `scratch` is reused between calls.
    pub fn product(&self, x: &[f32], scratch: &mut Vec<f32>) -> Vec<f32> {
        let x_rows = x.len() / self.cols;
        let mut y = vec![0.0; x_rows * self.rows];
        matmul(self.view(), x, x_rows, &mut y, scratch);
        y
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// Rows of weights that one task of a parallel section multiplies: whole tiles of [`multiply`].
const BLOCK_ROWS: usize = 48;

/// Work below this many multiplications is not worth a second thread.
const PARALLEL_FROM: usize = 1 << 16;

/// Rows of a result that are gathered from its transpose together: half a cache line of each row of that.
const GATHERED_ROWS: usize = 8;

/// Results of fewer numbers are not worth a second thread to gather them.
const PARALLEL_GATHER_FROM: usize = 1 << 15;

/// `y[r] = w x[r]` for every row: x `[x_rows, cols]`, y `[x_rows, w.rows()]`; `scratch` is reused between calls.
pub fn matmul(w: MatrixView<'_>, x: &[f32], x_rows: usize, y: &mut [f32], scratch: &mut Vec<f32>) {
    let rows = w.rows();
    assert_eq!(y.len(), rows * x_rows, "output of the wrong length");
    if x_rows == 0 {
        return;
    }
    if x_rows == 1 {
        columns(w, x, 1, y);
        return;
    }
    scratch.resize(rows * x_rows, 0.0);
    columns(w, x, x_rows, scratch);
    gather(scratch, x_rows, y, rows);
}

/// `y[r, o] = transposed[o, r]`.
// Pairs of iterators are calls here that the compiler does not inline.
#[allow(clippy::needless_range_loop)]
fn gather(transposed: &[f32], x_rows: usize, y: &mut [f32], rows: usize) {
    let some = |(block, y): (usize, &mut [f32])| {
        let (first, count) = (block * GATHERED_ROWS, y.len() / rows);
        for o in 0..rows {
            let from = o * x_rows + first;
            let sums = &transposed[from..from + count];
            for r in 0..count {
                y[r * rows + o] = sums[r];
            }
        }
    };
    if y.len() < PARALLEL_GATHER_FROM {
        y.chunks_mut(rows * GATHERED_ROWS)
            .enumerate()
            .for_each(some);
    } else {
        y.par_chunks_mut(rows * GATHERED_ROWS)
            .enumerate()
            .for_each(some);
    }
}

/// The transposed product `[w.rows(), x_rows]`, its rows split over threads.
fn columns(w: MatrixView<'_>, x: &[f32], x_rows: usize, out: &mut [f32]) {
    if w.rows() * w.cols() * x_rows < PARALLEL_FROM {
        w.multiply_rows(0, x, x_rows, out);
        return;
    }
    out.par_chunks_mut(BLOCK_ROWS * x_rows)
        .enumerate()
        .for_each(|(block, out)| {
            w.multiply_rows(block * BLOCK_ROWS, x, x_rows, out);
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_together_are_rows_alone_whatever_the_threads() {
        // Weight rows in several tasks, the last one short; rows of x gathered in several parts.
        let (rows, cols, x_rows) = (2 * BLOCK_ROWS + 5, 70, 3 * GATHERED_ROWS + 3);
        let number = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.5;
        let w: Vec<f32> = (0..rows * cols).map(number).collect();
        let x: Vec<f32> = (0..x_rows * cols).map(|i| number(i + 5)).collect();
        for times in [1, PARALLEL_GATHER_FROM.div_ceil(rows * x_rows)] {
            let (x, x_rows) = (x.repeat(times), x_rows * times);
            let view = MatrixView::F32 { data: &w, cols };
            // A buffer that is longer than needed, and not empty.
            let mut scratch = vec![9.0; rows * x_rows + 3];
            let (mut together, mut alone) = (vec![0.0; rows * x_rows], vec![0.0; rows]);
            matmul(view, &x, x_rows, &mut together, &mut scratch);
            for (x, together) in x.chunks_exact(cols).zip(together.chunks_exact(rows)) {
                matmul(view, x, 1, &mut alone, &mut scratch);
                assert!(
                    together
                        .iter()
                        .zip(&alone)
                        .all(|(a, b)| a.to_bits() == b.to_bits())
                );
            }
        }
    }
}
