//! Settings: what the mind is configured with, and how the machine is sensed, from whichever layer said it last.
//!
//! The layers, each over the one before: the defaults (`config/default.toml`), the file named by `SAGE_CONFIG`, the
//! file of `--config`, the environment (`SAGE_MIND__BUDGETS__WAKE__F=0.75`: two underscores between levels), and
//! `--set KEY=VALUE`. Files and values are TOML. A layer says only what it changes. Every mistake of every layer is
//! found before anything runs, and named with the place where it was written.

mod error;
mod layers;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use sage_actors::config::MindConfig;
use serde::Serialize;

use crate::input::{Place, ReadError, Source, read_text};
use crate::sensors::SensorSettings;
pub use error::{SettingProblem, SettingsError, Trouble};
use layers::Reading;
use resolve::Resolved;
pub use schema::{FOUND_AT_START, Found};
use schema::{Kind, Schema};

/// The defaults as they are documented; equal to those of the types, which tests hold.
const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Names the file of the layer between the defaults and `--config`.
pub const FILE_VARIABLE: &str = "SAGE_CONFIG";

/// What variables that are settings begin with; two underscores stand between levels.
const PREFIX: &str = "SAGE_";
const LEVEL: &str = "__";

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum Origin {
    /// Nowhere but in the defaults.
    Default,
    /// In a file.
    File(Place),
    /// In the environment.
    Environment {
        /// The variable.
        variable: String,
    },
    /// On the command line.
    CommandLine {
        /// The argument as it was given.
        argument: String,
    },
}

/// For a list of settings; [`SettingProblem`] says more of the command line.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => place.fmt(f),
            Self::Environment { variable } => f.write_str(variable),
            Self::CommandLine { .. } => f.write_str("--set"),
        }
    }
}

/// One setting as it came out.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Its key, such as `mind.budgets.wake.f`.
    pub key: String,
    /// Its value; none for one that may be left out and was.
    pub value: Option<toml::Value>,
    /// Its value if nothing is said.
    pub default: Option<toml::Value>,
    /// What it may be.
    pub expected: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the mind; what is found at start is not filled in.
    pub mind: MindConfig,
    /// How the machine's own sensors are read.
    pub sensors: SensorSettings,
    /// One by one, in the order of the defaults.
    pub list: Vec<Setting>,
}

impl Settings {
    /// The setting of this key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.list.iter().find(|setting| setting.key == key)
    }
}

/// What the layers above the defaults are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, the later over the earlier.
    pub files: Vec<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// `KEY=VALUE` of the command line, the later over the earlier.
    pub set: Vec<String>,
}

impl Sources {
    /// Those of this process, with the file and the values that its command line names.
    pub fn of_process(config: Option<PathBuf>, set: Vec<String>) -> Self {
        let named = std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
        let mut environment: Vec<_> = std::env::vars_os().collect();
        environment.sort();
        Self {
            files: named.map(PathBuf::from).into_iter().chain(config).collect(),
            environment,
            set,
        }
    }

    /// Reads every layer and puts them together.
    ///
    /// # Errors
    /// When a file cannot be read; else every mistake that was found.
    pub fn load(&self) -> Result<Settings, SettingsError> {
        let schema = Schema::of_all().map_err(SettingsError::Schema)?;
        let mut reading = Reading::new(&schema);
        let default_place = PathBuf::from("config/default.toml");
        reading.file(
            &Source {
                path: &default_place,
                text: DEFAULTS,
            },
            |_| Origin::Default,
        );
        let mut resolved = Resolved::defaults(&schema, reading.finish()?);
        let mut reading = Reading::new(&schema);
        for path in &self.files {
            let text = read_text(path)?;
            let source = Source { path, text: &text };
            reading.file(&source, |span| Origin::File(source.place(span.start)));
        }
        for (name, value) in &self.environment {
            reading.variable(name, value);
        }
        for argument in &self.set {
            reading.argument(argument);
        }
        let (assignments, mut problems) = reading.into_parts();
        resolved.assign(assignments, &mut problems);
        resolved.settings(problems)
    }
}

impl From<ReadError> for SettingsError {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

/// What a kind of setting may be, in words; with its bound for numbers.
fn expected(kind: &Kind, bound: Option<sage_actors::config::Bound>) -> String {
    let bound = bound.map_or(String::new(), |bound| format!(" {bound}"));
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Whole => format!("a whole number{bound}"),
        Kind::Number => format!("a number{bound}"),
        Kind::Numbers(count) => format!("{count} numbers, each{bound}"),
        Kind::Choice(names) => match names.as_slice() {
            [others @ .., last] if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => names.join(", "),
        },
    }
}
