//! How well a token went, compared with tokens that were about as hard to predict.

use std::collections::VecDeque;

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

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    weight: f64,
    sum: f64,
    squares: f64,
}

/// Mean and deviation of the error by decile of predicted entropy, forgetting slowly.
#[derive(Clone, Debug)]
pub(super) struct Deciles {
    recent: VecDeque<(f64, f64)>,
    edges: [f64; 9],
    bins: [Bin; 10],
    samples: u64,
    keep: f64,
}

impl Deciles {
    pub fn new() -> Self {
        Self {
            recent: VecDeque::new(),
            edges: [f64::INFINITY; 9],
            bins: [Bin::default(); 10],
            samples: 0,
            keep: libm::exp2(-1.0 / HALF_LIFE),
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
        self.edges.partition_point(|edge| *edge <= entropy)
    }

    fn estimate_edges(&mut self) {
        let mut sorted: Vec<f64> = self.recent.iter().map(|(entropy, _)| *entropy).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        for (i, edge) in self.edges.iter_mut().enumerate() {
            *edge = sorted[(i + 1) * sorted.len() / 10];
        }
    }
}
