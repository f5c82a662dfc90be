//! The arithmetic of each format in a loop without loads or stores: how fast this processor's units are.
//!
//! A turn of a loop is one block of the format for several rows of x and a register's worth of rows of weights: the integer
//! products of every group, their scales and mins, and the one multiplication and addition of floats that ends a block.

// Iterators over arrays are calls that the compiler does not always inline.
#![allow(clippy::needless_range_loop)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use sage::formats::WeightFormat;
use sage::kernels::InstructionSet;

/// The loop for a format's products on this processor's widest instruction set: turns in, products out.
pub fn of(format: WeightFormat) -> Option<fn(usize) -> u64> {
    let set = InstructionSet::best();
    let has_vnni = std::arch::is_x86_feature_detected!("avx512vnni");
    let loops = match (set, has_vnni) {
        (InstructionSet::Avx512, true) => Loops {
            floats: floats_512,
            blocks: [
                small_512,
                grouped_512::<8, true>,
                grouped_512::<4, false>,
                grouped_512::<4, true>,
            ],
        },
        (InstructionSet::Avx2, _) => Loops {
            floats: floats_256,
            blocks: [
                small_256,
                grouped_256::<8, true>,
                grouped_256::<4, false>,
                grouped_256::<4, true>,
            ],
        },
        _ => return None,
    };
    let [small, q4_k, q6_k, q2_k] = loops.blocks;
    Some(match format {
        WeightFormat::Q8_0 | WeightFormat::Q4_0 => small,
        WeightFormat::Q4_K => q4_k,
        WeightFormat::Q6_K => q6_k,
        WeightFormat::Q2_K => q2_k,
        _ => loops.floats,
    })
}

struct Loops {
    floats: fn(usize) -> u64,
    blocks: [fn(usize) -> u64; 4],
}

/// Makes each register one whose value the compiler does not know, without an instruction: it would compute equal ones once.
macro_rules! unknown {
    ($register:ident, $registers:ident) => {
        for at in 0..$registers.len() {
            // SAFETY: nothing is done.
            unsafe {
                asm!(
                    "/* {0} */",
                    inout($register) $registers[at],
                    options(nomem, nostack, preserves_flags)
                );
            }
        }
    };
}

/// A loop over registers of some width: `$rows` sums a register.
macro_rules! loops {
    ($floats:ident, $small:ident, $grouped:ident, $features:literal, $lanes:literal, $register:ident,
     $small_x:literal, $grouped_x:literal,
     $set_ps:ident, $fma:ident, $mul_ps:ident, $convert:ident,
     $set_i:ident, $dot:ident, $mullo:ident, $add:ident) => {
        fn $floats(turns: usize) -> u64 {
            #[target_feature(enable = $features)]
            fn run(turns: usize) -> u64 {
                let (a, b) = (black_box($set_ps(0.5)), black_box($set_ps(0.25)));
                let mut sums = black_box([$set_ps(0.0); 12]);
                for _ in 0..turns * 8 {
                    for at in 0..sums.len() {
                        sums[at] = $fma(a, b, sums[at]);
                    }
                }
                black_box(sums);
                (turns * 8 * sums.len() * $lanes) as u64
            }
            // SAFETY: chosen where the processor has the instructions.
            unsafe { run(turns) }
        }

        /// Blocks of 32 with one scale.
        fn $small(turns: usize) -> u64 {
            #[target_feature(enable = $features)]
            fn run(turns: usize) -> u64 {
                let (w, x) = (
                    black_box($set_i(0x0102_0304)),
                    black_box($set_i(0x0403_0201)),
                );
                let (d, x_scale) = (black_box($set_ps(0.5)), black_box($set_ps(0.25)));
                let start = black_box($set_i(0));
                let mut sums = black_box([$set_ps(0.0); $small_x]);
                for _ in 0..turns {
                    let mut totals = [start; $small_x];
                    unknown!($register, totals);
                    for _ in 0..8 {
                        for m in 0..$small_x {
                            totals[m] = $dot(totals[m], w, x);
                        }
                    }
                    for m in 0..$small_x {
                        sums[m] = $fma($convert(totals[m]), $mul_ps(d, x_scale), sums[m]);
                    }
                }
                black_box(sums);
                (turns * 32 * $small_x * $lanes) as u64
            }
            // SAFETY: chosen where the processor has the instructions.
            unsafe { run(turns) }
        }

        /// Blocks of 256 in groups of FOURS * 4, with a scale each, and a min where MINS.
        fn $grouped<const FOURS: usize, const MINS: bool>(turns: usize) -> u64 {
            #[target_feature(enable = $features)]
            fn run<const FOURS: usize, const MINS: bool>(turns: usize) -> u64 {
                let (w, x) = (
                    black_box($set_i(0x0102_0304)),
                    black_box($set_i(0x0403_0201)),
                );
                let (d, x_scale) = (black_box($set_ps(0.5)), black_box($set_ps(0.25)));
                let (scale, min, x_sum) = (
                    black_box($set_i(3)),
                    black_box($set_i(5)),
                    black_box($set_i(7)),
                );
                let start = black_box($set_i(0));
                let mut sums = black_box([$set_ps(0.0); $grouped_x]);
                let turns = turns / 8;
                for _ in 0..turns {
                    let (mut totals, mut taken) = ([start; $grouped_x], [start; $grouped_x]);
                    unknown!($register, totals);
                    for _ in 0..64 / FOURS {
                        let mut of_group = [start; $grouped_x];
                        unknown!($register, of_group);
                        for _ in 0..FOURS {
                            for m in 0..$grouped_x {
                                of_group[m] = $dot(of_group[m], w, x);
                            }
                        }
                        for m in 0..$grouped_x {
                            totals[m] = $add($mullo(of_group[m], scale), totals[m]);
                        }
                        if MINS {
                            let mut x_sums = [x_sum; $grouped_x];
                            unknown!($register, x_sums);
                            for m in 0..$grouped_x {
                                taken[m] = $add($mullo(min, x_sums[m]), taken[m]);
                            }
                        }
                    }
                    for m in 0..$grouped_x {
                        sums[m] = $fma($convert(totals[m]), $mul_ps(d, x_scale), sums[m]);
                        if MINS {
                            sums[m] = $fma($convert(taken[m]), $mul_ps(d, x_scale), sums[m]);
                        }
                    }
                }
                black_box(sums);
                (turns * 256 * $grouped_x * $lanes) as u64
            }
            // SAFETY: chosen where the processor has the instructions.
            unsafe { run::<FOURS, MINS>(turns) }
        }
    };
}

loops!(
    floats_512,
    small_512,
    grouped_512,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    16,
    zmm_reg,
    8,
    6,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_mul_ps,
    _mm512_cvtepi32_ps,
    _mm512_set1_epi32,
    _mm512_dpbusd_epi32,
    _mm512_mullo_epi32,
    _mm512_add_epi32
);

loops!(
    floats_256,
    small_256,
    grouped_256,
    "avx2,fma",
    8,
    ymm_reg,
    4,
    3,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_mul_ps,
    _mm256_cvtepi32_ps,
    _mm256_set1_epi32,
    dot_256,
    _mm256_mullo_epi32,
    _mm256_add_epi32
);

/// Four bytes of weights times four of x.
#[target_feature(enable = "avx2")]
fn dot_256(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
    let fours = _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
    _mm256_add_epi32(sum, fours)
}
