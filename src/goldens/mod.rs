//! Comparing the engine with goldens of the reference implementation.
//!
//! A folder holds one `<case>.safetensors` a case with the inputs (`in.*`) and every intermediate result, and a
//! `<case>.json` that describes it. What the engine cannot run is said, never passed over.

mod case;
pub(crate) mod compare;
mod description;
mod features;
pub(crate) mod notes;
mod positions;
pub(crate) mod recorder;
pub mod speech;

use crate::input::{Attributed, Fault};
use std::path::Path;
use std::sync::Arc;

use sage_actors::protocol::{Modality, Phase};
use serde::Serialize;

pub use case::{Case, CaseError, Golden, Kind};

use crate::core::forward::TokenChunk;
use crate::core::orient::Arrivals;
use crate::core::perception::Features;
use crate::core::ports::Sequence;
use crate::core::sampling::argmax;
use crate::core::scene::Scene;
use crate::core::{Engine, EngineError, Forward, Orientation, Probe, drive};
use recorder::Recorder;

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

/// The cases of a folder, in order of their names.
///
/// # Errors
/// When the folder or a file cannot be read, or holds no golden.
pub fn cases(folder: &Path) -> Result<Vec<Case>, CaseError> {
    case::list(folder)
}

/// What has to be perceived to run them.
pub fn senses<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Vec<Modality> {
    let mut senses: Vec<Modality> = cases.into_iter().flat_map(Case::senses).collect();
    senses.sort_unstable();
    senses.dedup();
    senses
}

/// Codes that memory has to be planned for to run the cases, where one of them speaks.
pub fn codes<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Option<usize> {
    cases.into_iter().filter_map(Case::codes).max()
}

