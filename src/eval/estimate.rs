//! A number that is measured, its interval, and its difference to another arm's.

use serde::Serialize;

use super::bootstrap::Interval;

/// A number, how sure it is, and how it differs from the exact arm's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Over everything.
    pub value: f64,
    /// Percentile 2.5 of the resamples; none with fewer than two documents or items.
    pub low: Option<f64>,
    /// Percentile 97.5.
    pub high: Option<f64>,
    /// From the exact arm under the same limit; none for that arm itself.
    pub difference: Option<ArmDifference>,
}

/// An arm's number less another's: the exact arm's, or that of the same arm without its variation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ArmDifference {
    /// Over everything.
    pub value: f64,
    /// Percentile 2.5 of the resamples.
    pub low: Option<f64>,
    /// Percentile 97.5.
    pub high: Option<f64>,
    /// Whether the interval contains 0; none without an interval.
    pub tie: Option<bool>,
}

impl Estimate {
    pub(super) fn new(
        value: f64,
        interval: Option<Interval>,
        difference: Option<(f64, Option<Interval>)>,
    ) -> Self {
        Self {
            value,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            difference: difference.map(|(value, interval)| ArmDifference::new(value, interval)),
        }
    }
}

impl ArmDifference {
    pub(super) fn new(value: f64, interval: Option<Interval>) -> Self {
        Self {
            value,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            tie: interval.map(|interval| interval.contains_zero()),
        }
    }
}
