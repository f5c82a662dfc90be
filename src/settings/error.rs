//! What can be wrong with settings.

use std::fmt;

use super::SettingOrigin;
use crate::input::{Attributed, Fault, TextFileError, short};

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(TextFileError),
    /// Every mistake in what was written.
    #[error("{}", lines(.0))]
    Wrong(Vec<SettingProblem>),
    /// The program's own description of its settings is broken: never the user's doing.
    #[error("the settings cannot be described: {0}")]
    Schema(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct SettingProblem {
    /// Where it was written.
    pub origin: SettingOrigin,
    /// The key; empty where a text cannot be understood at all.
    pub key: String,
    /// What is wrong.
    pub trouble: Trouble,
    /// What to do about it, where that can be guessed.
    pub hint: Option<String>,
}

/// Kinds of mistakes.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// Not TOML, or not `KEY=VALUE`.
    Syntax(String),
    /// There is no such key.
    Unknown,
    /// The key exists, but nobody sets it.
    Found {
        /// What it is found from.
        from: &'static str,
    },
    /// The value is of the wrong type or out of its bounds.
    Value {
        /// As it was written.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// Some of a table that must be whole or absent is missing.
    Incomplete {
        /// The missing keys.
        missing: Vec<String>,
    },
    /// Two things were said at once.
    Contradiction(String),
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (
            SettingOrigin::Option { .. } | SettingOrigin::Program { .. },
            Trouble::Value { value, expected },
        ) = (&self.origin, &self.trouble)
        {
            write!(f, "{} is {value}; expected {expected}", self.origin)?;
            return self.hinted(f);
        }
        match &self.origin {
            SettingOrigin::CommandLine { argument } => write!(f, "--set {argument}: ")?,
            origin => write!(f, "{origin}: ")?,
        }
        let key = short(&self.key);
        match &self.trouble {
            Trouble::Syntax(message) => write!(f, "{message}")?,
            Trouble::Unknown => write!(f, "there is no setting `{key}`")?,
            Trouble::Found { from } => {
                write!(f, "`{key}` cannot be set: it is found at start from {from}")?;
            }
            Trouble::Value { value, expected } => {
                write!(f, "`{key}` is {value}; expected {expected}")?;
            }
            Trouble::Incomplete { missing } => {
                write!(f, "`{key}` lacks {}", missing.join(", "))?;
            }
            Trouble::Contradiction(message) => write!(f, "`{key}`: {message}")?,
        }
        self.hinted(f)
    }
}

impl SettingProblem {
    fn hinted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

fn lines(problems: &[SettingProblem]) -> String {
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    shown.join("\n")
}

impl Attributed for SettingsError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreadable(_) | Self::Wrong(_) => Fault::Request,
            Self::Schema(_) => Fault::Run,
        }
    }
}
