//! Arms: the same measurement with one option changed.

use std::str::FromStr;

use clap::ValueEnum;

use crate::cli::CliError;

/// How much of the mind takes part.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Mind {
    /// States, salience and trust as they are.
    On,
    /// The trained experts of every token, whatever the state.
    Off,
}

impl Mind {
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// How experts come from disk.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Io {
    /// Into memory of the process, past the page cache.
    Direct,
    /// They stay in the page cache and are read through a mapping of the store: what the system does by itself.
    Mmap,
}

impl Io {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Mmap => "mmap",
        }
    }
}

/// What one arm runs with; everything else is the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arm {
    pub mind: Mind,
    pub io: Io,
}

/// In what an arm differs from the first: `mind=off`, `io=mmap`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ArmChange {
    Mind(Mind),
    Io(Io),
}

impl FromStr for ArmChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("mind", value)) => Ok(Self::Mind(ValueEnum::from_str(value, false)?)),
            Some(("io", value)) => Ok(Self::Io(ValueEnum::from_str(value, false)?)),
            _ => Err("expected mind=on, mind=off, io=direct or io=mmap".to_owned()),
        }
    }
}

impl Arm {
    pub fn name(self) -> String {
        format!("mind={} io={}", self.mind.name(), self.io.name())
    }

    fn with(self, change: ArmChange) -> Self {
        match change {
            ArmChange::Mind(mind) => Self { mind, ..self },
            ArmChange::Io(io) => Self { io, ..self },
        }
    }

    /// This arm and one for every change.
    ///
    /// # Errors
    /// When two of them are the same.
    pub fn against(self, changes: &[ArmChange]) -> Result<Vec<Self>, CliError> {
        let mut arms = vec![self];
        for change in changes {
            let arm = self.with(*change);
            if arms.contains(&arm) {
                return Err(CliError::request(format!(
                    "--against names the arm {} a second time, or as the first arm is already: leave it out, or change something else",
                    arm.name()
                )));
            }
            arms.push(arm);
        }
        Ok(arms)
    }
}

/// In which order so many arms are measured in a round: each is first in its turn.
pub(super) fn turn(arms: usize, round: usize) -> Vec<usize> {
    (0..arms).map(|at| (at + round) % arms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_is_first_in_its_turn() {
        let turns: Vec<_> = (0..4).map(|round| turn(3, round)).collect();
        assert_eq!(turns, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(turn(1, 7), [0]);
    }

    #[test]
    fn an_arm_differs_in_what_it_names() {
        let first = Arm {
            mind: Mind::On,
            io: Io::Direct,
        };
        let [off, mmap] = ["mind=off", "io=mmap"].map(|change| change.parse().unwrap());
        let names = first.against(&[off, mmap]).unwrap();
        let names: Vec<_> = names.into_iter().map(Arm::name).collect();
        let expected = ["mind=on io=direct", "mind=off io=direct", "mind=on io=mmap"];
        assert_eq!(names, expected);
        let on: ArmChange = "mind=on".parse().unwrap();
        assert!(first.against(&[on]).is_err());
        assert!(first.against(&[off, off]).is_err());
        for wrong in ["mind", "mind=maybe", "io=off", "body=off", ""] {
            assert!(wrong.parse::<ArmChange>().is_err(), "{wrong}");
        }
    }
}
