//! Where things stand, and what the transition table makes of it.

use super::table::{Condition, ROWS, TransitionRow};
use crate::config::Transitions;
use crate::protocol::{Assess, State, Transition};

/// What the table is asked about, besides how long things have been as they are.
struct Now<'a> {
    t: &'a Transitions,
    atp: f64,
    drive: f32,
    /// What the next token costs at most in Threat.
    dearest: f64,
}

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
        // A drive that only stands while its observation's successor is read was not measured again.
        if !assess.unfinished || assess.outside_input {
            self.overwhelming_steps = if overwhelming {
                self.overwhelming_steps.saturating_add(1)
            } else {
                0
            };
        }
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
        let now = Now {
            t,
            atp,
            drive,
            dearest,
        };
        let row = ROWS.iter().find(|row| self.matches(row, &now))?;
        let from = self.state;
        self.enter(row.to, from);
        Some(Transition {
            from,
            to: row.to,
            cause: row.cause,
        })
    }

    fn matches(&self, row: &TransitionRow, now: &Now<'_>) -> bool {
        row.from.includes(self.state)
            && self.dwell_ticks >= row.lasted.ticks(now.t)
            && row.when.iter().all(|condition| self.holds(*condition, now))
    }

    fn holds(&self, condition: Condition, now: &Now<'_>) -> bool {
        let t = now.t;
        match condition {
            Condition::AtpAbove(least) => now.atp > least(t),
            Condition::AtpBelow(most) => now.atp < most(t),
            Condition::DriveAbove(least) => now.drive > least(t),
            Condition::DriveBelow(most) => now.drive < most(t),
            Condition::Request => self.request,
            Condition::NoRequest => !self.request,
            Condition::Armed => self.armed,
            Condition::Threat => self.threat,
            Condition::Overwhelmed => self.overwhelming_steps >= t.overwhelming_steps,
            Condition::AllowanceSpent => self.threat_units + now.dearest > t.threat_units_max,
            Condition::Calm => self.calm_ticks >= t.threat_calm_ticks,
            Condition::Bored => self.bored_ticks >= t.wake_rest_ticks,
            Condition::Quiet => self.quiet_ticks >= t.dream_quiet_ticks,
            Condition::Dreamable => {
                self.episodes >= t.dream_episodes_min
                    && self
                        .stale_episodes
                        .is_none_or(|stale| self.episodes > stale)
            }
            Condition::Awakened => self.awakened,
            Condition::Consolidated => self.episodes == 0 || self.dwell_ticks >= t.dream_ticks_max,
        }
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
