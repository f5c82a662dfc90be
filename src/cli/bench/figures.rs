//! What is measured of a request, and the middle and the ends of it over rounds.

use serde::Serialize;

use crate::core::core_loop::RequestCost;

/// What is measured of a request, or something of it over all rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures<T> {
    pub prefill_tokens_per_second: T,
    pub decode_tokens_per_second: T,
    pub time_to_first_token_ms: T,
    pub decode_bytes_per_token: T,
    pub stall_ms_per_token: T,
    pub decode_hit_rate: T,
    /// Share of the time of the request during which at least one expert was being read; none where the system reads by itself.
    pub disk_duty: Option<T>,
    /// Bytes of experts that came in a second of that share.
    pub disk_bytes_per_second: Option<T>,
}

/// What the disk did during a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskUse {
    /// In [0, 1].
    pub duty: f64,
    /// While something was being read; 0 where nothing was.
    pub bytes_per_second: f64,
}

impl Figures<f64> {
    pub fn of(cost: &RequestCost, disk: Option<DiskUse>) -> Self {
        Self {
            prefill_tokens_per_second: cost.prefill_tokens_per_second,
            decode_tokens_per_second: cost.decode_tokens_per_second,
            time_to_first_token_ms: cost.time_to_first_token_ms,
            decode_bytes_per_token: cost.decode_bytes_per_token,
            stall_ms_per_token: cost.stall_ms_per_token,
            decode_hit_rate: cost.decode_hit_rate,
            disk_duty: disk.map(|disk| disk.duty),
            disk_bytes_per_second: disk.map(|disk| disk.bytes_per_second),
        }
    }
}

impl<T> Figures<T> {
    /// Some figure of all rounds.
    fn over(rounds: &[Figures<f64>], figure: impl Fn(Vec<f64>) -> T) -> Self {
        let of = |field: fn(&Figures<f64>) -> f64| figure(rounds.iter().map(field).collect());
        let of_all = |field: fn(&Figures<f64>) -> Option<f64>| {
            let values: Option<Vec<f64>> = rounds.iter().map(field).collect();
            values.map(&figure)
        };
        Self {
            prefill_tokens_per_second: of(|round| round.prefill_tokens_per_second),
            decode_tokens_per_second: of(|round| round.decode_tokens_per_second),
            time_to_first_token_ms: of(|round| round.time_to_first_token_ms),
            decode_bytes_per_token: of(|round| round.decode_bytes_per_token),
            stall_ms_per_token: of(|round| round.stall_ms_per_token),
            decode_hit_rate: of(|round| round.decode_hit_rate),
            disk_duty: of_all(|round| round.disk_duty),
            disk_bytes_per_second: of_all(|round| round.disk_bytes_per_second),
        }
    }
}

/// The middle of these in order; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The least and the greatest of these; zeros of none.
pub(super) fn ends(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => [0.0; 2],
        [first, ..] => [first, values[values.len() - 1]],
    }
}

/// Figures of one length.
#[derive(Debug, Serialize)]
pub(super) struct BenchLength {
    pub prompt_tokens: usize,
    pub answer_tokens: usize,
    #[serde(flatten)]
    pub median: Figures<f64>,
    pub spread: Figures<[f64; 2]>,
}

impl BenchLength {
    pub fn new(prompt_tokens: usize, answer_tokens: usize, rounds: &[Figures<f64>]) -> Self {
        Self {
            prompt_tokens,
            answer_tokens,
            median: Figures::over(rounds, median),
            spread: Figures::over(rounds, ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends_do_not_depend_on_the_order() {
        let values = vec![3.0, 1.0, 10.0];
        assert_eq!(median(values.clone()), 3.0);
        assert_eq!(ends(values), [1.0, 10.0]);
        assert_eq!((median(Vec::new()), ends(Vec::new())), (0.0, [0.0; 2]));
    }
}
