//! The instrument that judges the mind: what a state, a policy and a limit cost in quality, against exact routing.
//!
//! Every token of a text is a step of its own through the same actors, with real residency: the bias towards residents
//! and the byte cap act as they do in decode. A batch of given tokens would hide what they cost. With chunks of more
//! tokens the texts are read as reading reads them, which is priced so.
//!
//! - The *oracle* is the model at its trained k with exact routing and no limit, read in the same steps. Its logits lie
//!   in a scratch file that has no name, so that nothing is left behind whatever ends the run.
//! - An *arm* is a state held, a policy and a limit, and perhaps a *variation*: another mind, with one mechanism off or with
//!   other numbers, which is compared with the same arm without it. Each arm reads the texts and answers the tasks in two processes of
//!   its own: the peak of memory is the arm's alone, and neither part changes the other. The limit covers such a
//!   process, which holds no tokenizer.
//! - Within a part one mind lives through all documents or items in their order: a document starts with an empty
//!   context, but what is resident, trusted and remembered carries over. So a run resumes between parts, never inside;
//!   the oracle reads again where texts are left.
//! - Intervals are percentiles of 2,000 resamples of the documents or items; an arm and the exact arm are resampled
//!   together. No clock and no unseeded number takes part in anything but the fields called `measured`.

mod arm;
pub mod bootstrap;
mod change;
mod estimate;
mod material;
mod measure;
mod message;
mod metrics;
mod price;
mod rank;
pub mod recall;
mod record;
mod report;
mod rows;
mod run;
pub mod salience;
mod scratch;
mod worker;

use crate::input::{Attributed, Fault};
use std::path::PathBuf;

use crate::core::EngineError;
use crate::session::OpenError;
use crate::text::TextError;

pub use arm::{ArmPolicy, NamedLimit, Variation, arms};
pub use estimate::{ArmDifference, Estimate};
pub use material::{Document, Material, MaterialOptions};
pub use metrics::PartConditions;
pub use price::{Correlation, PricedExpert, Prices, price};
pub use report::{ArmReport, EvalReport, TasksReport, TextReport};
pub use run::{EvalSettings, Evaluation};
pub use worker::{Job, TOLD, TOLD_MARK, serve};

/// A part of an arm.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum EvalPart {
    /// Reading texts.
    Text,
    /// Answering tasks.
    Tasks,
}

/// Why an evaluation stopped.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    File {
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A line of a file is not what it should be.
    #[error("{path}: line {line}: {problem}")]
    Line {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The process of an arm ended with an error.
    #[error("{arm}: {message}")]
    Worker {
        /// Whose process.
        arm: String,
        /// What it said.
        message: String,
        /// Whose doing it was.
        fault: Fault,
    },
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl From<TextError> for EvalError {
    fn from(error: TextError) -> Self {
        EngineError::from(error).into()
    }
}

impl EvalError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| EvalError::System { what, source }
    }
}

impl Attributed for EvalError {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::Open(error) => error.fault(),
            Self::Worker { fault, .. } => *fault,
            Self::File { .. } | Self::Line { .. } => Fault::Request,
            Self::System { .. } => Fault::Run,
        }
    }
}
