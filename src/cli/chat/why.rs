//! Why a state changed: what the row of the transition table compared, with the numbers that it found.

use sage_actors::config::Transitions;
use sage_actors::protocol::{Cause, State, Tick};
use serde::Serialize;

use crate::engine::core_loop::recall::Moved;

/// One comparison of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossed {
    /// What was compared.
    pub what: &'static str,
    /// What it was, where the loop knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
    /// `>`, `>=`, `<` or `=`.
    pub is: &'static str,
    /// What it was compared with.
    pub threshold: f64,
    /// The setting that says so; none for what is no setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'static str>,
}

/// A change of state with its reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    /// When.
    pub tick: Tick,
    /// Left.
    pub from: State,
    /// Entered.
    pub to: State,
    /// The row of the table.
    pub cause: Cause,
    /// Ticks that the state before had lasted.
    pub dwelt_ticks: u64,
    /// Energy.
    pub atp: f64,
    /// The reserve that bounds it: `compute`, `io`, or `level` (memory and outside sensors).
    pub least_reserve: &'static str,
    /// What moves states.
    pub drive: f32,
    /// What the row compared.
    pub crossed: Vec<Crossed>,
}

impl Move {
    /// The reasons of a change.
    pub fn new(moved: &Moved, transitions: &Transitions, capacity_units: f64) -> Self {
        let energy = moved.energy;
        let shares = [
            ("compute", energy.compute / capacity_units),
            ("io", energy.io / capacity_units),
            ("level", energy.level),
        ];
        let least = shares.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        Self {
            tick: moved.tick,
            from: moved.change.from,
            to: moved.change.to,
            cause: moved.change.cause,
            dwelt_ticks: moved.dwelt_ticks,
            atp: energy.atp,
            least_reserve: least.map_or("level", |(name, _)| name),
            drive: moved.drive,
            crossed: crossed(moved, transitions),
        }
    }
}

