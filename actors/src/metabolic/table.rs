//! The transition table as data: which state is left for which, when, and why. Deciding and the page that shows the
//! table (`docs/states.md`) read the same rows.

use crate::config::Transitions;
use crate::protocol::{Cause, State};

/// The states that a row leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// This one.
    Only(State),
    /// Every state but this one.
    AllBut(State),
}

impl Leaves {
    /// Whether the row leaves `state`.
    pub fn includes(self, state: State) -> bool {
        match self {
            Self::Only(one) => state == one,
            Self::AllBut(one) => state != one,
        }
    }
}

/// One condition of a row. Thresholds are read from the settings, so that the words show what is in force.
#[derive(Clone, Copy, Debug)]
pub enum Condition {
    /// Energy above a threshold.
    AtpAbove(fn(&Transitions) -> f64),
    /// Energy below a threshold.
    AtpBelow(fn(&Transitions) -> f64),
    /// Drive above a threshold.
    DriveAbove(fn(&Transitions) -> f32),
    /// Drive below a threshold.
    DriveBelow(fn(&Transitions) -> f32),
    /// Something that asks for an answer has none.
    Request,
    /// Nothing does.
    NoRequest,
    /// Threat may be entered again.
    Armed,
    /// An alarm stands, or a sensor left its range.
    Threat,
    /// The drive was overwhelming for long enough.
    Overwhelmed,
    /// The dearest next token would go beyond Threat's allowance.
    AllowanceSpent,
    /// A drive below Threat's exit and no threat, for long enough.
    Calm,
    /// A drive below Wake's exit and no request, for long enough.
    Bored,
    /// Quiet for long enough.
    Quiet,
    /// Enough episodes to consolidate, and more than a Dream without progress left behind.
    Dreamable,
    /// Outside input since Dream was entered.
    Awakened,
    /// Nothing left to consolidate, or Dream's time is up.
    Consolidated,
}

impl Condition {
    /// In words, with the thresholds of `t`.
    pub fn words(self, t: &Transitions) -> String {
        match self {
            Self::AtpAbove(least) => format!("ATP > {}", least(t)),
            Self::AtpBelow(most) => format!("ATP < {}", most(t)),
            Self::DriveAbove(least) => format!("drive > {}", least(t)),
            Self::DriveBelow(most) => format!("drive < {}", most(t)),
            Self::Request => "a request".to_owned(),
            Self::NoRequest => "no request".to_owned(),
            Self::Armed => format!("armed ({} ticks without threat)", t.threat_rearm_ticks),
            Self::Threat => format!("threat ≥ {}", t.threat_level),
            Self::Overwhelmed => format!(
                "drive ≥ {} in {} steps in a row",
                t.overwhelming_drive, t.overwhelming_steps
            ),
            Self::AllowanceSpent => format!(
                "the next token could go beyond {} units spent in Threat",
                t.threat_units_max
            ),
            Self::Calm => format!(
                "drive < {} and no threat for {} ticks",
                t.threat_calm_drive, t.threat_calm_ticks
            ),
            Self::Bored => format!(
                "drive < {} and no request for {} ticks",
                t.wake_rest_drive, t.wake_rest_ticks
            ),
            Self::Quiet => format!("{} quiet ticks", t.dream_quiet_ticks),
            Self::Dreamable => format!(
                "≥ {} unconsolidated episodes, more than a Dream without progress left",
                t.dream_episodes_min
            ),
            Self::Awakened => "any outside input".to_owned(),
            Self::Consolidated => {
                format!(
                    "nothing left to consolidate, or {} ticks",
                    t.dream_ticks_max
                )
            }
        }
    }
}

/// How long a state must have lasted before a row leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasted {
    /// However long.
    AtOnce,
    /// For the dwell.
    Dwell,
    /// As long as a Dream is kept from an input; no longer than the dwell.
    Dreamt,
}

