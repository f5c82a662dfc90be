//! The lanes of a sum, and the order in which they become one number.

/// Lanes of a dot product: two 512-bit, four 256-bit or eight 128-bit registers.
pub const LANES: usize = 32;

/// N sums of two lanes: lane i plus lane i + N.
#[inline(always)]
fn halved<const N: usize>(lanes: &[f32]) -> [f32; N] {
    let mut sums = [0.0; N];
    let mut lane = 0;
    while lane < N {
        sums[lane] = lanes[lane] + lanes[lane + N];
        lane += 1;
    }
    sums
}

/// Folds the lanes in the order 16, 8, 4, 2, 1.
#[inline(always)]
pub(super) fn fold(lanes: &[f32; LANES]) -> f32 {
    let lanes: [f32; 16] = halved(lanes);
    let lanes: [f32; 8] = halved(&lanes);
    let lanes: [f32; 4] = halved(&lanes);
    let lanes: [f32; 2] = halved(&lanes);
    lanes[0] + lanes[1]
}
