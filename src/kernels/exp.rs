//! The exponential of many numbers at once, with the bits of `libm::expf`.
//!
//! The algorithm is FreeBSD's `e_expf.c`, as libm has it: `x = k ln 2 + r`, a rational approximation of `e^r`, and a scaling by
//! `2^k`. Every operation is the same and in the same order; only the branches are choices between two values that are
//! both computed, so that the loop becomes vector code.

use super::instructions::InstructionSet;

/// `k` is counted for arguments beyond this magnitude, which is 1.5 ln 2; below it, it is -1, 0 or 1.
const BIG: u32 = 0x3f85_1592;
/// 0.5 ln 2.
const MIDDLE: u32 = 0x3eb1_7218;
/// 2^-14: up to here `e^x` is `1 + x`.
const TINY: u32 = 0x3900_0000;
/// From here on the result is infinite.
const OVERFLOW: f32 = 88.722_84;
/// Down to here the result is 0.
const UNDERFLOW: f32 = -103.972_084;

const LN2_HI: f32 = 6.931_457_5e-1;
const LN2_LO: f32 = 1.428_606_8e-6;
const INV_LN2: f32 = std::f32::consts::LOG2_E;
const P1: f32 = 1.666_662_5e-1;
const P2: f32 = -2.766_733_3e-3;

/// `e^x`, without a branch.
#[inline(always)]
fn exp_one(x: f32) -> f32 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    let sign = (x.to_bits() >> 31) as i32;
    // What is not in this range is answered below, whatever is computed for it.
    let inside = x > UNDERFLOW && x < OVERFLOW;
    let bounded = if inside { x } else { 0.0 };
    let half = if sign == 0 { 0.5 } else { -0.5 };
    // SAFETY: a number of magnitude below 151.
    let counted: i32 = unsafe { (INV_LN2 * bounded + half).to_int_unchecked() };
    let one = 1 - sign - sign;
    let small = if magnitude > MIDDLE { one } else { 0 };
    let k = if magnitude > BIG { counted } else { small };
    let of_k = k as f32;
    let hi = bounded - of_k * LN2_HI;
    let lo = of_k * LN2_LO;
    let r = hi - lo;
    let square = r * r;
    let c = r - square * (P1 + square * P2);
    let y = 1.0 + (r * c / (2.0 - c) - lo + hi);
    // In two steps, of which the first is exact, so that the result is rounded once.
    let first = k >> 1;
    let scaled = y * power_of_two(first) * power_of_two(k - first);
    let inner = if magnitude > TINY { scaled } else { 1.0 + x };
    let beyond = if x > 0.0 { f32::INFINITY } else { 0.0 };
    let known = if inside { inner } else { beyond };
    if magnitude > 0x7f80_0000 { x } else { known }
}

/// `2^k` for k in -126..=127.
#[inline(always)]
fn power_of_two(k: i32) -> f32 {
    f32::from_bits(((k + 127) << 23) as u32)
}

/// `x = e^x` for each; to be compiled for an instruction set.
#[inline(always)]
pub(super) fn exp_all(numbers: &mut [f32]) {
    for number in numbers {
        *number = exp_one(*number);
    }
}

#[inline(always)]
fn silu_times_all(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp_one(-*gate)) * up;
    }
}

#[cfg(target_arch = "x86_64")]
mod compiled {
    #[target_feature(enable = "avx2")]
    pub fn silu_times_avx2(gate: &mut [f32], up: &[f32]) {
        super::silu_times_all(gate, up);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub fn silu_times_avx512(gate: &mut [f32], up: &[f32]) {
        super::silu_times_all(gate, up);
    }
}

/// `gate = silu(gate) * up`, where `silu(x)` is `x / (1 + e^-x)`.
pub(crate) fn silu_times(gate: &mut [f32], up: &[f32]) {
    match InstructionSet::best() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `best` only answers with what the processor has.
        InstructionSet::Avx2 => unsafe { compiled::silu_times_avx2(gate, up) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 => unsafe { compiled::silu_times_avx512(gate, up) },
        InstructionSet::Portable => silu_times_all(gate, up),
        #[cfg(not(target_arch = "x86_64"))]
        _ => silu_times_all(gate, up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `step`-th f32 from its bits.
    fn differing(step: usize) -> Option<u32> {
        let mut wrong = (0..=u32::MAX).step_by(step).filter(|bits| {
            let x = f32::from_bits(*bits);
            exp_one(x).to_bits() != libm::expf(x).to_bits()
        });
        wrong.next()
    }

    #[test]
    fn exponentials_have_the_bits_of_libm() {
        assert_eq!(differing(4001).map(f32::from_bits), None);
        for edge in [
            BIG,
            MIDDLE,
            TINY,
            OVERFLOW.to_bits(),
            UNDERFLOW.to_bits(),
            0x7f80_0000,
            0,
        ] {
            for bits in edge.saturating_sub(2)..=edge + 2 {
                for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                    assert_eq!(exp_one(x).to_bits(), libm::expf(x).to_bits(), "{x}");
                }
            }
        }
    }

    #[test]
    #[ignore = "compares all numbers of 32 bits: two minutes"]
    fn every_exponential_has_the_bits_of_libm() {
        assert_eq!(differing(1).map(f32::from_bits), None);
    }

    #[test]
    fn gates_are_those_of_one_number_at_a_time() {
        let gates: Vec<f32> = (-300..300).map(|i| i as f32 / 2.9).collect();
        let ups: Vec<f32> = gates.iter().map(|gate| 3.0 - gate).collect();
        let mut together = gates.clone();
        silu_times(&mut together, &ups);
        for ((gate, up), is) in gates.iter().zip(&ups).zip(together) {
            let due = gate / (1.0 + libm::expf(-gate)) * up;
            assert_eq!(is.to_bits(), due.to_bits(), "{gate}");
        }
    }
}
