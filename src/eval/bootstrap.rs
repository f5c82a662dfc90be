//! Percentile intervals by resampling.

use crate::core::sampling::uniform;

/// Resamples of every interval.
pub const RESAMPLES: usize = 2_000;

/// Of the resamples.
pub const SEED: u64 = 0x5a6e;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Percentile 2.5.
    pub low: f64,
    /// Percentile 97.5.
    pub high: f64,
}

impl Interval {
    /// Whether it contains 0: a difference that is no difference.
    pub fn contains_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// Intervals of `N` statistics over `units` documents or items, each of them drawn with replacement. `statistic` is
/// told how often every unit was drawn; the draws are the same for every statistic over as many units, so that
/// differences are paired. Fewer than two units say nothing of their spread: none.
pub fn intervals<const N: usize>(
    units: usize,
    statistic: impl Fn(&[f64]) -> [f64; N],
) -> Option<[Interval; N]> {
    if units < 2 {
        return None;
    }
    let mut found: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(RESAMPLES));
    let mut drawn = vec![0.0; units];
    for resample in 0..RESAMPLES {
        drawn.fill(0.0);
        for draw in 0..units {
            let counter = (resample * units + draw) as u64;
            let unit = (uniform(SEED, counter) * units as f64) as usize;
            drawn[unit.min(units - 1)] += 1.0;
        }
        for (values, value) in found.iter_mut().zip(statistic(&drawn)) {
            values.push(value);
        }
    }
    Some(found.map(|mut values| {
        values.sort_by(f64::total_cmp);
        Interval {
            low: quantile(&values, 0.025),
            high: quantile(&values, 0.975),
        }
    }))
}

/// Between the two nearest of sorted values, in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    // Equal neighbours, infinite ones among them, need no arithmetic.
    if below == above {
        return below;
    }
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> impl Fn(&[f64]) -> [f64; 1] + '_ {
        move |drawn| {
            let sum: f64 = values.iter().zip(drawn).map(|(value, n)| value * n).sum();
            [sum / drawn.iter().sum::<f64>()]
        }
    }

    #[test]
    fn the_interval_of_a_proportion_is_the_known_one() {
        // 400 of which half are 1: standard error √(0.25 / 400) = 0.025.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let [interval] = intervals(400, mean_of(&values)).unwrap();
        assert!((interval.low - (0.5 - 1.96 * 0.025)).abs() < 0.004);
        assert!((interval.high - (0.5 + 1.96 * 0.025)).abs() < 0.004);
        assert_eq!(intervals(400, mean_of(&values)), Some([interval]));
    }

    #[test]
    fn nothing_varies_nothing_is_uncertain_and_one_unit_says_nothing() {
        let same = vec![3.0; 12];
        let [interval] = intervals(12, mean_of(&same)).unwrap();
        assert_eq!((interval.low, interval.high), (3.0, 3.0));
        assert!(intervals(1, mean_of(&[3.0])).is_none());
    }

    #[test]
    fn coverage_is_near_what_is_promised() {
        // 200 samples of 60 numbers with mean 0: about 190 intervals should contain it.
        let covered = (0..200u64)
            .filter(|sample| {
                let values: Vec<f64> = (0..60).map(|i| uniform(99 + sample, i) - 0.5).collect();
                let [interval] = intervals(60, mean_of(&values)).unwrap();
                interval.contains_zero()
            })
            .count();
        assert!((180..=199).contains(&covered), "{covered} of 200");
    }
}