impl Lasted {
    /// Ticks that the state must have lasted.
    pub fn ticks(self, t: &Transitions) -> u32 {
        match self {
            Self::AtOnce => 0,
            Self::Dwell => t.dwell_ticks,
            Self::Dreamt => t.dream_wake_ticks.min(t.dwell_ticks),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct TransitionRow {
    /// What it leaves.
    pub from: Leaves,
    /// All of these must hold.
    pub when: &'static [Condition],
    /// How long the state must have lasted.
    pub lasted: Lasted,
    /// What it enters.
    pub to: State,
    /// What the event says.
    pub cause: Cause,
}

const fn row(from: State, when: &'static [Condition], to: State, cause: Cause) -> TransitionRow {
    TransitionRow {
        from: Leaves::Only(from),
        when,
        lasted: Lasted::Dwell,
        to,
        cause,
    }
}

/// A row that does not wait for the dwell.
const fn at_once(
    from: Leaves,
    when: &'static [Condition],
    to: State,
    cause: Cause,
) -> TransitionRow {
    TransitionRow {
        from,
        when,
        lasted: Lasted::AtOnce,
        to,
        cause,
    }
}

/// The row by which an input ends a Dream: what is read then must not be read asleep.
const WOKEN: TransitionRow = TransitionRow {
    from: Leaves::Only(Dream),
    when: &[Awakened],
    lasted: Lasted::Dreamt,
    to: Wake,
    cause: Cause::Awakened,
};

use Condition::{
    AllowanceSpent, Armed, AtpAbove, AtpBelow, Awakened, Bored, Calm, Consolidated, Dreamable,
    DriveAbove, DriveBelow, NoRequest, Overwhelmed, Quiet, Request,
};
use State::{Depletion, Dream, Focus, Rest, Threat, Wake};

/// The table: the first row that matches wins.
#[rustfmt::skip] // a row a line
pub static ROWS: [TransitionRow; 19] = [
    at_once(Leaves::AllBut(Threat), &[Armed, AtpAbove(|t| t.threat_atp_min), Condition::Threat], Threat, Cause::Threat),
    at_once(Leaves::AllBut(Threat), &[Armed, AtpAbove(|t| t.threat_atp_min), Overwhelmed], Threat, Cause::Overwhelming),
    at_once(Leaves::AllBut(Depletion), &[AtpBelow(|t| t.depletion_atp)], Depletion, Cause::Exhausted),
    // The allowance is a limit, not a matter of manners: it does not wait for the dwell.
    at_once(Leaves::Only(Threat), &[AllowanceSpent], Wake, Cause::ThreatSpent),
    row(Threat, &[AtpBelow(|t| t.threat_atp_exit)], Wake, Cause::Tired),
    row(Threat, &[Calm], Focus, Cause::ThreatOver),
    row(Wake, &[AtpBelow(|t| t.wake_rest_atp)], Rest, Cause::Tired),
    row(Wake, &[Bored], Rest, Cause::Bored),
    row(Wake, &[AtpAbove(|t| t.wake_focus_atp), Request], Focus, Cause::Request),
    row(Wake, &[AtpAbove(|t| t.wake_focus_atp), DriveAbove(|t| t.wake_focus_drive)], Focus, Cause::Drive),
    row(Focus, &[AtpBelow(|t| t.focus_wake_atp)], Wake, Cause::Tired),
    row(Focus, &[DriveBelow(|t| t.focus_wake_drive), NoRequest], Wake, Cause::Settled),
    // One overwhelming stimulus has faded before Rest, Wake and their dwells are passed.
    at_once(Leaves::Only(Rest), &[AtpAbove(|t| t.wake_focus_atp), DriveAbove(|t| t.rest_focus_drive)], Focus, Cause::Drive),
    row(Rest, &[AtpAbove(|t| t.rest_wake_atp), Request], Wake, Cause::Request),
    row(Rest, &[AtpAbove(|t| t.rest_wake_atp), DriveAbove(|t| t.rest_wake_drive)], Wake, Cause::Drive),
    row(Rest, &[Quiet, AtpAbove(|t| t.dream_atp_min), Dreamable], Dream, Cause::Quiet),
    WOKEN,
    row(Dream, &[Consolidated], Rest, Cause::Consolidated),
    row(Depletion, &[AtpAbove(|t| t.depletion_atp_exit)], Rest, Cause::Recovered),
];
