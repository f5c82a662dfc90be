use super::*;
use crate::formats::{Q2K, Q4_0, Q4K, Q6K, Q8_0, widen_blocks};
use crate::kernels::dense::tests::numbers;

/// Blocks of bytes at random, whose halves are finite.
fn blocks<B: Blocks>(seed: u64, count: usize) -> Vec<u8> {
    let noise = numbers(seed, count * B::BYTES);
    let mut bytes: Vec<u8> = noise.iter().map(|n| (n * 65_536.0) as i32 as u8).collect();
    for (at, block) in bytes.chunks_exact_mut(B::BYTES).enumerate() {
        let half = |at: usize| half::f16::from_f32((at % 7) as f32 / 64.0 - 0.03).to_le_bytes();
        block[B::D_AT..B::D_AT + 2].copy_from_slice(&half(at));
        if B::HAS_MINS {
            block[B::D_MIN_AT..B::D_MIN_AT + 2].copy_from_slice(&half(at + 3));
        }
    }
    bytes
}

fn products<B: RowBlocks>(set: InstructionSet, w: &[u8], x: &[f32], x_rows: usize) -> Vec<f32> {
    let row_bytes = x.len() / x_rows / B::NUMBERS * B::BYTES;
    let w_rows = w.len() / row_bytes;
    let mut y = vec![f32::NAN; w_rows * x_rows];
    let mut buffer = vec![5.0; 3];
    let x = round::<B>(set, x, x_rows, &mut buffer);
    // SAFETY: `y` has as many numbers, and is used here alone.
    unsafe { multiply::<B>(set, w, x, Outputs::of_rows(&mut y, w_rows)) };
    y
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Every set gives the bits of the plain form, rows together those of rows alone.
fn agrees<B: RowBlocks>(w: &[u8], x: &[f32], x_rows: usize) {
    let due = products::<B>(InstructionSet::Portable, w, x, x_rows);
    let w_rows = due.len() / x_rows;
    for set in InstructionSet::available() {
        let found = products::<B>(set, w, x, x_rows);
        assert_eq!(
            bits(&found),
            bits(&due),
            "{} on {set:?}, {x_rows} rows",
            std::any::type_name::<B>()
        );
        for (x, together) in x
            .chunks_exact(x.len() / x_rows)
            .zip(found.chunks_exact(w_rows))
        {
            assert_eq!(
                bits(&products::<B>(set, w, x, 1)),
                bits(together),
                "{set:?}"
            );
        }
    }
}

fn agrees_at_random<B: RowBlocks>(seed: u64) {
    for (count, w_rows, x_rows) in [(1, 1, 1), (2, 7, 2), (3, 17, 5), (2, 40, 9)] {
        let w = blocks::<B>(seed + count as u64, w_rows * count);
        agrees::<B>(&w, &numbers(seed + 9, x_rows * count * B::NUMBERS), x_rows);
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for seed in 0..6 {
        agrees_at_random::<Q8_0>(seed);
        agrees_at_random::<Q4_0>(seed);
        agrees_at_random::<Q4K>(seed);
        agrees_at_random::<Q6K>(seed);
        agrees_at_random::<Q2K>(seed);
    }
}

/// Every byte of the weights the same, x at its largest and smallest: sums of 16 bits would be beyond their room.
fn holds_extremes<B: RowBlocks>() {
    for byte in [0x00, 0x7f, 0x80, 0x81, 0xff] {
        let mut w = vec![byte; B::BYTES * 20];
        for block in w.chunks_exact_mut(B::BYTES) {
            block[B::D_AT..B::D_AT + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
            if B::HAS_MINS {
                block[B::D_MIN_AT..B::D_MIN_AT + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
            }
        }
        for sign in [1.0, -1.0] {
            agrees::<B>(&w, &vec![127.0 * sign; 3 * 2 * B::NUMBERS], 3);
        }
        let alternating: Vec<f32> = (0..2 * B::NUMBERS)
            .map(|at| if at % 2 == 0 { 127.0 } else { -127.0 })
            .collect();
        agrees::<B>(&w, &alternating, 1);
    }
}

#[test]
fn the_largest_numbers_saturate_nothing() {
    holds_extremes::<Q8_0>();
    holds_extremes::<Q4_0>();
    holds_extremes::<Q4K>();
    holds_extremes::<Q6K>();
    holds_extremes::<Q2K>();
    // One block of -128 times 127: by hand.
    let mut w = vec![0x80; 34];
    w[..2].copy_from_slice(&half::f16::ONE.to_le_bytes());
    assert_eq!(
        products::<Q8_0>(InstructionSet::best(), &w, &[127.0; 32], 1),
        [-128.0 * 127.0 * 32.0]
    );
}

/// The product of widened weights with x as it is, within what rounding x to bytes costs.
fn is_near<B: RowBlocks>() {
    let (count, w_rows) = (4, 9);
    let w = blocks::<B>(3, w_rows * count);
    let cols = count * B::NUMBERS;
    let x = numbers(4, cols);
    let mut wide = vec![0.0; w_rows * cols];
    widen_blocks::<B>(&w, &mut wide);
    let found = products::<B>(InstructionSet::best(), &w, &x, 1);
    for (w, found) in wide.chunks_exact(cols).zip(found) {
        let exact: f64 = w
            .iter()
            .zip(&x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum();
        let norm: f64 = w.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
        // x is below 1/2, so a byte's step below 1/254; its error is even within half a step.
        let bound = 6.0 * norm / 254.0 / 12f64.sqrt();
        assert!(
            (f64::from(found) - exact).abs() <= bound,
            "{}: {found}, {exact}",
            std::any::type_name::<B>()
        );
    }
}

#[test]
fn products_are_right_but_for_the_rounding_of_x() {
    is_near::<Q8_0>();
    is_near::<Q4_0>();
    is_near::<Q4K>();
    is_near::<Q6K>();
    is_near::<Q2K>();
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    let (cols, w_rows) = (512, 5);
    let w = blocks::<Q4K>(8, w_rows * 2);
    let mut x = numbers(2, 3 * cols);
    let clean = products::<Q4K>(InstructionSet::best(), &w, &x, 3);
    x[cols + 300] = f32::INFINITY;
    let found = products::<Q4K>(InstructionSet::best(), &w, &x, 3);
    for (at, (clean, found)) in clean.iter().zip(&found).enumerate() {
        let is_hit = at / w_rows == 1;
        assert_eq!(found.is_nan(), is_hit);
        assert!(is_hit || clean.to_bits() == found.to_bits());
    }
}
