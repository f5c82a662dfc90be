//! How well a token went, compared with tokens that were about as hard to predict.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::range::{OutOfRange, at_least_0, number, within};
use crate::math::normal_cdf;

/// Samples before anything is said, and between two estimates of the deciles' edges.
const WARM_UP: u64 = 256;
/// Samples that the edges are estimated from.
const RECENT: usize = 512;
/// Samples after which a sample counts half.
const HALF_LIFE: f64 = 4096.0;
/// A decile of less weight says nothing.
const WEIGHT_MIN: f64 = 8.0;
/// Least deviation, nats.
const DEVIATION_MIN: f64 = 0.01;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bin {
    weight: f64,
    sum: f64,
    squares: f64,
}

/// Mean and deviation of the error by decile of predicted entropy, forgetting slowly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deciles {
    /// Entropy and error.
    recent: VecDeque<(f64, f64)>,
    /// None before they were first estimated.
    edges: Option<[f64; 9]>,
    bins: [Bin; 10],
    samples: u64,
    #[serde(skip, default = "keep")]
    keep: f64,
}

/// What a sample keeps of its weight with every later one.
fn keep() -> f64 {
    libm::exp2(-1.0 / HALF_LIFE)
}

impl Deciles {
    pub fn new() -> Self {
        Self {
            recent: VecDeque::new(),
            edges: None,
            bins: [Bin::default(); 10],
            samples: 0,
            keep: keep(),
        }
    }

    /// d = Φ((Ê − E) / σ): above 0.5 where the error is below its decile's mean. None until enough was seen.
    pub fn score(&self, error: f64, entropy: f64) -> Option<f64> {
        if self.samples < WARM_UP {
            return None;
        }
        let bin = self
            .bins
            .get(self.bin(entropy))
            .filter(|bin| bin.weight >= WEIGHT_MIN)?;
        let mean = bin.sum / bin.weight;
        let deviation =
            libm::sqrt((bin.squares / bin.weight - mean * mean).max(0.0)).max(DEVIATION_MIN);
        Some(normal_cdf((mean - error) / deviation))
    }

    /// Remembers a sample.
    pub fn push(&mut self, error: f64, entropy: f64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((entropy, error));
        self.samples += 1;
        if self.samples > WARM_UP {
            self.book(error, entropy);
        }
        if self.samples.is_multiple_of(WARM_UP) {
            self.estimate_edges();
        }
        if self.samples == WARM_UP {
            for i in 0..self.recent.len() {
                let (entropy, error) = self.recent[i];
                self.book(error, entropy);
            }
        }
    }

    fn book(&mut self, error: f64, entropy: f64) {
        for bin in &mut self.bins {
            bin.weight *= self.keep;
            bin.sum *= self.keep;
            bin.squares *= self.keep;
        }
        let at = self.bin(entropy);
        let bin = &mut self.bins[at];
        bin.weight += 1.0;
        bin.sum += error;
        bin.squares += error * error;
    }

    fn bin(&self, entropy: f64) -> usize {
        let edges = self.edges.as_ref();
        edges.map_or(0, |edges| edges.partition_point(|edge| *edge <= entropy))
    }

    fn estimate_edges(&mut self) {
        let mut sorted: Vec<f64> = self.recent.iter().map(|(entropy, _)| *entropy).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        self.edges = Some(std::array::from_fn(|i| sorted[(i + 1) * sorted.len() / 10]));
    }

    /// That it is what samples could have made of it.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let Self {
            recent,
            edges,
            bins,
            samples,
            keep: _,
        } = self;
        let kept = (*samples).min(RECENT as u64);
        within("recent samples", recent.len() as u64, kept..=kept)?;
        for (entropy, error) in recent {
            number("entropy", *entropy)?;
            number("error", *error)?;
        }
        let estimated = u64::from(edges.is_some());
        let expected = u64::from(*samples >= WARM_UP);
        within("estimates of the edges", estimated, expected..=expected)?;
        for edge in edges.iter().flatten() {
            number("edge", *edge)?;
        }
        if !edges.iter().flatten().is_sorted() {
            return Err(OutOfRange::new("edges", "unsorted", "ascending"));
        }
        for bin in bins {
            at_least_0("weight", bin.weight)?;
            number("sum", bin.sum)?;
            at_least_0("squares", bin.squares)?;
        }
        Ok(())
    }
}
