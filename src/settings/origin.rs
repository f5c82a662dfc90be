//! Where settings were written.

use serde::Serialize;

use crate::input::Place;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum SettingOrigin {
    /// Nowhere but in the defaults.
    Default,
    /// In a file.
    File(Place),
    /// In the environment.
    Environment {
        /// The variable.
        variable: String,
    },
    /// With `--set` on the command line.
    CommandLine {
        /// The argument as it was given.
        argument: String,
    },
    /// Nowhere: what holds for scenarios that do not say it.
    ScenarioDefault,
    /// In a scenario.
    Scenario(Place),
    /// With an option of the command.
    Option {
        /// Its name, such as `--limit`.
        option: String,
    },
    /// By the program that embeds the loop.
    Program {
        /// What it called, such as `limit`.
        call: String,
    },
}

/// For a list of settings; [`super::SettingProblem`] says more of the command line.
impl std::fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::ScenarioDefault => f.write_str("default of scenarios"),
            Self::File(place) | Self::Scenario(place) => place.fmt(f),
            Self::Option { option } => f.write_str(option),
            Self::Program { call } => f.write_str(call),
            Self::Environment { variable } => f.write_str(variable),
            Self::CommandLine { .. } => f.write_str("--set"),
        }
    }
}

impl SettingOrigin {
    /// As it stands beside a value while the layers are merged; no two origins are written alike.
    pub(super) fn written(&self) -> String {
        match self {
            Self::CommandLine { argument } => format!("--set {argument}"),
            Self::Scenario(place) => format!("scenario {place}"),
            Self::Environment { variable } => format!("${variable}"),
            Self::Program { call } => format!("{call}()"),
            other => other.to_string(),
        }
    }
}
