//! Blocks of quantised numbers, byte for byte as GGML documents them.
//!
//! A row of weights is a sequence of blocks. Number i of a block is `d * scale[i / GROUP] * (stored[i] - BIAS) -
//! d_min * min[i / GROUP]`: stored numbers are unsigned after [`Blocks::unpack`], scales and mins are small integers, and
//! d and d_min are halves. Blocks of 32 have one group, whose scale is 1.

// Iterators over arrays are calls that the compiler does not always inline.
#![allow(clippy::needless_range_loop)]

use half::f16;

use super::Number;

/// Groups of a block, at most.
pub(crate) const MOST_GROUPS: usize = 16;

/// Numbers of a block, at most.
pub(crate) const MOST_NUMBERS: usize = 256;

/// A block format.
pub(crate) trait Blocks: Copy + Send + Sync + 'static {
    /// Numbers of a block.
    const NUMBERS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Numbers of a block that share an integer scale.
    const GROUP: usize;
    /// What is taken from every unsigned number.
    const BIAS: i32;
    /// Whether groups have mins.
    const HAS_MINS: bool = false;
    /// Where d stands in a block, in bytes.
    const D_AT: usize = 0;
    /// Where d_min stands.
    const D_MIN_AT: usize = 0;

    /// The unsigned numbers of a block of `BYTES` bytes, to the first `NUMBERS` of `out`.
    fn unpack(block: &[u8], out: &mut [u8; MOST_NUMBERS]);

    /// Scales and mins of the groups of a block.
    fn scales(_block: &[u8]) -> ([i16; MOST_GROUPS], [i16; MOST_GROUPS]) {
        ([1; MOST_GROUPS], [0; MOST_GROUPS])
    }

    /// d of a block.
    #[inline(always)]
    fn d(block: &[u8]) -> f32 {
        half_at(block, Self::D_AT)
    }

    /// d_min of a block; 0 without mins.
    #[inline(always)]
    fn d_min(block: &[u8]) -> f32 {
        if Self::HAS_MINS {
            half_at(block, Self::D_MIN_AT)
        } else {
            0.0
        }
    }
}

/// The bits of the half at byte `at` of a block.
#[inline(always)]
pub(crate) fn half_bits(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    // Without asking what the processor can.
    f16::from_bits(half_bits(block, at)).widen()
}

/// N bytes of a block from the byte `at` on, as a copy: the compiler knows that nothing else writes to it, and works on
/// whole registers.
#[inline(always)]
fn taken<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    assert!(at + N <= block.len(), "a block that is cut off");
    // SAFETY: the block has so many bytes there. A copy of slices would be a call in functions as large as the kernels'.
    unsafe { block.as_ptr().add(at).cast::<[u8; N]>().read_unaligned() }
}

/// Writes N unpacked numbers from the number `at` on.
#[inline(always)]
fn put<const N: usize>(numbers: [u8; N], at: usize, out: &mut [u8; MOST_NUMBERS]) {
    assert!(at + N <= MOST_NUMBERS, "more numbers than a block has");
    // SAFETY: there is room for so many.
    unsafe {
        out.as_mut_ptr()
            .add(at)
            .cast::<[u8; N]>()
            .write_unaligned(numbers)
    };
}

/// 32 signed bytes behind a half.
#[derive(Clone, Copy)]
pub(crate) struct Q8_0;

impl Blocks for Q8_0 {
    const NUMBERS: usize = 32;
    const BYTES: usize = 34;
    const GROUP: usize = 32;
    const BIAS: i32 = 128;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [u8; MOST_NUMBERS]) {
        let mut numbers = taken::<32>(block, 2);
        for at in 0..32 {
            numbers[at] ^= 0x80;
        }
        put(numbers, 0, out);
    }
}

/// Stores numbers as blocks of [`Q8_0`], with the bits of GGML's reference quantiser: the scale is the largest magnitude
/// divided by 127, rounded to a half behind the division of the numbers by it. Both lengths are of whole blocks, equally many.
pub(crate) fn pack_q8_0(numbers: &[f32], out: &mut [u8]) {
    let blocks = out.as_chunks_mut::<{ Q8_0::BYTES }>().0;
    for (numbers, block) in numbers
        .as_chunks::<{ Q8_0::NUMBERS }>()
        .0
        .iter()
        .zip(blocks)
    {
        let largest = numbers
            .iter()
            .fold(0.0_f32, |largest, number| largest.max(number.abs()));
        let scale = largest / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let (d, stored) = block.split_at_mut(2);
        d.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (stored, number) in stored.iter_mut().zip(numbers) {
            *stored = (libm::roundf(number * inverse) as i8).cast_unsigned();
        }
    }
}

/// 32 numbers of four bits behind a half: the first 16 in the lower halves of the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Q4_0;

impl Blocks for Q4_0 {
    const NUMBERS: usize = 32;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const BIAS: i32 = 8;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [u8; MOST_NUMBERS]) {
        let stored = taken::<16>(block, 2);
        let mut numbers = [0; 32];
        for at in 0..16 {
            numbers[at] = stored[at] & 15;
            numbers[at + 16] = stored[at] >> 4;
        }
        put(numbers, 0, out);
    }
}

/// 256 numbers of four bits in groups of 32, with scales and mins of six bits.
#[derive(Clone, Copy)]
pub(crate) struct Q4K;

