//! What a run was: one page for people, one JSON object for programs, both made from the events alone.
//!
//! Invariant: the report opens no file and asks nobody; what it does not hear of in an event it does not know. What it
//! keeps is bounded, however long the run: see [`bins`] and [`collect`].

pub mod bins;
mod charts;
pub mod collect;
pub mod data;
mod page;
mod words;

pub use collect::Collector;
pub use data::{RunReport, ScenarioSummary};
pub use page::page;
