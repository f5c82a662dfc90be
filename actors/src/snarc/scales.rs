//! The scales that words and senses are measured by.

use crate::protocol::Salience;

/// Noise floor of cosines and normalised entropies.
pub(super) const FLOOR_SHARE: f64 = 0.02;
/// Deviations of a segment that are no surprise.
const USUAL_DEVIATIONS: f64 = 1.5;
/// Deviations beyond the usual that make a surprise of 1 − 1/e.
const SURPRISE_DEVIATIONS: f64 = 1.5;
/// Weight of the newest reading in a sensor's prediction.
pub(super) const SENSOR_RATE: f64 = 0.3;
/// Fewer episodes than this say nothing of novelty.
pub(super) const EPISODES_MIN: usize = 8;

/// Surprise of a segment that lies so many robust deviations above the usual.
pub(super) fn surprise(z: f64) -> f32 {
    (1.0 - libm::exp(-(z - USUAL_DEVIATIONS).max(0.0) / SURPRISE_DEVIATIONS)) as f32
}

pub(super) fn mean(s: &Salience) -> f32 {
    ((s.surprise + s.novelty + s.arousal + s.reward + s.conflict) / 5.0).clamp(0.0, 1.0)
}

/// In [0, 1]; what is not a number counts 0.
pub(super) fn unit(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) }
}
