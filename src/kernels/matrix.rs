//! Weight matrices as stored, and their products with f32 rows.

use std::cell::RefCell;

use half::{bf16, f16};
use rayon::prelude::*;

use super::blocks::{self, RoundedRows};
use super::dense::{self, Outputs, X_ROWS, XPanel};
use super::instructions::InstructionSet;
use crate::formats::{
    Number, Q2K, Q4_0, Q4K, Q6K, Q8_0, WeightFormat, numbers_of, widen, widen_blocks,
};
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

/// The same for a view's numbers where each stands for itself, and for its blocks where they do not. A view is made only
/// of bytes that hold whole numbers.
macro_rules! whatever_stored {
    ($view:expr, $data:ident => $do:expr, $blocks:ident => $do_blocks:expr) => {
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
            WeightFormat::Q8_0 => {
                type $blocks = Q8_0;
                $do_blocks
            }
            WeightFormat::Q4_0 => {
                type $blocks = Q4_0;
                $do_blocks
            }
            WeightFormat::Q4_K => {
                type $blocks = Q4K;
                $do_blocks
            }
            WeightFormat::Q6_K => {
                type $blocks = Q6K;
                $do_blocks
            }
            WeightFormat::Q2_K => {
                type $blocks = Q2K;
                $do_blocks
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
            _ => true,
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
    pub(super) fn numbers<T: Number>(&self) -> &'a [T] {
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
        self.widen_rows(row, &mut out[..self.cols]);
    }

    /// Widens as many rows as `out` has room for, from row `first` on; panics when there are not so many.
    pub fn widen_rows(&self, first: usize, out: &mut [f32]) {
        let rows = self.rows_from(first, out.len() / self.cols);
        whatever_stored!(rows, numbers => widen(numbers, out), B => widen_blocks::<B>(rows.bytes, out));
    }

    /// Rows of x `[x_rows, cols]` as products with this matrix read them; `scratch` is reused between calls.
    fn operand<'x>(&self, x: &'x [f32], x_rows: usize, scratch: &'x mut Vec<f32>) -> Operand<'x> {
        let set = InstructionSet::best();
        match self.format.is_plain() {
            true if x_rows == 1 => Operand::Row(x),
            true => Operand::Panel(dense::lay_out(set, x, x_rows, self.cols, scratch)),
            false => whatever_stored!(
                self, _numbers => Operand::Row(x),
                B => Operand::Rounded(blocks::round::<B>(set, x, x_rows, scratch))
            ),
        }
    }

    /// `count` rows from `first` on times every row of x, which is what [`Self::operand`] made of it.
    ///
    /// # Safety
    /// `out` leads to places for `count` outputs of every row of x, of which nobody else knows meanwhile.
    unsafe fn multiply(&self, first: usize, count: usize, x: Operand<'_>, out: Outputs) {
        let rows = self.rows_from(first, count);
        let set = InstructionSet::best();
        // SAFETY: as the caller promises.
        unsafe {
            match x {
                Operand::Row(x) => {
                    let out = std::slice::from_raw_parts_mut(out.at(0, 0), count);
                    whatever_stored!(rows, numbers => dense::multiply_row(set, numbers, x, out), _B => ());
                }
                Operand::Panel(x) => BUFFER.with_borrow_mut(|buffer| {
                    whatever_stored!(rows, numbers => dense::multiply_panel(set, numbers, x, out, buffer), _B => ());
                }),
                Operand::Rounded(x) => {
                    whatever_stored!(rows, _numbers => (), B => blocks::multiply::<B>(set, rows.bytes, x, out));
                }
            }
        }
    }

    /// As [`matmul`], on this thread alone.
    pub fn matmul_here(&self, x: &[f32], x_rows: usize, y: &mut [f32], scratch: &mut Vec<f32>) {
        matmul_with(*self, x, x_rows, y, scratch, usize::MAX);
    }
}

/// Rows of x as a product reads them.
#[derive(Clone, Copy)]
enum Operand<'x> {
    /// One, as it is.
    Row(&'x [f32]),
    /// Several, laid out.
    Panel(XPanel<'x>),
    /// Rounded to bytes.
    Rounded(RoundedRows<'x>),
}

thread_local! {
    /// Weights and sums of a task that multiplies several rows.
    static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
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

/// Rows of weights that one task of a parallel section multiplies: whole tiles on every instruction set.
const BLOCK_ROWS: usize = 48;

/// Work below this many multiplications is not worth a second thread.
const PARALLEL_FROM: usize = 1 << 16;

/// `y[r] = w x[r]` for every row: x `[x_rows, cols]`, y `[x_rows, w.rows()]`; `scratch` is reused between calls, and takes
/// what [`panel_bytes`](super::panel_bytes) says.
pub fn matmul(w: MatrixView<'_>, x: &[f32], x_rows: usize, y: &mut [f32], scratch: &mut Vec<f32>) {
    matmul_with(w, x, x_rows, y, scratch, PARALLEL_FROM);
}

/// [`matmul`] whose work is split over threads from so many multiplications on.
fn matmul_with(
    w: MatrixView<'_>,
    x: &[f32],
    x_rows: usize,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
    parallel_from: usize,
) {
    let (rows, cols) = (w.rows(), w.cols());
    assert_eq!(y.len(), rows * x_rows, "output of the wrong length");
    assert_eq!(x.len(), cols * x_rows, "input of the wrong length");
    let most_rows = match w.format.is_plain() {
        true => X_ROWS,
        false => blocks::X_ROWS,
    };
    for (x, y) in x
        .chunks(most_rows * cols)
        .zip(y.chunks_mut(most_rows * rows))
    {
        let x = w.operand(x, x.len() / cols, scratch);
        let out = Outputs::of_rows(y, rows);
        let block = |first: usize| {
            let count = BLOCK_ROWS.min(rows - first);
            // SAFETY: columns of y that no other block has.
            unsafe { w.multiply(first, count, x, out.from(first)) };
        };
        if rows * cols * x_rows < parallel_from {
            (0..rows).step_by(BLOCK_ROWS).for_each(block);
        } else {
            let blocks = (0..rows.div_ceil(BLOCK_ROWS)).into_par_iter();
            blocks.for_each(|at| block(at * BLOCK_ROWS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_together_are_rows_alone_whatever_the_threads() {
        // Weight rows in several tasks, the last one short; rows of x laid out in one panel, and in several.
        let (rows, cols, x_rows) = (2 * BLOCK_ROWS + 5, 70, 27);
        let number = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.5;
        let w: Vec<f32> = (0..rows * cols).map(number).collect();
        let x: Vec<f32> = (0..x_rows * cols).map(|i| number(i + 5)).collect();
        for times in [1, 2 * X_ROWS / x_rows] {
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
