//! What counterfactuals say of experts.

use serde::{Deserialize, Serialize};

use crate::math::normal_cdf;

/// Tokens at which half of the mean increase is believed.
pub(super) const HALF_BELIEVED_TOKENS: f64 = 256.0;

/// The least deviation of a layer's Δ: differences below a thousandth of a nat mean nothing.
pub const DEVIATION_FLOOR_NATS: f64 = 0.001;

/// What was learned of one expert by denying it; decays with its record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Scored tokens that had used it, decayed.
    pub tokens: f64,
    /// Sum of their loss increases, nats, decayed alike.
    pub increase: f64,
    /// Φ as last brought into convergence; decays towards 0.5 as that does.
    pub brought_in: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            tokens: 0.0,
            increase: 0.0,
            brought_in: 0.5,
        }
    }
}

impl Evidence {
    pub(super) fn decay(&mut self, keep: f64) {
        self.tokens *= keep;
        self.increase *= keep;
        self.brought_in = 0.5 + (self.brought_in - 0.5) * keep;
    }

    /// Mean loss increase as far as it is believed, nats; 0 without evidence.
    pub fn shrunk(&self) -> f64 {
        self.increase / (self.tokens + HALF_BELIEVED_TOKENS)
    }

    fn is_scored(&self) -> bool {
        self.tokens > 0.0
    }
}

/// Φ(Δ / deviation) of every scored expert of a layer; none of one that was never scored.
pub fn convergences(layer: &[Evidence]) -> Vec<Option<f64>> {
    let scored = || layer.iter().filter(|evidence| evidence.is_scored());
    let count = scored().count().max(1) as f64;
    let mean = scored().map(Evidence::shrunk).sum::<f64>() / count;
    let square = |evidence: &Evidence| (evidence.shrunk() - mean) * (evidence.shrunk() - mean);
    let deviation = libm::sqrt(scored().map(square).sum::<f64>() / count).max(DEVIATION_FLOOR_NATS);
    let value = |evidence: &Evidence| {
        evidence
            .is_scored()
            .then(|| normal_cdf(evidence.shrunk() / deviation))
    };
    layer.iter().map(value).collect()
}
