//! Comparing the engine with goldens of the reference implementation.
//!
//! A folder holds one `<case>.safetensors` a case with the inputs (`in.*`) and every intermediate result, and a
//! `<case>.json` that describes it. What the engine cannot run is said, never passed over.

mod case;
mod compare;

use std::path::Path;

use sage_actors::config::{MindConfig, RoutingPolicy, StateBudget};
use sage_actors::protocol::Phase;
use serde::Serialize;

pub use case::{Case, CaseError, Golden};

use super::orient::Arrivals;
use super::sampling::argmax;
use super::{Engine, EngineError, Forward, Probe};
use compare::Recorder;

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

/// Budgets of a run that must equal the reference: the trained k, all memory, no bias, no cap.
pub const EXACT: StateBudget = StateBudget {
    f: 1.0,
    expert_memory: 1.0,
    miss_bytes_per_token: 0.0,
    residency_bias: 0.0,
    salience_bias: 0.0,
    focus_weight: 0.0,
    lookahead: true,
    talker: true,
};

/// Holds a mind to the reference: its experts for every token, in whatever memory there is.
pub fn hold_to_reference(mind: &mut MindConfig) {
    mind.routing = RoutingPolicy::Exact;
    mind.hold = Some(EXACT);
}

/// The cases of a folder, in order of their names.
///
/// # Errors
/// When the folder or a file cannot be read, or holds no golden.
pub fn cases(folder: &Path) -> Result<Vec<Case>, CaseError> {
    case::list(folder)
}

/// Runs one case and compares everything that the golden file holds.
///
/// # Errors
/// When the engine fails, or the golden file is damaged; a difference is a report, not an error.
pub async fn run(engine: &mut Engine, case: &Case) -> Result<CaseReport, VerifyError> {
    let mut report = CaseReport {
        name: case.name.clone(),
        status: Status::Skipped,
        reason: case.cannot_run(),
        first_difference: None,
        tensors: Vec::new(),
    };
    if report.reason.is_some() {
        return Ok(report);
    }
    let golden = case.open()?;
    let inputs = case.inputs(&golden)?;
    let config = engine.thinker.config.clone();
    let mut comparison = compare::Comparison::new(&golden, &inputs, &config);
    for row in 0..inputs.rows() {
        let tokens = inputs.tokens(row);
        let mut kv = engine.new_sequence()?;
        let mut recorder = Recorder::default();
        let mut last = Forward::default();
        for chunk in tokens.chunks(engine.chunk_tokens) {
            let orientation = engine.orient(Arrivals::default()).await?;
            let probe: &mut dyn Probe = &mut recorder;
            last = engine
                .forward(&mut kv, chunk, Phase::Prefill, &orientation, Some(probe))
                .await?;
        }
        comparison.prefill(row, &recorder, |normed| engine.logits(normed))?;
        let steps = inputs.greedy_steps;
        if steps > 0 {
            let generated = greedy(engine, &mut kv, &last, steps).await?;
            comparison.greedy(row, &generated)?;
        }
    }
    report.tensors = comparison.reports();
    report.first_difference = comparison.first_difference();
    let same = report.tensors.iter().all(|tensor| tensor.pass);
    report.status = match (case.orientation_only, same) {
        (true, _) => Status::Orientation,
        (false, true) => Status::Pass,
        (false, false) => Status::Fail,
    };
    Ok(report)
}

/// Greedy continuation: the tokens, and the logits that each was chosen from.
struct Generated {
    tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

async fn greedy(
    engine: &mut Engine,
    kv: &mut crate::model::KvCache,
    prefill: &Forward,
    steps: usize,
) -> Result<Generated, EngineError> {
    let hidden = engine.thinker.config.hidden_size;
    let end = engine.source.config().im_end_token_id;
    let mut out = Generated {
        tokens: Vec::new(),
        logits: Vec::new(),
    };
    let mut logits = engine.logits(&prefill.normed[prefill.normed.len() - hidden..]);
    loop {
        let token = argmax(&logits);
        out.tokens.push(token);
        out.logits.push(logits);
        if out.tokens.len() == steps || token == end {
            return Ok(out);
        }
        let orientation = engine.orient(Arrivals::default()).await?;
        let forward = engine
            .forward(kv, &[token], Phase::Decode, &orientation, None)
            .await?;
        logits = engine.logits(&forward.normed);
    }
}

/// Why verification stopped.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The goldens.
    #[error(transparent)]
    Case(#[from] CaseError),
}
