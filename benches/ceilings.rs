//! Products of stored weights against what this machine can do at most: one row of x against the rate at which the same
//! threads read the same pages, many rows against a loop of the same arithmetic that never leaves the registers.
//!
//! `cargo bench --bench ceilings` measures them all, `cargo bench --bench ceilings -- q4_k` those whose format says so;
//! `--quick` takes a sixteenth of the memory and one round. Every sample stands between two probes of its ceiling, and what
//! is shown is the median of the ratios, with the least and the greatest. `RAYON_NUM_THREADS` says how many threads.

#![allow(clippy::unwrap_used)] // a benchmark stops at the first thing that is wrong

#[cfg(target_arch = "x86_64")]
#[path = "ceilings/registers.rs"]
mod registers;
mod weights;

use std::time::Instant;

use rayon::prelude::*;
use sage::formats::WeightFormat;
use sage::kernels::{MatrixView, matmul, reading_rate};
use weights::{numbers, stored};

/// Numbers in a row of weights.
const COLS: usize = 2048;

/// Rows of one expert's gate matrix.
const EXPERT_ROWS: usize = 768;

/// What one row goes through: far more than any cache holds.
const MATRIX_BYTES: usize = 512 << 20;

/// Rows of x that share weights.
const X_ROWS: [usize; 3] = [8, 32, 128];

/// What a ceiling is measured with.
struct Effort {
    matrix_bytes: usize,
    rounds: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    // `cargo test --benches` passes nothing of use; `cargo bench` passes `--bench`.
    let effort = match has("--quick") || !has("--bench") {
        true => Effort {
            matrix_bytes: MATRIX_BYTES / 16,
            rounds: 1,
        },
        false => Effort {
            matrix_bytes: MATRIX_BYTES,
            rounds: 7,
        },
    };
    let names = arguments.iter().filter(|name| !name.starts_with("--"));
    let names: Vec<&String> = names.collect();
    let threads = rayon::current_num_threads();
    println!("{threads} threads; ratios to the ceiling: median [least, greatest]");
    for format in WeightFormat::ALL {
        let option = format.option();
        if names.is_empty() || names.iter().any(|name| option.contains(name.as_str())) {
            one_row(format, &effort);
            many_rows(format, &effort);
        }
    }
}

/// One row of x with a matrix that fills memory, against reading its pages.
fn one_row(format: WeightFormat, effort: &Effort) {
    let rows = effort.matrix_bytes / format.row_bytes(COLS).unwrap();
    let memory = stored(format, rows * COLS);
    let view = MatrixView::new(format, memory.bytes(), rows, COLS).unwrap();
    let bytes = rows * format.row_bytes(COLS).unwrap();
    let x = numbers(COLS);
    let (mut y, mut scratch) = (vec![0.0; rows], Vec::new());
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let found = compared(
        effort.rounds,
        || reading_rate(&memory.bytes()[..bytes]) / 1e9,
        || rate(timed(|| matmul(view, &x, 1, &mut y, &mut scratch))),
    );
    println!("{:6} one row    {found} of reading, GB/s", format.option());
}

/// Many rows of x with the matrices of experts that come from memory, against registers alone.
fn many_rows(format: WeightFormat, effort: &Effort) {
    let Some(peak) = peak(format) else {
        println!(
            "{:6} many rows  no loop of registers for this processor",
            format.option()
        );
        return;
    };
    let matrices =
        (effort.matrix_bytes / 4 / format.matrix_bytes(EXPERT_ROWS, COLS).unwrap()).max(2);
    let memory = stored(format, matrices * EXPERT_ROWS * COLS);
    let each = EXPERT_ROWS * format.row_bytes(COLS).unwrap();
    for x_rows in X_ROWS {
        let x = numbers(x_rows * COLS);
        let mut y = vec![0.0; x_rows * EXPERT_ROWS];
        let mut scratch = Vec::new();
        let products = (x_rows * EXPERT_ROWS * COLS) as f64;
        // About as much work for each number of rows.
        let times = (matrices * X_ROWS[0] / x_rows).max(2);
        let found = compared(effort.rounds, &peak, || {
            let seconds = timed(|| {
                for at in 0..times {
                    let bytes = &memory.bytes()[at % matrices * each..][..each];
                    let view = MatrixView::new(format, bytes, EXPERT_ROWS, COLS).unwrap();
                    matmul(view, &x, x_rows, &mut y, &mut scratch);
                }
            });
            products * times as f64 / seconds / 1e9
        });
        println!(
            "{:6} {x_rows:3} rows   {found} of registers, billions of products a second",
            format.option()
        );
    }
}

/// A loop of `format`'s arithmetic on every thread: billions of products a second.
fn peak(format: WeightFormat) -> Option<impl Fn() -> f64> {
    #[cfg(target_arch = "x86_64")]
    let one = registers::of(format)?;
    #[cfg(not(target_arch = "x86_64"))]
    let one = None::<fn(usize) -> u64>?;
    Some(move || {
        let turns = 400_000;
        let mut products = 0;
        let seconds = timed(|| {
            let threads = 0..rayon::current_num_threads();
            let counts = threads.into_par_iter().with_max_len(1).map(|_| one(turns));
            products = counts.sum::<u64>();
        });
        products as f64 / seconds / 1e9
    })
}

/// A rate beside its ceiling.
struct Found {
    rate: f64,
    ceiling: f64,
    ratios: Vec<f64>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ratios = &self.ratios;
        let (middle, last) = (ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
        let (rate, ceiling) = (self.rate, self.ceiling);
        write!(
            f,
            "{middle:.2} [{:.2}, {last:.2}]  ({rate:.1} : {ceiling:.1})",
            ratios[0]
        )
    }
}

/// Measures in turns: ceiling, rate, ceiling, rate, …, ceiling.
fn compared(rounds: usize, ceiling: impl Fn() -> f64, mut rate: impl FnMut() -> f64) -> Found {
    rate();
    let (mut before, mut found) = (ceiling(), Vec::new());
    for _ in 0..rounds {
        let rate = rate();
        let after = ceiling();
        let between = (before + after) / 2.0;
        found.push((rate / between, rate, between));
        before = after;
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (_, rate, ceiling) = found[found.len() / 2];
    Found {
        rate,
        ceiling,
        ratios: found.into_iter().map(|(ratio, ..)| ratio).collect(),
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
