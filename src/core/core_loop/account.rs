//! Sums over the run, state by state.

use std::collections::BTreeMap;
use std::time::Duration;

use sage_actors::protocol::{State, TokenMeasure};

use super::periods::Periods;
use crate::core::memory::{MemoryPlan, resident_set};
use crate::core::{Engine, Forward, Orientation};
use crate::events::{DreamEvent, StateSummary, Summary};
use crate::reads::kernel_read_bytes;

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    ticks: u64,
    tokens: u64,
    seconds: f64,
    hits: u64,
    misses: u64,
    miss_bytes: u64,
    loss: f64,
    losses: u64,
    k: u16,
}

/// What each state did.
#[derive(Debug)]
pub(super) struct Account {
    states: BTreeMap<State, Sums>,
    current: Option<(State, u64)>,
    /// Limits, and the memory that was taken under each.
    pub(super) periods: Periods,
}

impl Account {
    /// Nothing yet, under this plan.
    pub(super) fn new(plan: &MemoryPlan) -> Self {
        Self {
            states: BTreeMap::new(),
            current: None,
            periods: Periods::new(plan),
        }
    }

    /// A step begins at `tick` under `orientation`; the ticks since the step before belong to the state before.
    pub(super) fn enter(&mut self, orientation: &Orientation, tick: u64) {
        if let Some((state, since)) = self.current {
            self.states.entry(state).or_default().ticks += tick - since;
        }
        let state = orientation.directives.state;
        self.current = Some((state, tick));
        self.states.entry(state).or_default().k = orientation.directive.k;
    }

    fn now(&mut self) -> &mut Sums {
        let state = self.current.map_or(State::Wake, |(state, _)| state);
        self.states.entry(state).or_default()
    }

    pub(super) fn time(&mut self, elapsed: Duration) {
        self.now().seconds += elapsed.as_secs_f64();
    }

    pub(super) fn read(&mut self, measures: &[TokenMeasure]) {
        let sums = self.now();
        sums.loss += measures
            .iter()
            .map(|measure| f64::from(measure.nll))
            .sum::<f64>();
        sums.losses += measures.len() as u64;
    }

    /// Towers read so much.
    pub(super) fn perceived(&mut self, bytes_read: u64) {
        self.now().miss_bytes += bytes_read;
    }

    pub(super) fn step(&mut self, forward: &Forward, tokens: usize) {
        let sums = self.now();
        sums.tokens += tokens as u64;
        sums.hits += forward.traffic.hits;
        sums.misses += forward.traffic.misses;
        sums.miss_bytes += forward.traffic.miss_bytes;
    }

    pub(super) fn summary(
        &self,
        engine: &Engine,
        waits_avoided: u64,
        dreamt: DreamEvent,
    ) -> Summary {
        let mut states = self.states.clone();
        if let Some((state, since)) = self.current {
            states.entry(state).or_default().ticks += engine.tick() - since;
        }
        let mean = |loss: f64, losses: u64| (losses > 0).then(|| loss / losses as f64);
        let name = |state: &State| format!("{state:?}").to_lowercase();
        let one = |sums: &Sums| StateSummary {
            ticks: sums.ticks,
            tokens: sums.tokens,
            tokens_per_second: if sums.seconds > 0.0 {
                sums.tokens as f64 / sums.seconds
            } else {
                0.0
            },
            hit_rate: sums.hits as f64 / (sums.hits + sums.misses).max(1) as f64,
            bytes_per_token: sums.miss_bytes as f64 / sums.tokens.max(1) as f64,
            mean_loss: mean(sums.loss, sums.losses),
            k: sums.k,
        };
        Summary {
            limit_bytes: self.periods.widest(),
            peak_rss_bytes: resident_set().1,
            limits: self.periods.all(),
            bytes_read: states.values().map(|sums| sums.miss_bytes).sum(),
            read_bytes: engine.read_bytes(),
            kernel_read_bytes: kernel_read_bytes(),
            waits_avoided,
            hits: states.values().map(|sums| sums.hits).sum(),
            misses: states.values().map(|sums| sums.misses).sum(),
            dreamt,
            mean_loss: mean(
                states.values().map(|sums| sums.loss).sum(),
                states.values().map(|sums| sums.losses).sum(),
            ),
            states: states
                .iter()
                .map(|(state, sums)| (name(state), one(sums)))
                .collect(),
            expectations_met: 0,
            expectations_failed: 0,
        }
    }
}
