//! In which state the mind is, and what that state may use.
//!
//! Time is logical: a step of n ticks (a prefill chunk of n tokens) counts n for refills, dwell and every "for so
//! long". Only the count of overwhelming steps counts steps: one measurement, however long its chunk, is not a
//! drive that lasts. The drive's moving average is updated once a step with the weight of its ticks,
//! 1 − (1 − rate)^n. An observation that takes several steps to read is measured at its end, and then weighs with all
//! of its ticks; until then the drive stands as it was, and only what arrives meanwhile can raise it.

pub mod actor;
pub mod arbiter;
mod attention;
pub mod directives;
pub mod energy;
pub mod pace;
pub mod table;
#[cfg(test)]
mod tests;
mod transitions;
mod urge;

use crate::config::{MindConfig, StateBudget};
use crate::protocol::{Assess, Directives, State};
use arbiter::Arbiter;
use attention::{Attention, DriveAverage};
use directives::{Drives, claims, directives, k_of, tower_directives};
use energy::Reserves;
use transitions::Situation;
use urge::{unit, urge};

/// The metabolic controller.
#[derive(Clone, Debug)]
pub struct Controller {
    config: MindConfig,
    reserves: Reserves,
    situation: Situation,
    drive_average: DriveAverage,
    attention: Attention,
    arbiter: Arbiter,
    epoch: u64,
}

impl Controller {
    /// Full reserves, in Wake (when held: in the state asked for, else Focus). The configuration must be valid.
    pub fn new(config: &MindConfig) -> Self {
        let state = match config.hold {
            Some(_) => config.hold_state.unwrap_or(State::Focus),
            None => State::Wake,
        };
        Self {
            config: config.clone(),
            reserves: Reserves::full(&config.energy),
            situation: Situation::new(state),
            drive_average: DriveAverage::default(),
            attention: Attention::default(),
            arbiter: Arbiter::default(),
            epoch: 0,
        }
    }

    /// Goes on with other budgets, thresholds and energy; state and reserves stay.
    pub fn reconfigure(&mut self, config: &MindConfig) {
        self.config = self.config.with_numbers_of(config);
    }

    /// The state in force.
    pub fn state(&self) -> State {
        self.situation.state
    }

    /// The buckets, with their books.
    pub fn reserves(&self) -> &Reserves {
        &self.reserves
    }

    /// Units that Threat may still spend in this arming (compute and I/O together).
    pub fn threat_units_left(&self) -> f64 {
        (self.config.transitions.threat_units_max - self.situation.threat_units).max(0.0)
    }

    /// One step: books the step before, moves the drive, changes the state where the table says so.
    pub fn step(&mut self, assess: &Assess) -> Directives {
        let unit_bytes = self
            .config
            .modules
            .first()
            .map_or(1, |shape| shape.exact_token_bytes());
        let (compute, io) = self.reserves.step(assess, &self.config.energy, unit_bytes);
        let energy = self.reserves.energy();
        let drive = self.drive(assess);
        self.epoch += 1;
        let transition = if self.config.hold.is_some() {
            None
        } else {
            let dearest = 2.0 * self.config.budgets.threat.f;
            self.situation
                .observe(assess, &self.config.transitions, drive, compute + io);
            self.situation
                .transition(&self.config.transitions, energy.atp, drive, dearest)
        };
        let held = self.config.hold.is_some();
        let state = self.situation.state;
        let budget = *self.budget();
        let attended = self.attention.step(assess, &self.config.energy);
        let drives = Drives {
            thinker: attended.map_or(drive, |[text, ..]| text.drive),
            spoken: assess.spoken_drive,
            senses: attended.unwrap_or_default(),
        };
        let claims = claims(&self.config, &budget, &drives);
        let shares = self.arbiter.divide(&claims, assess.pool_bytes);
        let towers = tower_directives(&self.config, assess.pool_bytes, shares, &drives);
        let modules = directives(
            &self.config,
            state,
            &budget,
            assess.pool_bytes,
            shares,
            self.epoch,
        );
        let entered = transition.is_some_and(|change| change.to == State::Depletion);
        let starving =
            state == State::Depletion && energy.atp < self.config.transitions.depletion_atp;
        Directives {
            epoch: self.epoch,
            tick: assess.tick,
            state,
            transition,
            energy,
            drive,
            may_step: held || self.covered(),
            end_answer: !held && (entered || starving),
            tokens_max: self.tokens_max(state),
            modules,
            towers,
        }
    }

    fn budget(&self) -> &StateBudget {
        self.config
            .hold
            .as_ref()
            .unwrap_or(&self.config.budgets[self.situation.state])
    }

    /// Whether the cheapest form of a step, one token under Depletion's budget, is in the buckets.
    fn covered(&self) -> bool {
        let budget = &self.config.budgets.depletion;
        let Some(shape) = self.config.modules.first() else {
            return true;
        };
        let compute = f64::from(k_of(shape, budget)) / f64::from(shape.k_trained);
        let io = budget.miss_bytes_per_token;
        self.reserves.compute.level() >= compute && self.reserves.io.level() >= io
    }

    /// Tokens of a step after which the state may have to change: in Threat those of which even the dearest form (every expert
    /// computed and read) stays in the allowance; in others those that compute can be paid for until too little is left for
    /// the state. None where that does not end: a chunk goes on where there would be enough for a higher state, since every
    /// chunk reads most experts again.
    fn tokens_max(&self, state: State) -> Option<u32> {
        if self.config.hold.is_some() {
            return None;
        }
        let transitions = &self.config.transitions;
        if state == State::Threat {
            let allowed = self.threat_units_left() / (2.0 * self.config.budgets.threat.f);
            return Some(libm::floor(allowed) as u32);
        }
        let leaves_below = match state {
            State::Focus => transitions.focus_wake_atp,
            State::Wake => transitions.wake_rest_atp,
            _ => transitions.depletion_atp,
        };
        let energy = &self.config.energy;
        let budget = self.budget();
        let lost = budget.f * budget.reading_share - energy.refill_units_per_tick;
        let spare = self.reserves.compute.level() - leaves_below / 100.0 * energy.capacity_units;
        // One tick beyond it, so that the state really changes.
        let covered = libm::ceil((spare / lost).max(0.0)) as u32;
        (lost > 0.0).then(|| covered.saturating_add(1))
    }

    fn drive(&mut self, assess: &Assess) -> f32 {
        let urge = urge(&assess.report.salience, &self.config.energy);
        let rate = self.config.energy.drive_rate;
        let average = self
            .drive_average
            .step(urge, assess.ticks, assess.unfinished, rate);
        average.max(unit(assess.report.urgency))
    }
}