impl Blocks for Q4K {
    const NUMBERS: usize = 256;
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const BIAS: i32 = 0;
    const HAS_MINS: bool = true;
    const D_MIN_AT: usize = 2;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [u8; MOST_NUMBERS]) {
        for part in 0..4 {
            let stored = taken::<32>(block, 16 + part * 32);
            let mut numbers = [0; 64];
            for at in 0..32 {
                numbers[at] = stored[at] & 15;
                numbers[at + 32] = stored[at] >> 4;
            }
            put(numbers, part * 64, out);
        }
    }

    #[inline(always)]
    fn scales(block: &[u8]) -> ([i16; MOST_GROUPS], [i16; MOST_GROUPS]) {
        let (mut scales, mut mins) = ([0; MOST_GROUPS], [0; MOST_GROUPS]);
        let packed = &block[4..16];
        for group in 0..4 {
            scales[group] = i16::from(packed[group] & 63);
            mins[group] = i16::from(packed[group + 4] & 63);
            // The upper two bits of the last four stand above those of the first.
            let upper = |byte: u8| (byte >> 6) << 4;
            scales[group + 4] = i16::from((packed[group + 8] & 15) | upper(packed[group]));
            mins[group + 4] = i16::from((packed[group + 8] >> 4) | upper(packed[group + 4]));
        }
        (scales, mins)
    }
}

/// 256 numbers of six bits in groups of 16, with signed scales of eight bits.
#[derive(Clone, Copy)]
pub(crate) struct Q6K;

impl Blocks for Q6K {
    const NUMBERS: usize = 256;
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const BIAS: i32 = 32;
    const D_AT: usize = 208;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [u8; MOST_NUMBERS]) {
        for part in 0..2 {
            let lower = taken::<64>(block, part * 64);
            let upper = taken::<32>(block, 128 + part * 32);
            let mut numbers = [0; 128];
            for at in 0..32 {
                let upper = upper[at];
                numbers[at] = (lower[at] & 15) | (upper & 3) << 4;
                numbers[at + 32] = (lower[at + 32] & 15) | (upper >> 2 & 3) << 4;
                numbers[at + 64] = (lower[at] >> 4) | (upper >> 4 & 3) << 4;
                numbers[at + 96] = (lower[at + 32] >> 4) | (upper >> 6) << 4;
            }
            put(numbers, part * 128, out);
        }
    }

    #[inline(always)]
    fn scales(block: &[u8]) -> ([i16; MOST_GROUPS], [i16; MOST_GROUPS]) {
        let mut scales = [0; MOST_GROUPS];
        let stored = taken::<16>(block, 192);
        for group in 0..16 {
            scales[group] = i16::from(stored[group] as i8);
        }
        (scales, [0; MOST_GROUPS])
    }
}

/// 256 numbers of two bits in groups of 16, with scales and mins of four bits.
#[derive(Clone, Copy)]
pub(crate) struct Q2K;

impl Blocks for Q2K {
    const NUMBERS: usize = 256;
    const BYTES: usize = 84;
    const GROUP: usize = 16;
    const BIAS: i32 = 0;
    const HAS_MINS: bool = true;
    const D_AT: usize = 80;
    const D_MIN_AT: usize = 82;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [u8; MOST_NUMBERS]) {
        for part in 0..2 {
            let stored = taken::<32>(block, 16 + part * 32);
            let mut numbers = [0; 128];
            for at in 0..32 {
                numbers[at] = stored[at] & 3;
                numbers[at + 32] = stored[at] >> 2 & 3;
                numbers[at + 64] = stored[at] >> 4 & 3;
                numbers[at + 96] = stored[at] >> 6;
            }
            put(numbers, part * 128, out);
        }
    }

    #[inline(always)]
    fn scales(block: &[u8]) -> ([i16; MOST_GROUPS], [i16; MOST_GROUPS]) {
        let (mut scales, mut mins) = ([0; MOST_GROUPS], [0; MOST_GROUPS]);
        let stored = taken::<16>(block, 0);
        for group in 0..16 {
            scales[group] = i16::from(stored[group] & 15);
            mins[group] = i16::from(stored[group] >> 4);
        }
        (scales, mins)
    }
}

/// The f32 of every number of some blocks: `d * scale * (stored - BIAS) - d_min * min`, each product rounded.
pub(crate) fn widen_blocks<B: Blocks>(blocks: &[u8], out: &mut [f32]) {
    let mut numbers = [0; MOST_NUMBERS];
    for (block, out) in blocks
        .chunks_exact(B::BYTES)
        .zip(out.chunks_exact_mut(B::NUMBERS))
    {
        B::unpack(block, &mut numbers);
        let (d, d_min) = (B::d(block), B::d_min(block));
        let (scales, mins) = B::scales(block);
        let groups = out
            .chunks_exact_mut(B::GROUP)
            .zip(numbers.chunks_exact(B::GROUP));
        for (group, (out, numbers)) in groups.enumerate() {
            let scale = d * f32::from(scales[group]);
            let min = d_min * f32::from(mins[group]);
            for (out, number) in out.iter_mut().zip(numbers) {
                let number = (i32::from(*number) - B::BIAS) as f32;
                *out = if B::HAS_MINS {
                    scale * number - min
                } else {
                    scale * number
                };
            }
        }
    }
}
