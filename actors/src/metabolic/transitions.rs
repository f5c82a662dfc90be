//! The transition table. The first row that matches wins.

use crate::config::Transitions;
use crate::protocol::{Assess, Cause, State, Transition};

/// The state, and how long things have been as they are.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub state: State,
    dwell_ticks: u32,
    armed: bool,
    /// Ticks with neither a threat nor an overwhelming drive.
    unthreatened_ticks: u32,
    overwhelming_steps: u32,
    /// Ticks with a drive below Threat's exit and no threat.
    calm_ticks: u32,
    /// Ticks with a drive below Wake's exit and no request.
    bored_ticks: u32,
    /// Ticks with no observation and no request.
    quiet_ticks: u32,
    threat: bool,
    request: bool,
    /// Outside input since Dream was entered.
    awakened: bool,
    /// Spent in Threat since it was armed, compute and I/O units together.
    pub threat_units: f64,
    episodes: u32,
    /// Episodes when the present Dream began.
    dream_episodes: u32,
    /// Episodes left by a Dream that made no progress: another one must find more.
    stale_episodes: Option<u32>,
}

impl Situation {
    pub fn new(state: State) -> Self {
        Self {
            state,
            dwell_ticks: 0,
            armed: true,
            unthreatened_ticks: 0,
            overwhelming_steps: 0,
            calm_ticks: 0,
            bored_ticks: 0,
            quiet_ticks: 0,
            threat: false,
            request: false,
            awakened: false,
            threat_units: 0.0,
            episodes: 0,
            dream_episodes: 0,
            stale_episodes: None,
        }
    }

    /// Brings every counter up to date; `cost` is what the step before spent, in the state that is still in force.
    pub fn observe(&mut self, assess: &Assess, t: &Transitions, drive: f32, cost: f64) {
        let ticks = assess.ticks;
        self.dwell_ticks = self.dwell_ticks.saturating_add(ticks);
        self.threat = assess.report.threat >= t.threat_level;
        self.request = assess.open_requests > 0;
        self.episodes = assess.unconsolidated_episodes;
        let input = assess.outside_input || self.request;
        self.awakened = (self.awakened && self.state == State::Dream) || input;
        let overwhelming = drive >= t.overwhelming_drive;
        self.overwhelming_steps = if overwhelming {
            self.overwhelming_steps.saturating_add(1)
        } else {
            0
        };
        count(
            &mut self.unthreatened_ticks,
            ticks,
            !self.threat && !overwhelming,
        );
        count(
            &mut self.calm_ticks,
            ticks,
            drive < t.threat_calm_drive && !self.threat,
        );
        count(
            &mut self.bored_ticks,
            ticks,
            drive < t.wake_rest_drive && !self.request,
        );
        count(&mut self.quiet_ticks, ticks, assess.quiet && !input);
        if self.state == State::Threat {
            self.threat_units += cost;
        } else if !self.armed && self.unthreatened_ticks >= t.threat_rearm_ticks {
            self.armed = true;
        }
    }

    /// Applies the table; `dearest` is what the next token costs at most in Threat.
    pub fn transition(
        &mut self,
        t: &Transitions,
        atp: f64,
        drive: f32,
        dearest: f64,
    ) -> Option<Transition> {
        let (to, cause) = self.crisis(t, atp).or_else(|| {
            let rested = self.dwell_ticks >= t.dwell_ticks;
            // The allowance is a limit, not a matter of manners: it does not wait for the dwell.
            let spent =
                self.state == State::Threat && self.threat_units + dearest > t.threat_units_max;
            if spent {
                return Some((State::Wake, Cause::ThreatSpent));
            }
            if rested {
                self.settled(t, atp, drive)
            } else {
                None
            }
        })?;
        let from = self.state;
        self.enter(to, from);
        Some(Transition { from, to, cause })
    }

    /// The rows into Threat and Depletion, which do not wait for the dwell.
    fn crisis(&self, t: &Transitions, atp: f64) -> Option<(State, Cause)> {
        if self.state != State::Threat && self.armed && atp > t.threat_atp_min {
            if self.threat {
                return Some((State::Threat, Cause::Threat));
            }
            if self.overwhelming_steps >= t.overwhelming_steps {
                return Some((State::Threat, Cause::Overwhelming));
            }
        }
        (self.state != State::Depletion && atp < t.depletion_atp)
            .then_some((State::Depletion, Cause::Exhausted))
    }

    /// All other rows.
    fn settled(&self, t: &Transitions, atp: f64, drive: f32) -> Option<(State, Cause)> {
        let request = self.request;
        let driven = |above: f32| match (request, drive > above) {
            (true, _) => Some(Cause::Request),
            (false, true) => Some(Cause::Drive),
            (false, false) => None,
        };
        match self.state {
            State::Threat if atp < t.threat_atp_exit => Some((State::Wake, Cause::Tired)),
            State::Threat if self.calm_ticks >= t.threat_calm_ticks => {
                Some((State::Focus, Cause::ThreatOver))
            }
            State::Wake if atp < t.wake_rest_atp => Some((State::Rest, Cause::Tired)),
            State::Wake if self.bored_ticks >= t.wake_rest_ticks => {
                Some((State::Rest, Cause::Bored))
            }
            State::Wake if atp > t.wake_focus_atp => {
                driven(t.wake_focus_drive).map(|cause| (State::Focus, cause))
            }
            State::Focus if atp < t.focus_wake_atp => Some((State::Wake, Cause::Tired)),
            State::Focus if drive < t.focus_wake_drive && !request => {
                Some((State::Wake, Cause::Settled))
            }
            State::Rest if atp > t.rest_wake_atp && driven(t.rest_wake_drive).is_some() => {
                driven(t.rest_wake_drive).map(|cause| (State::Wake, cause))
            }
            State::Rest if atp > t.dream_atp_min && self.may_dream(t) => {
                Some((State::Dream, Cause::Quiet))
            }
            State::Dream if self.awakened => Some((State::Wake, Cause::Awakened)),
            State::Dream if self.episodes == 0 || self.dwell_ticks >= t.dream_ticks_max => {
                Some((State::Rest, Cause::Consolidated))
            }
            State::Depletion if atp > t.depletion_atp_exit => Some((State::Rest, Cause::Recovered)),
            _ => None,
        }
    }

    fn may_dream(&self, t: &Transitions) -> bool {
        self.quiet_ticks >= t.dream_quiet_ticks
            && self.episodes >= t.dream_episodes_min
            && self
                .stale_episodes
                .is_none_or(|stale| self.episodes > stale)
    }

    fn enter(&mut self, to: State, from: State) {
        if from == State::Dream {
            let progress = self.episodes < self.dream_episodes;
            self.stale_episodes = (!progress && to == State::Rest).then_some(self.episodes);
        }
        if to == State::Dream {
            self.dream_episodes = self.episodes;
            self.awakened = false;
        }
        if to == State::Threat {
            self.armed = false;
            self.threat_units = 0.0;
        }
        self.state = to;
        self.dwell_ticks = 0;
    }
}

fn count(counter: &mut u32, ticks: u32, holds: bool) {
    *counter = if holds {
        counter.saturating_add(ticks)
    } else {
        0
    };
}
