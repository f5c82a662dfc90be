//! Choosing a token from logits.

use serde::{Deserialize, Serialize};

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is argmax, whatever the rest says.
    pub temperature: f32,
    /// Keep the least set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Of the counter-based random numbers.
    pub seed: u64,
}

impl Sampling {
    /// The most probable token, always.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        seed: 0,
    };

    /// What is wrong with it; none if tokens can be chosen so.
    pub fn unsound(&self) -> Option<String> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let temperature = self.temperature;
            return Some(format!("temperature is {temperature}; expected 0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let top_p = self.top_p;
            return Some(format!("top_p is {top_p}; expected above 0 and at most 1"));
        }
        None
    }

    /// The token for `step`: the same logits, settings and step give the same token.
    pub fn choose(&self, logits: &[f32], step: u64) -> u32 {
        if self.temperature <= 0.0 {
            return argmax(logits);
        }
        let mut order: Vec<(f32, u32)> = logits.iter().copied().zip(0u32..).collect();
        // Descending probability, ties by lowest id.
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let Some(max) = order.first().map(|first| first.0) else {
            return 0;
        };
        let mut weights: Vec<f64> = order
            .iter()
            .map(|(logit, _)| libm::exp(f64::from((logit - max) / self.temperature)))
            .collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let cut = weights
            .iter()
            .position(|weight| {
                kept += weight;
                kept >= f64::from(self.top_p) * total
            })
            .map_or(weights.len(), |last| last + 1);
        weights.truncate(cut);
        let total: f64 = weights.iter().sum();
        let mut left = uniform(self.seed, step) * total;
        for (weight, (_, token)) in weights.iter().zip(&order) {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        order[weights.len() - 1].1
    }
}

/// The greatest logit's index; the lowest of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

/// A number in [0, 1) from a seed and a counter (SplitMix64).
pub fn uniform(seed: u64, counter: u64) -> f64 {
    let mut z = seed ^ counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 3.0, 2.0];

    #[test]
    fn temperature_zero_is_argmax_with_ties_to_the_lowest() {
        assert!((0..100).all(|step| Sampling::GREEDY.choose(&LOGITS, step) == 1));
    }

    #[test]
    fn top_k_and_top_p_keep_only_the_probable() {
        let one = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 1,
            seed: 5,
        };
        assert!((0..100).all(|step| one.choose(&LOGITS, step) == 1));
        let nucleus = Sampling {
            temperature: 1.0,
            top_p: 0.5,
            top_k: 0,
            seed: 5,
        };
        assert!((0..100).all(|step| [1, 2].contains(&nucleus.choose(&LOGITS, step))));
    }

    #[test]
    fn samples_follow_the_probabilities_and_the_seed() {
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            seed: 11,
        };
        let draws: Vec<u32> = (0..20_000)
            .map(|step| sampling.choose(&LOGITS, step))
            .collect();
        let total: f64 = LOGITS.iter().map(|l| f64::from(*l).exp()).sum();
        for token in 0..4u32 {
            let expected = f64::from(LOGITS[token as usize]).exp() / total;
            let found =
                draws.iter().filter(|draw| **draw == token).count() as f64 / draws.len() as f64;
            assert!(
                (found - expected).abs() < 0.015,
                "token {token}: {found} for {expected}"
            );
        }
        assert_eq!(
            draws,
            (0..20_000)
                .map(|step| sampling.choose(&LOGITS, step))
                .collect::<Vec<_>>()
        );
        let other = Sampling {
            seed: 12,
            ..sampling
        };
        assert_ne!(
            draws,
            (0..20_000)
                .map(|step| other.choose(&LOGITS, step))
                .collect::<Vec<_>>()
        );
    }
}
