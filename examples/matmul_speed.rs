//! How fast weights are multiplied: `cargo run --release --example matmul_speed [portable|avx2|avx512]`.
//!
//! For each shape of weights, in each format, prints the best of some tries in 10^9 multiplications a second for
//! one row of x and for several together. One row goes at the speed of memory, several at that of arithmetic.
//! `RAYON_NUM_THREADS=1` gives the speed of one thread.

use std::time::Instant;

use sage::formats::{WeightFormat, convert};
use sage::host_memory::Mapped;
use sage::kernels::{InstructionSet, MatrixView, matmul};

const SHAPES: [[usize; 2]; 5] = [
    [768, 2048],
    [2048, 768],
    [5120, 1280],
    [4304, 1152],
    [480, 4320],
];

const X_ROWS: [usize; 4] = [1, 4, 32, 128];

const TRIES: usize = 12;

fn main() {
    let set = match std::env::args().nth(1).as_deref() {
        Some("portable") => InstructionSet::Portable,
        Some("avx2") => InstructionSet::Avx2,
        Some("avx512") => InstructionSet::Avx512,
        _ => InstructionSet::best(),
    };
    if !set.prefer() {
        eprintln!("this processor has no {set:?}");
        std::process::exit(1);
    }
    println!("{set:?}, {} threads", rayon::current_num_threads());
    println!("weights      stored  {:>8?} rows of x", X_ROWS);
    for [rows, cols] in SHAPES {
        let whole: Vec<u8> = numbers(rows * cols)
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        for format in WeightFormat::ALL {
            let bytes = format.matrix_bytes(rows, cols).unwrap();
            let mut memory = Mapped::new(bytes).unwrap();
            convert(
                WeightFormat::F32,
                &whole,
                format,
                &mut memory.pages_mut()[..bytes],
            )
            .unwrap();
            let view = MatrixView::new(format, memory.bytes(), rows, cols).unwrap();
            print_speeds(format.option(), view);
        }
    }
}

fn print_speeds(stored: &str, w: MatrixView<'_>) {
    let (rows, cols) = (w.rows(), w.cols());
    print!("{:<12} {stored:<6}", format!("{rows}x{cols}"));
    for x_rows in X_ROWS {
        let x = numbers(x_rows * cols);
        let (mut y, mut scratch) = (vec![0.0; x_rows * rows], Vec::new());
        let seconds = (0..TRIES)
            .map(|_| {
                let start = Instant::now();
                matmul(w, &x, x_rows, &mut y, &mut scratch);
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        print!(" {:>7.1}", (rows * cols * x_rows) as f64 / seconds / 1e9);
    }
    println!();
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5)
        .collect()
}
