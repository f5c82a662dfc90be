//! Products of stored weights with rows of x, one expert's run, and the checksum of an expert that was read.
//!
//! `cargo bench --bench kernels` runs them all, `cargo bench --bench kernels -- expert` those whose name says so, and
//! `cargo bench --bench kernels -- --test` each of them once. `RAYON_NUM_THREADS=1` gives the speed of one thread,
//! `SAGE_INSTRUCTIONS=portable` (or `avx2`, `avx512`) that of another instruction set than the widest one.
//!
//! An item is one multiplication. One row of x goes at the speed of memory, several at that of arithmetic.

#![allow(clippy::unwrap_used)] // a benchmark stops at the first thing that is wrong

mod weights;

use std::fmt;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use sage::formats::{GatedFormats, WeightFormat};
use sage::kernels::{InstructionSet, MatrixView, matmul};
use sage::model::experts::{ExpertScratch, ExpertShape, Gated};
use weights::{numbers, stored};

/// An expert of the released thinker.
const EXPERT: ExpertShape = ExpertShape {
    hidden: 2048,
    intermediate: 768,
};

/// Rows and columns: gate (as up) and down of an expert, a feed-forward matrix of the audio and of the vision tower, a
/// convolution of the audio tower.
const SHAPES: [[usize; 2]; 5] = [
    [768, 2048],
    [2048, 768],
    [5120, 1280],
    [4304, 1152],
    [480, 4320],
];

const X_ROWS: [usize; 4] = [1, 8, 32, 128];

fn main() {
    let asked = std::env::var("SAGE_INSTRUCTIONS");
    let set = match asked.as_deref() {
        Err(_) => InstructionSet::best(),
        Ok(name) => InstructionSet::from_name(name).unwrap_or_else(|| {
            stop(&format!(
                "SAGE_INSTRUCTIONS is {name:?}, no instruction set"
            ))
        }),
    };
    if !set.prefer() {
        stop(&format!("this processor has no {set:?}"));
    }
    println!("{set:?}, {} threads", rayon::current_num_threads());
    divan::main();
}

fn stop(problem: &str) -> ! {
    eprintln!("{problem}");
    std::process::exit(2);
}

/// One product: weights `[rows, cols]` in `format` with `x_rows` rows of x.
struct Product {
    format: WeightFormat,
    rows: usize,
    cols: usize,
    x_rows: usize,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (format, rows, cols) = (self.format.option(), self.rows, self.cols);
        write!(f, "{format} {rows}x{cols}, {} rows", self.x_rows)
    }
}

fn products() -> impl Iterator<Item = Product> {
    SHAPES.into_iter().flat_map(|[rows, cols]| {
        // Rows that are not whole blocks of a format are not stored in it.
        let fits = move |format: &WeightFormat| format.row_bytes(cols).is_some();
        let formats = WeightFormat::ALL.into_iter().filter(fits);
        formats.flat_map(move |format| {
            X_ROWS.into_iter().map(move |x_rows| Product {
                format,
                rows,
                cols,
                x_rows,
            })
        })
    })
}

#[divan::bench(args = products(), max_time = 1)]
fn product(bencher: Bencher<'_, '_>, case: &Product) {
    let &Product {
        format,
        rows,
        cols,
        x_rows,
    } = case;
    let memory = stored(format, rows * cols);
    let view = MatrixView::new(format, memory.bytes(), rows, cols).unwrap();
    let x = numbers(x_rows * cols);
    let (mut y, mut scratch) = (vec![0.0; x_rows * rows], Vec::new());
    bencher
        .counter(ItemsCount::new(rows * cols * x_rows))
        .bench_local(|| matmul(view, &x, x_rows, &mut y, &mut scratch));
}

/// One expert's work on the rows of a step that chose it.
struct Run {
    format: WeightFormat,
    rows: usize,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} rows", self.format.option(), self.rows)
    }
}

fn runs() -> impl Iterator<Item = Run> {
    WeightFormat::ALL
        .into_iter()
        .flat_map(|format| X_ROWS.into_iter().map(move |rows| Run { format, rows }))
}

#[divan::bench(args = runs(), max_time = 1)]
fn expert(bencher: Bencher<'_, '_>, case: &Run) {
    let &Run { format, rows } = case;
    let numbers_of_one = 3 * EXPERT.hidden * EXPERT.intermediate;
    let memory = stored(format, numbers_of_one);
    let gated = Gated::of_record(memory.bytes(), EXPERT, GatedFormats::all(format)).unwrap();
    let x = numbers(rows * EXPERT.hidden);
    let (mut out, mut scratch) = (vec![0.0; x.len()], ExpertScratch::default());
    bencher
        .counter(ItemsCount::new(numbers_of_one * rows))
        .bench_local(|| gated.apply(&x, rows, &mut out, &mut scratch));
}

/// Every expert's record is checked when it is read: 9 MiB in bf16.
#[divan::bench(args = WeightFormat::ALL)]
fn checksum(bencher: Bencher<'_, '_>, format: WeightFormat) {
    let bytes = EXPERT.bytes(GatedFormats::all(format)).unwrap();
    let memory = stored(format, 3 * EXPERT.hidden * EXPERT.intermediate);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| crc32fast::hash(&memory.bytes()[..bytes]));
}
