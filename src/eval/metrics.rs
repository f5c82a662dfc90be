//! What is measured of a document, of an item and of an arm's process.

use serde::{Deserialize, Serialize};

use crate::core::sampling::argmax;
use crate::reads::ReadBytes;

/// Sums over one document; every field but the last is the same in every run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentResult {
    /// Tokens predicted.
    pub tokens: u64,
    /// Negative log-likelihood, nats.
    pub nll: f64,
    /// Divergence of the oracle's prediction from the arm's, nats.
    pub kl: f64,
    /// Tokens where both hold the same token most likely.
    pub agreed: u64,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
    /// Router mass that wanted experts were denied, summed over layers.
    pub denied_mass: f64,
    /// Time of the steps.
    pub seconds: f64,
}

/// What an arm answered to one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The answer's text, without white space around it.
    pub answer: String,
    /// Whether it is the one expected.
    pub correct: bool,
    /// Tokens of prompt and answer.
    pub tokens: u64,
    /// Leased experts that were resident.
    pub hits: u64,
    /// Leased experts that were not.
    pub misses: u64,
    /// Logical bytes of the misses.
    pub miss_bytes: u64,
    /// Time from the request to the end of the answer.
    pub seconds: f64,
}

/// The end of a part: under what it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartConditions {
    /// Experts a token.
    pub k: u16,
    /// Capacity for resident experts, bytes.
    pub expert_bytes: u64,
    /// Residency bias of the state.
    pub lambda: f32,
    /// Salience bias of the state.
    pub beta: f32,
    /// Bytes that one decoded token may miss; none: no cap.
    pub miss_bytes_per_token: Option<u64>,
    /// The limit, if there is one.
    pub limit_bytes: Option<u64>,
    /// What must be in memory.
    pub floor_bytes: u64,
    /// Peak of the process's resident set.
    pub peak_rss_bytes: u64,
    /// What the process read from disk; nothing in a record of an earlier version.
    #[serde(default)]
    pub read_bytes: ReadBytes,
}

/// Logits of one position, with what makes log-probabilities of them; sums in f64.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'a> {
    logits: &'a [f32],
    log_sum: f64,
}

impl<'a> Prediction<'a> {
    /// A prediction by its logits.
    pub fn new(logits: &'a [f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .map(|logit| libm::exp(f64::from(*logit) - f64::from(max)))
            .sum();
        Self {
            logits,
            log_sum: f64::from(max) + libm::log(sum),
        }
    }

    /// Negative log-likelihood of a token, nats; infinite for one beyond the vocabulary.
    pub fn nll(&self, token: u32) -> f64 {
        self.logits
            .get(token as usize)
            .map_or(f64::INFINITY, |logit| self.log_sum - f64::from(*logit))
    }

    /// The most likely token; the lowest of equals.
    pub fn best(&self) -> u32 {
        argmax(self.logits)
    }

    /// KL(self || other), nats: exactly 0 where the logits are the same.
    pub fn divergence(&self, other: &Prediction<'_>) -> f64 {
        let terms = self.logits.iter().zip(other.logits).map(|(p, q)| {
            let (p, q) = (f64::from(*p) - self.log_sum, f64::from(*q) - other.log_sum);
            libm::exp(p) * (p - q)
        });
        // Rounding may leave a trace below 0, which no divergence is.
        terms.sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_two_known_distributions() {
        let (p, q) = ([0.5f32, 0.25, 0.25], [0.25f32, 0.25, 0.5]);
        let logits = |p: [f32; 3], shift: f32| p.map(|p| p.ln() + shift);
        let (a, b) = (logits(p, 3.0), logits(q, -40.0));
        let (a, b) = (Prediction::new(&a), Prediction::new(&b));
        let expected: f64 = p
            .iter()
            .zip(&q)
            .map(|(p, q)| f64::from(*p) * f64::from(p / q).ln())
            .sum();
        assert!((a.divergence(&b) - expected).abs() < 1e-6);
        assert_eq!(a.divergence(&a), 0.0);
        assert!((a.nll(0) - 2f64.ln()).abs() < 1e-6);
        assert_eq!((a.best(), b.best()), (0, 2));
        assert!(a.nll(3).is_infinite());
    }
}
