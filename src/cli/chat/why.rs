//! Why a state changed: the conditions of the transition table's row, with the numbers that it found.

use sage_actors::config::Transitions;
use sage_actors::metabolic::table::{Condition, ROWS, TransitionRow};
use sage_actors::protocol::{Cause, State, Tick};
use serde::Serialize;

use crate::core::core_loop::recall::Moved;

/// One condition that held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossed {
    /// In words, with the threshold in force.
    pub condition: String,
    /// What was measured; none where that is a count which only the controller keeps.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub measured: Option<ThresholdCheck>,
}

/// A number, and what it was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ThresholdCheck {
    /// `atp`, `drive`, `threat` or `requests`.
    pub what: &'static str,
    /// The number.
    pub measured: f64,
    /// What it was compared with.
    pub threshold: f64,
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
    /// What the row of the table calls it.
    pub cause: Cause,
    /// Ticks that the state before had lasted.
    pub dwelt_ticks: u64,
    /// Energy.
    pub atp: f64,
    /// The reserve that bounds it: `compute`, `io`, or `level` (memory and outside sensors).
    pub least_reserve: &'static str,
    /// What moves states.
    pub drive: f32,
    /// What the row asks for.
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
        let conditions = row(moved).map_or(&[][..], |row| row.when);
        let crossed = conditions.iter().map(|condition| Crossed {
            condition: condition.words(transitions),
            measured: measured(*condition, moved, transitions),
        });
        Self {
            tick: moved.tick,
            from: moved.change.from,
            to: moved.change.to,
            cause: moved.change.cause,
            dwelt_ticks: moved.dwelt_ticks,
            atp: energy.atp,
            least_reserve: least.map_or("level", |(name, _)| name),
            drive: moved.drive,
            crossed: crossed.collect(),
        }
    }
}

/// The row that a change came from: no two have its states and its cause.
fn row(moved: &Moved) -> Option<&'static TransitionRow> {
    let change = moved.change;
    ROWS.iter().find(|row| {
        row.from.includes(change.from) && (row.to, row.cause) == (change.to, change.cause)
    })
}

fn measured(condition: Condition, moved: &Moved, t: &Transitions) -> Option<ThresholdCheck> {
    let (atp, drive) = (moved.energy.atp, f64::from(moved.drive));
    let (what, measured, threshold) = match condition {
        Condition::AtpAbove(bound) | Condition::AtpBelow(bound) => ("atp", atp, bound(t)),
        Condition::DriveAbove(bound) | Condition::DriveBelow(bound) => {
            ("drive", drive, f64::from(bound(t)))
        }
        Condition::Overwhelmed => ("drive", drive, f64::from(t.overwhelming_drive)),
        Condition::Calm => ("drive", drive, f64::from(t.threat_calm_drive)),
        Condition::Bored => ("drive", drive, f64::from(t.wake_rest_drive)),
        Condition::Threat => {
            let threat = f64::from(moved.report.threat);
            ("threat", threat, f64::from(t.threat_level))
        }
        Condition::Request | Condition::NoRequest => {
            ("requests", f64::from(moved.open_requests), 0.0)
        }
        Condition::Armed
        | Condition::AllowanceSpent
        | Condition::Quiet
        | Condition::Dreamable
        | Condition::Awakened
        | Condition::Consolidated => return None,
    };
    Some(ThresholdCheck {
        what,
        measured,
        threshold,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sage_actors::metabolic::table::Leaves;
    use sage_actors::protocol::{Energy, SalienceReport, Transition};

    fn moved(row: &TransitionRow, atp: f64, open_requests: u32) -> Moved {
        let from = match row.from {
            Leaves::Only(state) => state,
            Leaves::AllBut(State::Wake) => State::Focus,
            Leaves::AllBut(_) => State::Wake,
        };
        Moved {
            tick: 7,
            change: Transition {
                from,
                to: row.to,
                cause: row.cause,
            },
            energy: Energy {
                atp,
                compute: 256.0,
                io: 256.0,
                level: atp / 100.0,
            },
            drive: 0.25,
            report: SalienceReport {
                threat: 1.0,
                ..SalienceReport::default()
            },
            open_requests,
            dwelt_ticks: 200,
        }
    }

    /// Every row is found again from the change that it makes, and says its own conditions with the numbers of the moment.
    #[test]
    fn every_row_explains_its_change() {
        let transitions = Transitions::default();
        for expected in &ROWS {
            let moved = moved(expected, 42.0, 3);
            let found = row(&moved).expect("a row");
            assert!(std::ptr::eq(found, expected), "{expected:?} is {found:?}");
            let why = Move::new(&moved, &transitions, 256.0);
            assert_eq!(why.crossed.len(), expected.when.len());
            for crossed in &why.crossed {
                let Some(number) = crossed.measured else {
                    continue;
                };
                let measured = match number.what {
                    "atp" => 42.0,
                    "drive" => 0.25,
                    "threat" => 1.0,
                    _ => 3.0,
                };
                assert_eq!(number.measured, measured, "{crossed:?}");
                let shown = format!("{}", number.threshold as f32);
                let said = number.what == "requests" || crossed.condition.contains(&shown);
                assert!(said, "{crossed:?}");
            }
        }
    }

    #[test]
    fn the_reserve_that_ran_out_is_named() {
        let exhausted = ROWS.iter().find(|row| row.cause == Cause::Exhausted);
        let moved = moved(exhausted.expect("a row"), 0.0, 1);
        let why = Move::new(&moved, &Transitions::default(), 256.0);
        assert_eq!(why.least_reserve, "level");
        let io = Moved {
            energy: Energy {
                io: 3.0,
                level: 1.0,
                ..moved.energy
            },
            ..moved
        };
        let why = Move::new(&io, &Transitions::default(), 256.0);
        assert_eq!(why.least_reserve, "io");
    }
}
