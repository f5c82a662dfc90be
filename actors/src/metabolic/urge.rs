//! How much a salience urges.

use crate::config::EnergyConfig;
use crate::protocol::Salience;

/// `1 − Π(1 − wᵢxᵢ)` over surprise, novelty, arousal, conflict and |2·reward − 1|, in [0, 1].
pub(super) fn urge(salience: &Salience, config: &EnergyConfig) -> f32 {
    let measured = [
        salience.surprise,
        salience.novelty,
        salience.arousal,
        salience.conflict,
    ];
    let calm = measured
        .iter()
        .zip(&config.drive_weights)
        .fold(1.0f32, |calm, (x, w)| calm * (1.0 - w * unit(*x)));
    let reward = (2.0 * unit(salience.reward) - 1.0).abs();
    1.0 - calm * (1.0 - config.drive_reward_weight * reward)
}

/// In [0, 1]; what is not a number counts 0.
pub(super) fn unit(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) }
}
