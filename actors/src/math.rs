//! Robust statistics shared by the actors. All transcendental functions are libm's.

use std::collections::VecDeque;

/// Values of the last segments (or tokens) that a new one is compared with.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    values: VecDeque<f64>,
}

impl Baseline {
    /// Values kept.
    pub const LENGTH: usize = 64;
    /// Fewer values than this say nothing.
    pub const WARM_UP: usize = 8;

    /// Robust z: (x − median) / (1.4826 · MAD + floor), where `floor` may depend on the median.
    /// None until there are enough values.
    pub fn z(&self, x: f64, floor: impl FnOnce(f64) -> f64) -> Option<f64> {
        if self.values.len() < Self::WARM_UP {
            return None;
        }
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        let middle = median(&mut sorted);
        for value in &mut sorted {
            *value = (*value - middle).abs();
        }
        let deviation = median(&mut sorted);
        Some((x - middle) / (1.4826 * deviation + floor(middle)))
    }

    /// `1 − exp(−max(z, 0) / 3)` of the robust z; 0 until there are enough values.
    pub fn squash(&self, x: f64, floor: impl FnOnce(f64) -> f64) -> f32 {
        self.z(x, floor).map_or(0.0, squash)
    }

    /// Remembers a value; the oldest goes.
    pub fn push(&mut self, x: f64) {
        if self.values.len() == Self::LENGTH {
            self.values.pop_front();
        }
        self.values.push_back(x);
    }
}

/// `1 − exp(−max(z, 0) / 3)`.
pub fn squash(z: f64) -> f32 {
    (1.0 - libm::exp(-z.max(0.0) / 3.0)) as f32
}

/// The median; the mean of the middle two of an even number. 0 of nothing.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half.wrapping_sub(1)), values.get(half)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => (below + above) / 2.0,
        (_, Some(middle)) => *middle,
        _ => 0.0,
    }
}

/// Φ: the distribution function of the standard normal distribution.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}
