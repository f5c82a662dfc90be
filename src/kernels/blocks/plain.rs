//! Integer products in their plainest form: what every other form of them has the bits of.

use super::rounded::RoundedStrip;
use crate::formats::{Blocks, MOST_NUMBERS};

/// `w · x` for one row of blocks and a strip of one row.
#[inline(always)]
pub(super) fn dot<B: Blocks>(w: &[u8], x: RoundedStrip<'_>) -> f32 {
    let mut numbers = [0; MOST_NUMBERS];
    let mut sum = 0.0f32;
    let groups_of_block = B::NUMBERS / B::GROUP;
    let x_blocks = x
        .bytes
        .chunks_exact(B::NUMBERS)
        .zip(x.sums.chunks_exact(groups_of_block));
    for ((block, (bytes, sums)), x_scale) in w.chunks_exact(B::BYTES).zip(x_blocks).zip(x.scales) {
        B::unpack(block, &mut numbers);
        let (scales, mins) = B::scales(block);
        let (mut total, mut taken) = (0, 0);
        let groups = numbers
            .chunks_exact(B::GROUP)
            .zip(bytes.chunks_exact(B::GROUP));
        for (group, (numbers, bytes)) in groups.take(groups_of_block).enumerate() {
            let mut of_group = 0;
            for (number, byte) in numbers.iter().zip(bytes) {
                of_group += i32::from(*number) * i32::from(*byte);
            }
            let x_sum = i32::from(sums[group]);
            total += i32::from(scales[group]) * (of_group - B::BIAS * x_sum);
            taken += i32::from(mins[group]) * x_sum;
        }
        sum = (total as f32).mul_add(B::d(block) * x_scale, sum);
        if B::HAS_MINS {
            sum = (-(taken as f32)).mul_add(B::d_min(block) * x_scale, sum);
        }
    }
    sum
}
