//! What became of a case, and of every tensor in it.

use serde::Serialize;

use super::Case;

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every tensor within its tolerance.
    Pass,
    /// Some tensor is not.
    Fail,
    /// It needs a part of the model that cannot be run.
    Skipped,
    /// Reported for orientation: the case says itself that it is no target.
    Orientation,
}

/// One compared tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Name in the golden file.
    pub name: String,
    /// Greatest absolute difference (for integers: how many differ).
    pub max_abs_error: f64,
    /// What is allowed.
    pub tolerance: f64,
    /// Whether it is within.
    pub pass: bool,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Name of the case.
    pub name: String,
    /// What became of it.
    pub status: Status,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first tensor, in the order of computation, that differs: where, found and expected.
    pub first_difference: Option<String>,
    /// Every compared tensor in the order of computation.
    pub tensors: Vec<TensorReport>,
}

impl CaseReport {
    /// A case that could not be run to its end.
    pub fn failed(case: &Case, why: String) -> Self {
        Self {
            name: case.name.clone(),
            status: Status::Fail,
            reason: None,
            first_difference: Some(why),
            tensors: Vec::new(),
        }
    }
}
