//! Settings: how much a session takes and says, what the mind is configured with, and how the machine is sensed, from
//! whichever layer said it last.
//!
//! The layers, each over the one before: the defaults (`config/default.toml`), the file named by `SAGE_CONFIG`, the
//! file of `--config`, what a scenario says of its own run, the environment (`SAGE_MIND__BUDGETS__WAKE__F=0.75`: two
//! underscores between levels), `--set KEY=VALUE`, and the command's own options or what a program calls. Where a scenario
//! says nothing, its own defaults stand between `config/default.toml` and the files. Files and values are TOML. A layer says only what it changes. Every mistake of every layer is
//! found before anything runs, and named with the place where it was written.

mod error;
mod layers;
mod resolve;
mod schema;
mod session;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sage_actors::config::MindConfig;
use serde::Serialize;

use crate::input::{Place, ReadError, Source, read_text};
use crate::sensors::SensorSettings;
pub use error::{SettingProblem, SettingsError, Trouble};
use layers::Reading;
use resolve::Resolved;
pub use schema::{FOUND_AT_START, Found};
use schema::{Kind, Rule, Schema};
pub use session::{Key, SamplingSettings, SessionSettings, SettingValue, keys};

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

/// For a list of settings; [`SettingProblem`] says more of the command line.
impl std::fmt::Display for Origin {
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

impl Origin {
    /// As it stands beside a value while the layers are merged; no two origins are written alike.
    fn written(&self) -> String {
        match self {
            Self::CommandLine { argument } => format!("--set {argument}"),
            Self::Scenario(place) => format!("scenario {place}"),
            Self::Environment { variable } => format!("${variable}"),
            Self::Program { call } => format!("{call}()"),
            other => other.to_string(),
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
    /// How much a session takes, reads and says.
    pub session: SessionSettings,
    /// How an answer's tokens are chosen.
    pub sampling: SamplingSettings,
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
    /// What was put over them by [`Self::option`] and its like.
    said: Vec<Said>,
}

/// One value that no file of settings says.
#[derive(Clone, Debug)]
struct Said {
    key: &'static str,
    value: toml::Value,
    origin: Origin,
}

impl Said {
    fn is_scenario_default(&self) -> bool {
        self.origin == Origin::ScenarioDefault
    }

    fn is_scenario(&self) -> bool {
        matches!(self.origin, Origin::Scenario(_))
    }
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
            said: Vec::new(),
        }
    }

    /// An option of the command, such as `--limit`: above every other layer. None: it was not given.
    pub fn option<T: SettingValue>(&mut self, key: Key<T>, option: &str, value: Option<T>) {
        let option = option.to_owned();
        self.say(key, value, Origin::Option { option });
    }

    /// What a program says by calling `call`: above every other layer. None: it was not called.
    pub fn program<T: SettingValue>(&mut self, key: Key<T>, call: &str, value: Option<T>) {
        let call = call.to_owned();
        self.say(key, value, Origin::Program { call });
    }

    /// What a scenario says at `place`: above files, below the environment, `--set` and options, which are nearer to whoever
    /// runs it. Without a place it is what holds for scenarios that do not say it, which is above the defaults alone.
    pub fn scenario<T: SettingValue>(
        &mut self,
        key: Key<T>,
        value: Option<T>,
        place: Option<Place>,
    ) {
        self.say(
            key,
            value,
            place.map_or(Origin::ScenarioDefault, Origin::Scenario),
        );
    }

    fn say<T: SettingValue>(&mut self, key: Key<T>, value: Option<T>, origin: Origin) {
        self.said.extend(value.map(|value| Said {
            key: key.name,
            value: value.written(),
            origin,
        }));
    }

    /// Reads every layer and puts them together.
    ///
    /// # Errors
    /// When a file cannot be read; else every mistake that was found.
    pub fn load(&self) -> Result<Settings, SettingsError> {
        let defaults = Source {
            path: Path::new("config/default.toml"),
            text: DEFAULTS,
        };
        let schema = Schema::of_defaults(&defaults).map_err(SettingsError::Schema)?;
        let mut reading = Reading::new(&schema);
        reading.file(&defaults, |_| Origin::Default);
        let defaults = reading.finish()?;
        let mut reading = Reading::new(&schema);
        let said = |reading: &mut Reading<'_>, of: fn(&Said) -> bool| {
            self.said
                .iter()
                .filter(|said| of(said))
                .for_each(|said| reading.said(said));
        };
        said(&mut reading, Said::is_scenario_default);
        for path in &self.files {
            let text = read_text(path)?;
            let source = Source { path, text: &text };
            reading.file(&source, |span| Origin::File(source.place(span.start)));
        }
        said(&mut reading, Said::is_scenario);
        for (name, value) in &self.environment {
            reading.variable(name, value);
        }
        for argument in &self.set {
            reading.argument(argument);
        }
        said(&mut reading, |said| {
            !said.is_scenario_default() && !said.is_scenario()
        });
        let (said, mut problems) = reading.into_parts();
        Resolved::merge(&schema, defaults, said, &mut problems)?.settings(problems)
    }
}

impl From<ReadError> for SettingsError {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

/// What a kind of setting may be, in words; with its bound for numbers.
fn expected(kind: &Kind, rule: Rule) -> String {
    let bound = match (rule, rule.words()) {
        (Rule::Any, _) => String::new(),
        (Rule::AtLeastOne | Rule::ZeroOrMore, words) => format!(", {words}"),
        (_, words) => format!(" {words}"),
    };
    match kind {
        Kind::Limit => "auto, none, or a size such as 512MiB, 6GiB, 25% or 64slots".to_owned(),
        Kind::WholeOrAuto => format!("auto, or a whole number{bound}"),
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
