//! Arms against the first one: ratios within a round, so that what drifts from one round to the next divides out.

use serde::Serialize;

use super::figures::{Figures, ends, median};
use super::rounds::ArmFigures;

/// An arm's speed by that of the first arm, or something of it over all rounds; 1 is as fast.
#[derive(Debug, Serialize)]
pub(super) struct SpeedRatios<T> {
    pub prefill_tokens_per_second: T,
    pub decode_tokens_per_second: T,
    /// Below 1 it is sooner.
    pub time_to_first_token_ms: T,
}

impl<T> SpeedRatios<T> {
    fn over(pairs: &[[Figures<f64>; 2]], figure: impl Fn(Vec<f64>) -> T) -> Self {
        let of = |field: fn(&Figures<f64>) -> f64| {
            figure(pairs.iter().filter_map(|pair| ratio(pair, field)).collect())
        };
        Self {
            prefill_tokens_per_second: of(|round| round.prefill_tokens_per_second),
            decode_tokens_per_second: of(|round| round.decode_tokens_per_second),
            time_to_first_token_ms: of(|round| round.time_to_first_token_ms),
        }
    }
}

/// The second by the first; none where the first is nothing.
fn ratio<T>([first, arm]: &[T; 2], field: impl Fn(&T) -> f64) -> Option<f64> {
    Some(field(arm) / field(first)).filter(|ratio| ratio.is_finite())
}

/// Ratios of one length.
#[derive(Debug, Serialize)]
pub(super) struct LengthRatios {
    pub prompt_tokens: usize,
    #[serde(flatten)]
    pub median: SpeedRatios<f64>,
    pub spread: SpeedRatios<[f64; 2]>,
}

impl LengthRatios {
    fn new(prompt_tokens: usize, first: &[Figures<f64>], arm: &[Figures<f64>]) -> Self {
        let pairs: Vec<_> = first.iter().zip(arm).map(|(a, b)| [*a, *b]).collect();
        Self {
            prompt_tokens,
            median: SpeedRatios::over(&pairs, median),
            spread: SpeedRatios::over(&pairs, ends),
        }
    }
}

/// Ratios of speech.
#[derive(Debug, Serialize)]
pub(super) struct SpeechRatios {
    pub real_time_factor: f64,
    /// The least and the greatest.
    spread: [f64; 2],
}

/// Everything of an arm by the first arm.
#[derive(Debug, Serialize)]
pub(super) struct ArmRatios {
    pub cold: LengthRatios,
    pub lengths: Vec<LengthRatios>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speech: Option<SpeechRatios>,
}

impl ArmRatios {
    /// Of rounds that were measured in turns, for prompts of these lengths.
    pub fn new(prompt_tokens: &[usize], first: &ArmFigures, arm: &ArmFigures) -> Self {
        let warm = prompt_tokens.iter().zip(first.warm.iter().zip(&arm.warm));
        let spoken = first.speech.iter().zip(&arm.speech);
        let spoken: Vec<f64> = spoken
            .filter_map(|(a, b)| ratio(&[a, b], |round| round.figures.real_time_factor))
            .collect();
        // An answer that was not spoken leaves its round without a pair.
        let paired = first.speech.len() == arm.speech.len() && !spoken.is_empty();
        Self {
            cold: LengthRatios::new(prompt_tokens[0], &first.cold, &arm.cold),
            lengths: warm
                .map(|(tokens, (first, arm))| LengthRatios::new(*tokens, first, arm))
                .collect(),
            speech: paired.then(|| SpeechRatios {
                real_time_factor: median(spoken.clone()),
                spread: ends(spoken),
            }),
        }
    }
}
