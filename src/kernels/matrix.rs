//! Weight matrices as stored, and their products with f32 rows.

use half::{bf16, f16};
use rayon::prelude::*;

use super::lanes::{InstructionSet, multiply};
use crate::formats::{Number, WeightFormat, numbers_of, widen};
use crate::host_memory::Mapped;

/// A borrowed matrix `[rows, cols]`, row-major, in the format that it is stored in.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    format: WeightFormat,
    /// `rows * format.row_bytes(cols)` bytes, aligned to the format's numbers.
    bytes: &'a [u8],
    rows: usize,
    cols: usize,
    row_bytes: usize,
}

/// The same for a view's numbers, however they are stored. A view is made only of bytes that hold whole numbers.
macro_rules! whatever_stored {
    ($view:expr, $data:ident => $do:expr) => {
        match $view.format {
            WeightFormat::F32 => {
                let $data: &[f32] = $view.numbers();
                $do
            }
            WeightFormat::BF16 => {
                let $data: &[bf16] = $view.numbers();
                $do
            }
            WeightFormat::F16 => {
                let $data: &[f16] = $view.numbers();
                $do
            }
        }
    };
}

impl<'a> MatrixView<'a> {
    /// The matrix `[rows, cols]` that `bytes` begins with; none if it is longer than they are, has no columns, its rows
    /// are not whole blocks of the format, or the bytes are not aligned as its numbers must be.
    pub fn new(format: WeightFormat, bytes: &'a [u8], rows: usize, cols: usize) -> Option<Self> {
        let row_bytes = format.row_bytes(cols).filter(|bytes| *bytes > 0)?;
        let bytes = bytes.get(..format.matrix_bytes(rows, cols)?)?;
        let view = Self {
            format,
            bytes,
            rows,
            cols,
            row_bytes,
        };
        let is_aligned = match format {
            WeightFormat::F32 => numbers_of::<f32>(bytes).is_some(),
            WeightFormat::BF16 => numbers_of::<bf16>(bytes).is_some(),
            WeightFormat::F16 => numbers_of::<f16>(bytes).is_some(),
        };
        is_aligned.then_some(view)
    }

    /// How its numbers are stored.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Number of rows: the output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: the input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Its numbers, if T is what the format stores: [`Self::new`] has seen to length and alignment.
    fn numbers<T: Number>(&self) -> &'a [T] {
        numbers_of(self.bytes).unwrap_or_default()
    }

    /// `count` of its rows from `first` on; panics when there are not so many.
    fn rows_from(&self, first: usize, count: usize) -> Self {
        let bytes = &self.bytes[first * self.row_bytes..(first + count) * self.row_bytes];
        Self {
            bytes,
            rows: count,
            ..*self
        }
    }

    /// Widens row `row` into `out` `[cols]`; panics when there is no such row.
    pub fn widen_row(&self, row: usize, out: &mut [f32]) {
        let row = self.rows_from(row, 1);
        whatever_stored!(row, numbers => widen(numbers, out));
    }

    /// `out[o * x_rows + r] = self[first + o] · x[r]` for as many rows as `out` has room for.
    pub fn multiply_rows(&self, first: usize, x: &[f32], x_rows: usize, out: &mut [f32]) {
        let rows = self.rows_from(first, out.len() / x_rows);
        let set = InstructionSet::best();
        whatever_stored!(rows, numbers => multiply(set, numbers, self.cols, x, x_rows, out));
    }
}

/// An always-resident matrix in memory of its own.
#[derive(Debug)]
pub struct Matrix {
    memory: Mapped,
    format: WeightFormat,
    rows: usize,
    cols: usize,
    row_bytes: usize,
}

impl Matrix {
    /// Takes over a mapping that holds `rows * cols` numbers.
    ///
    /// Returns none when the mapping is too short.
    pub fn new(memory: Mapped, format: WeightFormat, rows: usize, cols: usize) -> Option<Self> {
        let row_bytes = MatrixView::new(format, memory.bytes(), rows, cols)?.row_bytes;
        Some(Self {
            memory,
            format,
            rows,
            cols,
            row_bytes,
        })
    }

    /// The matrix, borrowed.
    pub fn view(&self) -> MatrixView<'_> {
        MatrixView {
            format: self.format,
            bytes: &self.memory.bytes()[..self.rows * self.row_bytes],
            rows: self.rows,
            cols: self.cols,
            row_bytes: self.row_bytes,
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
            let stored: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
            let mut memory = Mapped::new(stored.len()).unwrap();
            memory.pages_mut()[..stored.len()].copy_from_slice(&stored);
            let view = MatrixView::new(WeightFormat::F32, memory.bytes(), rows, cols).unwrap();
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
