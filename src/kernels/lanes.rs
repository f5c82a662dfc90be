//! Dot products over fixed lanes: the same bits on every instruction set.
//!
//! Element i of a row always goes to lane `i % LANES`; a lane sums its products in order of i with separate
//! multiply and add (never fused); the lanes are folded by a fixed tree. So the result does not depend on the
//! instruction set, on how many rows are computed together, or on how rows are split over threads.

use half::bf16;

/// Lanes of a dot product: two 512-bit, four 256-bit or eight 128-bit registers.
pub const LANES: usize = 32;

/// A stored number that widens to f32 without rounding.
pub trait Element: Copy + Send + Sync + 'static {
    /// The f32 of the same value.
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Folds the lanes in the order 16, 8, 4, 2, 1.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `out[r] = w · x_r` for N rows of x, the weights widened once.
#[inline(always)]
fn dot_block<E: Element, const N: usize>(w: &[E], x: [&[f32]; N], out: &mut [f32; N]) {
    let mut lanes = [[0.0f32; LANES]; N];
    let whole = w.len() / LANES * LANES;
    let mut at = 0;
    while at < whole {
        let weights: &[E] = &w[at..at + LANES];
        for (lanes, x) in lanes.iter_mut().zip(x) {
            let x: &[f32] = &x[at..at + LANES];
            for lane in 0..LANES {
                lanes[lane] += weights[lane].widen() * x[lane];
            }
        }
        at += LANES;
    }
    for (lanes, x) in lanes.iter_mut().zip(x) {
        for (lane, (weight, x)) in w[whole..].iter().zip(&x[whole..]).enumerate() {
            lanes[lane] += weight.widen() * x;
        }
    }
    for (out, lanes) in out.iter_mut().zip(lanes) {
        *out = fold(lanes);
    }
}

/// Weight row times every row of x: `out[r] = w · x[r]`, x `[rows, cols]`, out `[rows]`.
#[inline(always)]
fn dot_rows<E: Element>(w: &[E], x: &[f32], out: &mut [f32]) {
    let cols = w.len();
    let mut row = 0;
    while row + 4 <= out.len() {
        let base = row * cols;
        let mut block = [0.0; 4];
        let rows = [
            &x[base..base + cols],
            &x[base + cols..base + 2 * cols],
            &x[base + 2 * cols..base + 3 * cols],
            &x[base + 3 * cols..base + 4 * cols],
        ];
        dot_block(w, rows, &mut block);
        out[row..row + 4].copy_from_slice(&block);
        row += 4;
    }
    for row in row..out.len() {
        let mut block = [0.0; 1];
        dot_block(w, [&x[row * cols..(row + 1) * cols]], &mut block);
        out[row] = block[0];
    }
}

/// Weight rows `w` `[out_rows, cols]` times rows of x: `out[o * x_rows + r]`.
#[inline(always)]
fn rows_by_rows<E: Element>(w: &[E], cols: usize, x: &[f32], x_rows: usize, out: &mut [f32]) {
    for (w, out) in w.chunks_exact(cols).zip(out.chunks_exact_mut(x_rows)) {
        dot_rows(w, x, out);
    }
}

static BEST: std::sync::OnceLock<InstructionSet> = std::sync::OnceLock::new();

/// An instruction set for which the kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Whatever the compiler's baseline is.
    Portable,
    /// 256-bit registers.
    Avx2,
    /// 512-bit registers.
    Avx512,
}

impl InstructionSet {
    /// The instruction sets of this processor, narrowest first.
    pub fn available() -> Vec<InstructionSet> {
        let mut sets = vec![InstructionSet::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                sets.push(InstructionSet::Avx2);
            }
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
            {
                sets.push(InstructionSet::Avx512);
            }
        }
        sets
    }

    /// Uses this one from now on, where nothing was computed yet; answers whether it will be used.
    pub fn prefer(self) -> bool {
        Self::available().contains(&self) && *BEST.get_or_init(|| self) == self
    }

    /// The widest one, found once, unless another was preferred.
    pub fn best() -> InstructionSet {
        *BEST.get_or_init(|| {
            Self::available()
                .last()
                .copied()
                .unwrap_or(InstructionSet::Portable)
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{Element, rows_by_rows};

    #[target_feature(enable = "avx2")]
    pub fn avx2<E: Element>(w: &[E], cols: usize, x: &[f32], x_rows: usize, out: &mut [f32]) {
        rows_by_rows(w, cols, x, x_rows, out);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub fn avx512<E: Element>(w: &[E], cols: usize, x: &[f32], x_rows: usize, out: &mut [f32]) {
        rows_by_rows(w, cols, x, x_rows, out);
    }
}

/// `out[o * x_rows + r] = w[o] · x[r]` on the given instruction set; all give the same bits.
///
/// `w` is `[out.len() / x_rows, cols]`, `x` is `[x_rows, cols]`. Panics if the lengths do not fit: shapes are
/// checked when weights are loaded.
pub fn multiply<E: Element>(
    set: InstructionSet,
    w: &[E],
    cols: usize,
    x: &[f32],
    x_rows: usize,
    out: &mut [f32],
) {
    assert!(
        cols > 0 && x_rows > 0,
        "an empty product: {cols} columns, {x_rows} rows"
    );
    assert_eq!(
        w.len() / cols * x_rows,
        out.len(),
        "output of the wrong length"
    );
    assert_eq!(x.len(), x_rows * cols, "input of the wrong length");
    match set {
        InstructionSet::Portable => rows_by_rows(w, cols, x, x_rows, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `available` and `best` only hand out sets that the processor has.
        InstructionSet::Avx2 => unsafe { wide::avx2(w, cols, x, x_rows, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 => unsafe { wide::avx512(w, cols, x, x_rows, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => rows_by_rows(w, cols, x, x_rows, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
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
