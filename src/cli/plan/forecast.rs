//! How fast a token would come, from the rates of this machine and from routing that is as local as that of a trained model.

use sage_actors::cache::whatif::{Chooser, WhatIfCounts, replay_by_layer};
use sage_actors::config::EvictionPolicy;
use serde::Serialize;

use crate::cpu::probe::WorkRates;
use crate::routes::TokenRoutes;

/// Tokens of a prompt where none was recorded, and of the answer behind it that is counted where nobody says how many.
pub(super) const PROMPT_TOKENS: usize = 28;
pub(super) const ANSWER_TOKENS: usize = 128;

/// How many tokens are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    pub prompt: usize,
    /// Decoded ones behind the prompt.
    pub answer: usize,
}

impl Length {
    /// As far as a context of so many tokens has room: an answer has one at least, and of the rest a prompt goes first.
    pub fn within(self, context_tokens: usize) -> Self {
        let prompt = self.prompt.min(context_tokens.saturating_sub(1));
        let answer = self.answer.min(context_tokens.saturating_sub(prompt));
        Self { prompt, answer }
    }
}

/// What a layer takes beside reading its weights. An estimate: it is what asking the mind was measured to take of a layer, 0.11 to
/// 0.14 ms (docs/measurements.md, "Asking the actors": 0.44 to 0.55 ms for four layers); norms, rotation and attention behind a short prompt are left out.
const LAYER_SECONDS: f64 = 120e-6;

/// What one decoded token uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenWork {
    /// Weights that stay in memory, without a kept table of embeddings.
    pub resident_bytes: u64,
    /// One expert in memory, the largest.
    pub expert_bytes: u64,
    /// Sparse layers.
    pub layers: usize,
    /// All experts of the pool that the mind would keep.
    pub capacity_bytes: u64,
}

/// What is to be expected of a decoded token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Forecast {
    /// Tokens of the prompt that is read before.
    pub prompt_tokens: usize,
    /// Tokens of the answer that are counted.
    pub answer_tokens: usize,
    /// Share of a token's experts that are in memory.
    pub hit_rate: f64,
    /// Bytes of the others.
    pub bytes_per_token: f64,
    /// None where the rates were not measured.
    pub tokens_per_second: Option<f64>,
    /// With every expert in memory; none likewise.
    pub tokens_per_second_all_resident: Option<f64>,
}

impl Forecast {
    /// Of an answer that is routed so, behind its prompt, where nothing else was in memory before. Behind the last token of
    /// `routes` they begin again.
    pub fn new(
        routes: &TokenRoutes,
        length: Length,
        eviction: EvictionPolicy,
        work: &TokenWork,
        rates: Option<WorkRates>,
    ) -> Self {
        let batches = routes.batches(length.prompt, length.answer, work.expert_bytes);
        let capacity_bytes = work.capacity_bytes;
        let counts = replay_by_layer(&batches, Chooser::Online(eviction), capacity_bytes);
        let sum =
            |of: fn(&WhatIfCounts) -> u64| counts.iter().flatten().map(of).sum::<u64>() as f64;
        let (routed, hits) = (sum(|layer| layer.routed), sum(|layer| layer.hits));
        let tokens = counts.len().max(1) as f64;
        let seconds = |missing: bool| {
            let rates = rates?;
            let own = Self::own_seconds(work, rates);
            let layers = counts.iter().flatten();
            let experts: f64 = layers
                .map(|layer| Self::expert_seconds(layer, work, rates, missing))
                .sum();
            Some(own + experts / tokens)
        };
        Self {
            prompt_tokens: length.prompt,
            answer_tokens: length.answer,
            hit_rate: hits / routed.max(1.0),
            bytes_per_token: sum(|layer| layer.miss_bytes) / tokens,
            tokens_per_second: seconds(true).map(|seconds| 1.0 / seconds),
            tokens_per_second_all_resident: seconds(false).map(|seconds| 1.0 / seconds),
        }
    }

    /// Of one token, beside its experts.
    fn own_seconds(work: &TokenWork, rates: WorkRates) -> f64 {
        work.resident_bytes as f64 / rates.resident + work.layers as f64 * LAYER_SECONDS
    }

    /// Of a layer's experts for one token: all but the last work while the missing ones are read, and the last works when it has
    /// come.
    fn expert_seconds(
        layer: &WhatIfCounts,
        work: &TokenWork,
        rates: WorkRates,
        missing: bool,
    ) -> f64 {
        let one = work.expert_bytes as f64 / rates.experts;
        if !missing || layer.miss_bytes == 0 {
            return layer.routed as f64 * one;
        }
        let read = layer.miss_bytes as f64 / rates.read;
        ((layer.routed as f64 - 1.0) * one).max(read) + one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit_rate(routes: &TokenRoutes, prompt: usize, answer: usize) -> f64 {
        let work = TokenWork {
            resident_bytes: 1,
            expert_bytes: 1,
            layers: 1,
            capacity_bytes: 100,
        };
        let length = Length { prompt, answer };
        let forecast = Forecast::new(routes, length, EvictionPolicy::Lru, &work, None);
        assert_eq!(
            (forecast.prompt_tokens, forecast.answer_tokens),
            (prompt, answer)
        );
        forecast.hit_rate
    }

    /// Two tokens that were recorded are answered 64 times over: only what is new of the first turn is read.
    #[test]
    fn a_short_recording_begins_again() {
        let routes = TokenRoutes {
            experts: 8,
            prompt_tokens: 0,
            tokens: vec![vec![vec![0, 1]], vec![vec![2, 3]]],
        };
        assert_eq!(hit_rate(&routes, 0, 2), 0.0);
        assert_eq!(hit_rate(&routes, 0, 128), 1.0 - 4.0 / 256.0);
        assert_eq!(hit_rate(&routes, 2, 128), 1.0);
    }

    #[test]
    fn a_forecast_is_no_longer_than_the_context() {
        let within = |prompt, answer, context| {
            let length = Length { prompt, answer }.within(context);
            (length.prompt, length.answer)
        };
        assert_eq!(within(28, 128, 2048), (28, 128));
        assert_eq!(within(28, 128, 100), (28, 72));
        assert_eq!(within(28, 128, 20), (19, 1));
        assert_eq!(within(28, 128, 1), (0, 1));
        assert_eq!(within(0, 128, 1), (0, 1));
    }
}
