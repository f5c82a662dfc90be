//! Reserves: two token buckets, and levels.

use crate::config::EnergyConfig;
use crate::protocol::{Assess, Energy};

/// A token bucket in units of one exact token. Nothing is minted: at all times
/// `start + refilled + overdrawn = level + spent + spilled`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    capacity: f64,
    level: f64,
    /// Refilled so far, what did not fit included.
    pub refilled_units: f64,
    /// Refill that did not fit.
    pub spilled_units: f64,
    /// Asked for so far, what was not covered included.
    pub spent_units: f64,
    /// Cost that the bucket did not cover (a prefill chunk may cost more than there is).
    pub overdrawn_units: f64,
}

impl Bucket {
    /// A full bucket.
    pub fn full(capacity: f64) -> Self {
        Self {
            capacity,
            level: capacity,
            refilled_units: 0.0,
            spilled_units: 0.0,
            spent_units: 0.0,
            overdrawn_units: 0.0,
        }
    }

    /// Units in it, in `0..=capacity`.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// `ticks` steps, each with its part of the refill and of the cost: what a step of many ticks leaves is what as many steps
    /// of one tick would, so that energy within a state does not depend on how a text is cut into chunks.
    pub fn steps(&mut self, ticks: u32, refill: f64, cost: f64) {
        // Nothing passes in no time, but a cost is a cost.
        let ticks = ticks.max(1);
        let (refill, cost) = (refill / f64::from(ticks), cost / f64::from(ticks));
        for _ in 0..ticks {
            self.step(refill, cost);
        }
    }

    /// Refills first, then takes the cost. What is not a number above 0 counts 0.
    pub fn step(&mut self, refill: f64, cost: f64) {
        let (refill, cost) = (refill.max(0.0), cost.max(0.0));
        self.refilled_units += refill;
        let filled = (self.level + refill).min(self.capacity);
        self.spilled_units += (self.level + refill - filled).max(0.0);
        self.spent_units += cost;
        self.overdrawn_units += (cost - filled).max(0.0);
        self.level = (filled - cost).max(0.0);
    }
}

/// The three reserves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reserves {
    /// Computing: k used / k trained a token.
    pub compute: Bucket,
    /// Reading: logical bytes of misses / expert bytes of an exact token.
    pub io: Bucket,
    /// The least of memory and outside levels, in [0, 1].
    pub level: f64,
}

impl Reserves {
    /// Full ones.
    pub fn full(config: &EnergyConfig) -> Self {
        let bucket = Bucket::full(config.capacity_units);
        Self {
            compute: bucket,
            io: bucket,
            level: 1.0,
        }
    }

    /// Refills by the ticks of the step before, takes its cost and reads the levels.
    /// Returns what the step before cost, units (compute, I/O).
    pub fn step(
        &mut self,
        assess: &Assess,
        config: &EnergyConfig,
        exact_token_bytes: u64,
    ) -> (f64, f64) {
        let refill = config.refill_units_per_tick * f64::from(assess.ticks);
        let compute = Some(assess.spent.compute_units)
            .filter(|units| units.is_finite())
            .unwrap_or(0.0)
            .max(0.0);
        let io = assess.spent.miss_bytes as f64 / exact_token_bytes.max(1) as f64;
        self.compute.steps(assess.ticks, refill, compute);
        self.io.steps(assess.ticks, refill, io);
        self.level = assess
            .levels
            .iter()
            .copied()
            .fold(memory_level(assess), f64::min)
            .clamp(0.0, 1.0);
        (compute, io)
    }

    /// What a report says of the reserves.
    pub fn energy(&self) -> Energy {
        let share = |bucket: &Bucket| bucket.level / bucket.capacity;
        let least = share(&self.compute).min(share(&self.io)).min(self.level);
        Energy {
            atp: 100.0 * least,
            compute: self.compute.level,
            io: self.io.level,
            level: self.level,
        }
    }
}

/// (P − what cannot be given back) / P: full where everything can be given back, also of a pool of no bytes (a limit at
/// the floor holds); empty where P is empty and something is still in use that the limit does not cover (a limit below
/// the floor cannot hold).
fn memory_level(assess: &Assess) -> f64 {
    if assess.unreclaimable_bytes == 0 {
        return 1.0;
    }
    let free = assess.pool_bytes.saturating_sub(assess.unreclaimable_bytes);
    free as f64 / assess.pool_bytes.max(1) as f64
}
