//! Settings: how much a session takes and says, what the mind is configured with, and how the machine is sensed, from
//! whichever layer said it last.
//!
//! The layers, each over the one before: the defaults (`config/default.toml`), the file named by `SAGE_CONFIG`, the
//! file of `--config`, what a scenario says of its own run, the environment (`SAGE_MIND__BUDGETS__WAKE__F=0.75`: two
//! underscores between levels), `--set KEY=VALUE`, and the command's own options or what a program calls. Where a scenario
//! says nothing, its own defaults stand between `config/default.toml` and the files. Files and values are TOML. A layer says only what it changes. Every mistake of every layer is
//! found before anything runs, and named with the place where it was written.

mod error;
mod kinds;
mod layers;
mod origin;
mod resolve;
mod said;
mod schema;
mod session;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::input::{Place, Source, TextFileError, read_text};
pub use error::{SettingProblem, SettingsError, Trouble};
use layers::SettingsReader;
pub use origin::SettingOrigin;
use resolve::MergedSettings;
use said::SettingOverride;
#[cfg(feature = "cli")]
pub use schema::FOUND_AT_START;
use schema::Schema;
pub use session::{SamplingSettings, SessionSettings, SettingKey, SettingValue, keys};
pub use values::{Setting, Settings};

/// The defaults as they are documented; equal to those of the types, which tests hold.
const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Names the file of the layer between the defaults and `--config`.
pub const FILE_VARIABLE: &str = "SAGE_CONFIG";

/// What the layers above the defaults are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, the later over the earlier.
    pub files: Vec<PathBuf>,
    /// Variables of the environment with their values; those that begin otherwise than `SAGE_` are not looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// `KEY=VALUE` of the command line, the later over the earlier.
    pub set: Vec<String>,
    /// What was put over them by [`Self::option`] and its like.
    said: Vec<SettingOverride>,
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
    pub fn option<T: SettingValue>(&mut self, key: SettingKey<T>, option: &str, value: Option<T>) {
        let option = option.to_owned();
        self.say(key, value, SettingOrigin::Option { option });
    }

    /// What a program says by calling `call`: above every other layer. None: it was not called.
    pub fn program<T: SettingValue>(&mut self, key: SettingKey<T>, call: &str, value: Option<T>) {
        let call = call.to_owned();
        self.say(key, value, SettingOrigin::Program { call });
    }

    /// What a scenario says at `place`: above files, below the environment, `--set` and options, which are nearer to whoever
    /// runs it. Without a place it is what holds for scenarios that do not say it, which is above the defaults alone.
    pub fn scenario<T: SettingValue>(
        &mut self,
        key: SettingKey<T>,
        value: Option<T>,
        place: Option<Place>,
    ) {
        self.say(
            key,
            value,
            place.map_or(SettingOrigin::ScenarioDefault, SettingOrigin::Scenario),
        );
    }

    fn say<T: SettingValue>(
        &mut self,
        key: SettingKey<T>,
        value: Option<T>,
        origin: SettingOrigin,
    ) {
        self.said.extend(value.map(|value| SettingOverride {
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
        let mut reading = SettingsReader::new(&schema);
        reading.file(&defaults, |_| SettingOrigin::Default);
        let defaults = reading.finish()?;
        let mut reading = SettingsReader::new(&schema);
        let said = |reading: &mut SettingsReader<'_>, of: fn(&SettingOverride) -> bool| {
            self.said
                .iter()
                .filter(|said| of(said))
                .for_each(|said| reading.said(said));
        };
        said(&mut reading, SettingOverride::is_scenario_default);
        for path in &self.files {
            let text = read_text(path)?;
            let source = Source { path, text: &text };
            reading.file(&source, |span| {
                SettingOrigin::File(source.place(span.start))
            });
        }
        said(&mut reading, SettingOverride::is_scenario);
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
        MergedSettings::merge(&schema, defaults, said, &mut problems)?.settings(problems)
    }
}

impl From<TextFileError> for SettingsError {
    fn from(error: TextFileError) -> Self {
        Self::Unreadable(error)
    }
}