/// The comparisons of the row that matched, in the order of the table.
fn crossed(moved: &Moved, t: &Transitions) -> Vec<Crossed> {
    let (atp, drive) = (moved.energy.atp, f64::from(moved.drive));
    let one = |what, measured, is, threshold, key| Crossed {
        what,
        measured,
        is,
        threshold,
        key,
    };
    let energy = |is, threshold: f64, key| one("atp", Some(atp), is, threshold, Some(key));
    let driven =
        |is, threshold: f32, key| one("drive", Some(drive), is, f64::from(threshold), Some(key));
    let lasted = |what, ticks: u32, key| one(what, None, ">=", f64::from(ticks), Some(key));
    let requests = f64::from(moved.open_requests);
    let threat = f64::from(moved.report.threat);
    let unasked = one("open requests", Some(requests), "=", 0.0, None);
    let from = moved.change.from;
    // Wake and Rest are left upwards by a request or a drive, each with its own thresholds.
    let enough = match from {
        State::Rest => energy(">", t.rest_wake_atp, "rest_wake_atp"),
        _ => energy(">", t.wake_focus_atp, "wake_focus_atp"),
    };
    match moved.change.cause {
        Cause::Threat => vec![
            one(
                "threat",
                Some(threat),
                ">=",
                f64::from(t.threat_level),
                Some("threat_level"),
            ),
            energy(">", t.threat_atp_min, "threat_atp_min"),
        ],
        Cause::Overwhelming => vec![
            driven(">=", t.overwhelming_drive, "overwhelming_drive"),
            lasted("steps of it", t.overwhelming_steps, "overwhelming_steps"),
            energy(">", t.threat_atp_min, "threat_atp_min"),
        ],
        Cause::Exhausted => vec![energy("<", t.depletion_atp, "depletion_atp")],
        Cause::ThreatSpent => vec![one(
            "units spent, the next token's included",
            None,
            ">",
            t.threat_units_max,
            Some("threat_units_max"),
        )],
        Cause::ThreatOver => vec![
            driven("<", t.threat_calm_drive, "threat_calm_drive"),
            lasted("ticks of it", t.threat_calm_ticks, "threat_calm_ticks"),
        ],
        Cause::Tired => vec![match from {
            State::Threat => energy("<", t.threat_atp_exit, "threat_atp_exit"),
            State::Focus => energy("<", t.focus_wake_atp, "focus_wake_atp"),
            _ => energy("<", t.wake_rest_atp, "wake_rest_atp"),
        }],
        Cause::Bored => vec![
            driven("<", t.wake_rest_drive, "wake_rest_drive"),
            lasted("ticks of it", t.wake_rest_ticks, "wake_rest_ticks"),
            unasked,
        ],
        Cause::Request => vec![one("open requests", Some(requests), ">", 0.0, None), enough],
        Cause::Drive => vec![
            match from {
                State::Rest => driven(">", t.rest_wake_drive, "rest_wake_drive"),
                _ => driven(">", t.wake_focus_drive, "wake_focus_drive"),
            },
            enough,
        ],
        Cause::Settled => vec![driven("<", t.focus_wake_drive, "focus_wake_drive"), unasked],
        Cause::Quiet => vec![
            lasted("quiet ticks", t.dream_quiet_ticks, "dream_quiet_ticks"),
            lasted("episodes", t.dream_episodes_min, "dream_episodes_min"),
            energy(">", t.dream_atp_min, "dream_atp_min"),
        ],
        Cause::Awakened => vec![one("outside input", None, ">", 0.0, None)],
        Cause::Consolidated => vec![one(
            "ticks of dream",
            Some(moved.dwelt_ticks as f64),
            ">=",
            f64::from(t.dream_ticks_max),
            Some("dream_ticks_max"),
        )],
        Cause::Recovered => vec![energy(">", t.depletion_atp_exit, "depletion_atp_exit")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sage_actors::protocol::{Energy, SalienceReport, Transition};

    /// Every number that is shown lies on the side of its threshold that is shown.
    #[test]
    fn what_is_said_to_be_crossed_is() {
        let transitions = Transitions::default();
        let moved = |from, to, cause, atp: f64, drive, open_requests| Moved {
            tick: 7,
            change: Transition { from, to, cause },
            energy: Energy {
                atp,
                compute: 256.0,
                io: 256.0,
                level: atp / 100.0,
            },
            drive,
            report: SalienceReport {
                threat: 1.0,
                ..SalienceReport::default()
            },
            open_requests,
            dwelt_ticks: 200,
        };
        use State::{Depletion, Dream, Focus, Rest, Threat, Wake};
        for (from, to, cause, atp, drive, requests) in [
            (Wake, Threat, Cause::Threat, 90.0, 0.1, 1),
            (Wake, Threat, Cause::Overwhelming, 90.0, 0.99, 0),
            (Focus, Depletion, Cause::Exhausted, 0.0, 0.1, 1),
            (Threat, Focus, Cause::ThreatOver, 90.0, 0.1, 0),
            (Threat, Wake, Cause::Tired, 20.0, 0.1, 0),
            (Focus, Wake, Cause::Tired, 28.0, 0.1, 1),
            (Wake, Rest, Cause::Tired, 19.0, 0.1, 1),
            (Wake, Rest, Cause::Bored, 90.0, 0.1, 0),
            (Wake, Focus, Cause::Request, 90.0, 0.1, 1),
            (Rest, Wake, Cause::Request, 45.0, 0.1, 1),
            (Wake, Focus, Cause::Drive, 90.0, 0.9, 0),
            (Rest, Wake, Cause::Drive, 90.0, 0.6, 0),
            (Focus, Wake, Cause::Settled, 90.0, 0.1, 0),
            (Rest, Dream, Cause::Quiet, 90.0, 0.1, 0),
            (Dream, Rest, Cause::Consolidated, 90.0, 0.1, 0),
            (Depletion, Rest, Cause::Recovered, 90.0, 0.1, 0),
        ] {
            let why = Move::new(
                &moved(from, to, cause, atp, drive, requests),
                &transitions,
                256.0,
            );
            assert!(!why.crossed.is_empty(), "{cause:?}");
            for crossed in &why.crossed {
                let Some(measured) = crossed.measured else {
                    continue;
                };
                let holds = match crossed.is {
                    "<" => measured < crossed.threshold,
                    ">" => measured > crossed.threshold,
                    ">=" => measured >= crossed.threshold,
                    _ => measured == crossed.threshold,
                };
                assert!(holds, "{cause:?}: {crossed:?}");
            }
        }
        let shown = Move::new(
            &moved(Focus, Depletion, Cause::Exhausted, 0.0, 0.0, 1),
            &transitions,
            256.0,
        );
        assert_eq!(shown.least_reserve, "level");
    }
}
