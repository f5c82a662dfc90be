//! What a look at a machine or a model found, and what to do about it.

use serde::Serialize;

use super::{CliError, Printer};

/// How much something limits a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FindingState {
    /// It does not.
    Fine,
    /// Worth knowing.
    Notice,
    /// It does, and something can be done.
    Limits,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub name: &'static str,
    pub state: FindingState,
    /// What was found.
    pub found: String,
    /// What to do; none where nothing is to be done.
    pub advice: Option<String>,
}

impl Finding {
    pub fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: FindingState::Fine,
            found: found.into(),
            advice: None,
        }
    }

    pub fn notice(self, advice: impl Into<String>) -> Self {
        Self {
            state: FindingState::Notice,
            advice: Some(advice.into()),
            ..self
        }
    }

    pub fn limits(self, advice: impl Into<String>) -> Self {
        Self {
            state: FindingState::Limits,
            ..self.notice(advice)
        }
    }

    /// For people.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, printer: &Printer) -> Result<(), CliError> {
        let mark = match self.state {
            FindingState::Fine => "ok    ",
            FindingState::Notice => "note  ",
            FindingState::Limits => "limits",
        };
        printer.line(format_args!("{mark}  {}: {}", self.name, self.found))?;
        match &self.advice {
            Some(advice) => printer.line(format_args!("        {advice}")),
            None => Ok(()),
        }
    }
}
