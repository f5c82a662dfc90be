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
        if !self.is_warm() {
            return None;
        }
        let (middle, deviation) = self.spread();
        Some((x - middle) / (1.4826 * deviation + floor(middle)))
    }

    /// As [`Baseline::z`], of a value of a kind that `kin` holds apart, and that may by its nature be greater than the rest:
    /// above the larger of both middles, in units of the larger spread. While `kin` has too few values for a middle, its
    /// greatest stands for it; with fewer than `least` it says nothing.
    pub fn z_of_kind(
        &self,
        x: f64,
        kin: &Self,
        least: usize,
        floor: impl FnOnce(f64) -> f64,
    ) -> Option<f64> {
        if kin.values.len() < least {
            return self.z(x, floor);
        }
        if !self.is_warm() {
            return None;
        }
        let (mut middle, mut deviation) = self.spread();
        let (kin_middle, kin_deviation) = kin.spread();
        let usual = match kin.is_warm() {
            true => kin_middle,
            false => kin.values.iter().copied().fold(kin_middle, f64::max),
        };
        middle = middle.max(usual);
        deviation = deviation.max(kin_deviation);
        Some((x - middle) / (1.4826 * deviation + floor(middle)))
    }

    fn is_warm(&self) -> bool {
        self.values.len() >= Self::WARM_UP
    }

    /// The median, and the median distance from it.
    fn spread(&self) -> (f64, f64) {
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        let middle = median(&mut sorted);
        for value in &mut sorted {
            *value = (*value - middle).abs();
        }
        (middle, median(&mut sorted))
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
