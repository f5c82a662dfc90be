//! Dot products of numbers that each widen to an f32, over fixed lanes: the same bits on every instruction set.
//!
//! Number i of a row always goes to lane `i % LANES`; a lane sums its products in order of i, each with one fused
//! multiply-add, and begins at zero; what is left of a row after its whole blocks is filled up with zeros; the lanes are
//! folded by a fixed tree. So the result does not depend on the instruction set, on how many rows are computed together,
//! or on how rows are split over threads.

#[cfg(target_arch = "aarch64")]
mod arm;
mod fold;
mod panel;
mod register;
mod row;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use tiles::{Outputs, X_ROWS, XPanel};

use super::instructions::InstructionSet;
use crate::formats::Number;

/// The products as compiled for one instruction set: `$one` rows of weights at a time with one row of x, `$many` with
/// several, chosen so that all sums stay in registers.
macro_rules! compiled {
    ($name:ident, $register:ty, $one:literal, $many:literal $(, $features:literal)?) => {
        mod $name {
            use crate::formats::Number;
            use crate::kernels::dense::{Outputs, XPanel, row, tiles};

            $(#[target_feature(enable = $features)])?
            pub unsafe fn one<E: Number>(w: &[E], x: &[f32], out: &mut [f32]) {
                // SAFETY: the caller has this instruction set.
                unsafe { row::rows_by_row::<$register, E, $one>(w, x, out) };
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn lay_out(x: &[f32], rows: usize, cols: usize, numbers: &mut [f32]) {
                // SAFETY: as above.
                unsafe { tiles::lay_out::<$register>(x, rows, cols, numbers) };
            }

            $(#[target_feature(enable = $features)])?
            pub unsafe fn many<E: Number>(w: &[E], x: XPanel<'_>, out: Outputs, buffer: &mut [f32]) {
                // SAFETY: as above, and what the caller promises of `out`.
                unsafe { tiles::rows_by_rows::<$register, E, $many>(w, x, out, buffer) };
            }
        }
    };
}

compiled!(portable, crate::kernels::dense::register::Plain, 1, 3);
#[cfg(target_arch = "aarch64")]
compiled!(neon, crate::kernels::dense::arm::Neon, 2, 6, "neon");
#[cfg(target_arch = "x86_64")]
compiled!(
    avx2,
    crate::kernels::dense::x86::Avx2,
    2,
    3,
    "avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
compiled!(
    avx512,
    crate::kernels::dense::x86::Avx512,
    4,
    6,
    "avx512f,avx512bw,avx512vl,avx512dq"
);

/// Calls a function of the module that is compiled for an instruction set.
macro_rules! on {
    ($set:expr, $call:ident $(::<$e:ty>)? ($($argument:expr),*)) => {
        match $set {
            InstructionSet::Portable => portable::$call$(::<$e>)?($($argument),*),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => neon::$call$(::<$e>)?($($argument),*),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::$call$(::<$e>)?($($argument),*),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512::$call$(::<$e>)?($($argument),*),
        }
    };
}

/// `out[o] = w[o] · x` on the given instruction set; all give the same bits.
///
/// `w` is `[out.len(), x.len()]`. Panics if the lengths do not fit: shapes are checked when weights are loaded.
pub(crate) fn multiply_row<E: Number>(set: InstructionSet, w: &[E], x: &[f32], out: &mut [f32]) {
    assert!(!x.is_empty(), "an empty product");
    // SAFETY: `available` and `best` only hand out sets that the processor has.
    unsafe { on!(set, one::<E>(w, x, out)) };
}

/// Lays out rows of x `[rows, cols]` for [`multiply_panel`]; `buffer` is reused between calls.
pub(super) fn lay_out<'a>(
    set: InstructionSet,
    x: &[f32],
    rows: usize,
    cols: usize,
    buffer: &'a mut Vec<f32>,
) -> XPanel<'a> {
    let numbers = panel::aligned(buffer, XPanel::numbers(rows, cols));
    // SAFETY: as for `multiply_row`.
    unsafe { on!(set, lay_out(x, rows, cols, numbers)) };
    XPanel {
        numbers,
        rows,
        cols,
    }
}

/// Every row of `w` `[w_rows, cols]` times every row of x; `buffer` is reused between calls.
///
/// # Safety
/// `out` leads to places for `w_rows` outputs of every row of x, of which nobody else knows meanwhile.
pub(super) unsafe fn multiply_panel<E: Number>(
    set: InstructionSet,
    w: &[E],
    x: XPanel<'_>,
    out: Outputs,
    buffer: &mut Vec<f32>,
) {
    let buffer = panel::aligned(buffer, tiles::buffer_numbers(x.rows));
    // SAFETY: as for `multiply_row`, and what the caller promises.
    unsafe { on!(set, many::<E>(w, x, out, buffer)) };
}

/// Numbers of a buffer that [`lay_out`] lays rows out in.
pub(super) fn panel_numbers(rows: usize, cols: usize) -> usize {
    XPanel::numbers(rows, cols) + panel::ALIGNMENT
}

#[cfg(test)]
pub(super) mod tests {
    use super::fold::LANES;
    use super::*;
    use half::{bf16, f16};

    /// `out[o * x_rows + r] = w[o] · x[r]`.
    fn multiply<E: Number>(
        set: InstructionSet,
        w: &[E],
        cols: usize,
        x: &[f32],
        x_rows: usize,
        out: &mut [f32],
    ) {
        if x_rows == 1 {
            return multiply_row(set, w, x, out);
        }
        let (mut panel, mut buffer) = (vec![7.0; 3], Vec::new());
        let x = lay_out(set, x, x_rows, cols, &mut panel);
        let w_rows = w.len() / cols;
        let mut by_row = vec![f32::NAN; w_rows * x_rows];
        let places = Outputs {
            first: by_row.as_mut_ptr(),
            stride: w_rows,
        };
        // SAFETY: `by_row` has as many numbers, and is used here alone.
        unsafe { multiply_panel(set, w, x, places, &mut buffer) };
        for (at, out) in out.iter_mut().enumerate() {
            *out = by_row[at % x_rows * w_rows + at / x_rows];
        }
    }

    /// In [-0.5, 0.5), the same for the same seed.
    pub(in crate::kernels) fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn the_name_of_the_order_is_the_orders() {
        assert!(crate::kernels::SPEC.starts_with(&format!("dot-lanes-{LANES}/")));
    }

    /// Halves give the bits of the same numbers in f32, in every product.
    #[test]
    fn halves_multiply_as_what_they_widen_to() {
        for cols in [1, 31, 32, 77, 128] {
            for x_rows in [1, 2, 5, 9] {
                let x = numbers(5, cols * x_rows);
                let halves: Vec<f16> = numbers(6, cols * 6)
                    .iter()
                    .map(|w| f16::from_f32(*w))
                    .collect();
                let wide: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
                for set in InstructionSet::available() {
                    let [mut found, mut due] = [(); 2].map(|()| vec![0.0; 6 * x_rows]);
                    multiply(set, &halves, cols, &x, x_rows, &mut found);
                    multiply(set, &wide, cols, &x, x_rows, &mut due);
                    let bits =
                        |out: Vec<f32>| out.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                    assert_eq!(
                        bits(found),
                        bits(due),
                        "{set:?}, {cols} columns, {x_rows} rows"
                    );
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for cols in [1, 31, 32, 33, 128, 200] {
            for x_rows in [1, 2, 4, 5, 9] {
                let x = numbers(7, cols * x_rows);
                let w = numbers(3, cols * 6);
                let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
                let run = |set| {
                    let mut whole = vec![0.0; 6 * x_rows];
                    let mut half = vec![0.0; 6 * x_rows];
                    multiply(set, &w, cols, &x, x_rows, &mut whole);
                    multiply(set, &halves, cols, &x, x_rows, &mut half);
                    whole.extend(half);
                    whole.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let portable = run(InstructionSet::Portable);
                for set in InstructionSet::available() {
                    assert_eq!(
                        run(set),
                        portable,
                        "{set:?} differs at {cols} columns, {x_rows} rows"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_together_give_the_bits_of_rows_alone() {
        let (cols, x_rows) = (77, 7);
        let x = numbers(5, cols * x_rows);
        let w = numbers(9, cols * 3);
        let mut together = vec![0.0; 3 * x_rows];
        multiply(InstructionSet::best(), &w, cols, &x, x_rows, &mut together);
        for row in 0..x_rows {
            let mut alone = vec![0.0; 3];
            multiply(
                InstructionSet::best(),
                &w,
                cols,
                &x[row * cols..(row + 1) * cols],
                1,
                &mut alone,
            );
            for (o, alone) in alone.iter().enumerate() {
                assert_eq!(alone.to_bits(), together[o * x_rows + row].to_bits());
            }
        }
    }

    /// The order in its plainest form.
    fn by_definition(w: &[f32], x: &[f32]) -> f32 {
        let mut lanes = [0.0f32; LANES];
        for (i, (w, x)) in w.iter().zip(x).enumerate() {
            lanes[i % LANES] = w.mul_add(*x, lanes[i % LANES]);
        }
        // The zeros that fill up the last block: they make 0 of -0.
        for lane in &mut lanes[w.len() % LANES..] {
            *lane += if w.len().is_multiple_of(LANES) {
                -0.0
            } else {
                0.0
            };
        }
        for width in [16, 8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }

    /// Products of `w` as f32, or as the bf16 that its numbers are.
    fn product(
        set: InstructionSet,
        w: &[f32],
        is_half: bool,
        x: &[f32],
        x_rows: usize,
    ) -> Vec<f32> {
        let cols = x.len() / x_rows;
        let mut out = vec![f32::NAN; w.len() / cols * x_rows];
        if is_half {
            let w: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            multiply(set, &w, cols, x, x_rows, &mut out);
        } else {
            multiply(set, w, cols, x, x_rows, &mut out);
        }
        out
    }

    fn rounded_to_bf16(numbers: Vec<f32>) -> Vec<f32> {
        numbers
            .into_iter()
            .map(|number| bf16::from_f32(number).to_f32())
            .collect()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]

        #[test]
        fn every_output_is_the_dot_product_of_the_definition(
            cols in 1usize..300,
            w_rows in 1usize..12,
            x_rows in 1usize..24,
            seed in 0u64..1 << 40,
        ) {
            let w = rounded_to_bf16(numbers(seed, w_rows * cols));
            let x = numbers(seed + 1, x_rows * cols);
            for set in InstructionSet::available() {
                for is_half in [false, true] {
                    let out = product(set, &w, is_half, &x, x_rows);
                    for (o, w) in w.chunks_exact(cols).enumerate() {
                        for (r, x) in x.chunks_exact(cols).enumerate() {
                            let (is, due) = (out[o * x_rows + r], by_definition(w, x));
                            proptest::prop_assert_eq!(is.to_bits(), due.to_bits());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn weights_of_many_blocks_give_the_same_bits() {
        // More weights than are gone through at a time, with rows and columns left over.
        let (cols, w_rows, x_rows) = (8192 + 33, 32, 6);
        let w = rounded_to_bf16(numbers(11, w_rows * cols));
        let x = numbers(12, x_rows * cols);
        for set in InstructionSet::available() {
            for is_half in [false, true] {
                let out = product(set, &w, is_half, &x, x_rows);
                for (o, w) in w.chunks_exact(cols).enumerate() {
                    for (r, x) in x.chunks_exact(cols).enumerate() {
                        let due = by_definition(w, x);
                        assert_eq!(out[o * x_rows + r].to_bits(), due.to_bits(), "{set:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_in_its_row() {
        for (cols, at) in [(96, 40), (77, 70)] {
            let (w_rows, x_rows) = (7, 9);
            let w = rounded_to_bf16(numbers(21, w_rows * cols));
            let x = numbers(22, x_rows * cols);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for (set, is_half) in InstructionSet::available()
                    .into_iter()
                    .flat_map(|set| [(set, false), (set, true)])
                {
                    let clean = product(set, &w, is_half, &x, x_rows);
                    let (mut bad_w, mut bad_x) = (w.clone(), x.clone());
                    bad_w[4 * cols + at] = bad;
                    bad_x[5 * cols + at] = bad;
                    let with_x = product(set, &w, is_half, &bad_x, x_rows);
                    let with_w = product(set, &bad_w, is_half, &x, x_rows);
                    for (i, clean) in clean.iter().enumerate() {
                        let (o, r) = (i / x_rows, i % x_rows);
                        assert_eq!(with_x[i].is_finite(), r != 5, "{set:?}");
                        assert_eq!(with_w[i].is_finite(), o != 4, "{set:?}");
                        assert!(r == 5 || with_x[i].to_bits() == clean.to_bits(), "{set:?}");
                        assert!(o == 4 || with_w[i].to_bits() == clean.to_bits(), "{set:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_of_negative_zeros_are_the_definitions() {
        for cols in [5, 32, 45] {
            let (w, x) = (vec![-0.0; 4 * cols], vec![1.0; 5 * cols]);
            for set in InstructionSet::available() {
                for x_rows in [1, 5] {
                    let out = product(set, &w, false, &x[..x_rows * cols], x_rows);
                    let due = by_definition(&w[..cols], &x[..cols]);
                    assert!(
                        out.iter().all(|is| is.to_bits() == due.to_bits()),
                        "{set:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn dot_products_are_right() {
        let (cols, w) = (100, numbers(1, 100));
        let x = numbers(2, 100);
        let exact: f64 = w
            .iter()
            .zip(&x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum();
        let mut out = [0.0];
        multiply(InstructionSet::best(), &w, cols, &x, 1, &mut out);
        assert!(
            (f64::from(out[0]) - exact).abs() < 1e-5,
            "{} is not {exact}",
            out[0]
        );
    }
}
