//! Scripted runs: observations at logical times, a limit, and what is expected to come of it.

mod check;
#[cfg(test)]
mod check_tests;
mod fields;
#[cfg(feature = "cli")]
pub(crate) mod import;
pub mod language;
mod media_files;
mod observations;
mod runner;
mod script;

pub use runner::{RunError, run};
pub use script::{
    Expectation, Scenario, ScenarioError, Scripted, ScriptedKind, SensorDeclaration, Speak,
    state_named,
};