/// Runs one case and compares everything that the golden file holds.
///
/// # Errors
/// When the engine fails, or the golden file is damaged; a difference is a report, not an error.
pub async fn run(engine: &mut Engine, case: &Case) -> Result<CaseReport, VerifyError> {
    let mut report = CaseReport {
        name: case.name.clone(),
        status: Status::Skipped,
        reason: cannot_run(engine, case),
        first_difference: None,
        tensors: Vec::new(),
    };
    if report.reason.is_some() {
        return Ok(report);
    }
    let golden = case.open()?;
    let inputs = match case.kind() {
        Kind::Thinker | Kind::Speech => case.inputs(&golden)?,
        _ => case::Inputs::none(),
    };
    let config = engine.text_config().clone();
    let features = features::features(case, &golden)?;
    let features = features.as_ref();
    if (features.is_some() || case.kind() == Kind::Speech) && inputs.rows() != 1 {
        report.reason = Some(format!(
            "has sounds, pictures or speech in {} rows; one row can be run",
            inputs.rows()
        ));
        return Ok(report);
    }
    let mut comparison = compare::Comparison::new(&golden, &inputs, &config);
    match case.kind() {
        Kind::Thinker => think(engine, &inputs, features, &mut comparison).await?,
        Kind::Speech => {
            let all = &mut comparison;
            speech::compare(engine, case, &golden, &inputs, features, all).await?;
        }
        Kind::Vocoder => speech::vocode(engine, case, &golden, &mut comparison)?,
        Kind::Positions => {
            let config = &engine.source.config().thinker;
            positions::compare(config, case, &golden, &mut comparison)?;
        }
        Kind::Nothing => {}
    }
    if comparison.reports().is_empty() {
        report.reason = Some("holds no result that could be compared".to_owned());
        return Ok(report);
    }
    comparison.nothing_left_out(|name| case.is_input(name))?;
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

/// Why a case cannot be run; none when it can.
fn cannot_run(engine: &Engine, case: &Case) -> Option<String> {
    match case.kind() {
        Kind::Nothing => Some("has no in.input_ids: nothing to run".to_owned()),
        Kind::Speech | Kind::Vocoder if !engine.speaks() => {
            Some("needs talker and vocoder: the model has none, or was opened without".to_owned())
        }
        _ => None,
    }
}

/// Thinker and towers, row by row.
async fn think(
    engine: &mut Engine,
    inputs: &case::Inputs,
    features: Option<&Features>,
    comparison: &mut compare::Comparison<'_>,
) -> Result<(), VerifyError> {
    // Where nothing ends an answer, no token is this one.
    let end = engine.source.config().end_token_id().unwrap_or(u32::MAX);
    for row in 0..inputs.rows() {
        let mut recorder = Recorder::default();
        let tokens = inputs.tokens(row);
        let mut read = read(engine, &tokens, features, &mut recorder, &mut |_| ()).await?;
        comparison.perceived(&recorder)?;
        let scene = read.scene.as_deref();
        comparison.prefill(row, scene, &recorder, |normed| engine.logits(normed))?;
        if inputs.greedy_steps > 0 {
            let steps = inputs.greedy_steps;
            let generated = greedy(engine, &mut read, steps, end, None, &mut |_| ()).await?;
            comparison.greedy(row, &generated)?;
        }
    }
    Ok(())
}

/// A prompt that was read.
pub(crate) struct Read {
    kv: Sequence,
    scene: Option<Arc<Scene>>,
    last: Forward,
}

/// Reads a prompt chunk by chunk; `kept` hears of every step.
pub(crate) async fn read(
    engine: &mut Engine,
    tokens: &[u32],
    features: Option<&Features>,
    recorder: &mut Recorder,
    kept: &mut dyn FnMut(&Forward),
) -> Result<Read, EngineError> {
    let mut kv = engine.new_sequence()?;
    let mut last = Forward::default();
    let scene = match features {
        Some(features) => {
            let mut heard = |name: &str, values: &[f32]| recorder.tensor(name, values);
            Some(engine.perceive(tokens, features, None, &mut heard)?)
        }
        None => None,
    };
    let mut first = 0;
    for ids in tokens.chunks(engine.chunk_tokens()) {
        let chunk = TokenChunk {
            tokens: ids,
            scene: scene.as_deref().map(|scene| (scene, first)),
        };
        let act = async |engine: &mut Engine, orientation: &Orientation| {
            let probe: &mut dyn Probe = recorder;
            engine
                .forward_chunk(&mut kv, chunk, Phase::Prefill, orientation, Some(probe))
                .await
        };
        (_, last) = drive::turn(engine, Arrivals::default(), act).await?;
        kept(&last);
        first += ids.len();
    }
    Ok(Read { kv, scene, last })
}

/// Greedy continuation: the tokens, and the logits that each was chosen from.
pub(crate) struct Generated {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<Vec<f32>>,
}

/// Goes on for `steps` tokens, or until `end`, which is one of them; `recorder` and `kept` hear of every step.
pub(crate) async fn greedy(
    engine: &mut Engine,
    read: &mut Read,
    steps: usize,
    end: u32,
    mut recorder: Option<&mut Recorder>,
    kept: &mut dyn FnMut(&Forward),
) -> Result<Generated, EngineError> {
    let hidden = engine.text_config().hidden_size;
    let mut out = Generated {
        tokens: Vec::new(),
        logits: Vec::new(),
    };
    let last = &read.last.normed;
    let mut logits = engine.logits(&last[last.len() - hidden..])?;
    loop {
        let token = argmax(&logits);
        out.tokens.push(token);
        out.logits.push(logits);
        if out.tokens.len() == steps || token == end {
            return Ok(out);
        }
        let act = async |engine: &mut Engine, orientation: &Orientation| {
            let probe = recorder.as_deref_mut();
            let probe = probe.map(|recorder| recorder as &mut dyn Probe);
            engine
                .forward(&mut read.kv, &[token], Phase::Decode, orientation, probe)
                .await
        };
        let (_, forward) = drive::turn(engine, Arrivals::default(), act).await?;
        kept(&forward);
        logits = engine.logits(&forward.normed)?;
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

impl Attributed for VerifyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::Case(error) => error.fault(),
        }
    }
}
