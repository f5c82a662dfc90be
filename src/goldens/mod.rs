//! Comparing the engine with goldens of the reference implementation.
//!
//! A folder holds one `<case>.safetensors` a case with the inputs (`in.*`) and every intermediate result, and a
//! `<case>.json` that describes it. What the engine cannot run is said, never passed over.

mod case;
pub(crate) mod compare;
mod description;
mod error;
mod features;
mod greedy;
pub(crate) mod notes;
mod positions;
pub(crate) mod recorder;
mod report;
pub mod speech;

use std::path::Path;

use sage_actors::protocol::Modality;

pub use case::{Case, CaseKind, Golden};
pub use error::{CaseError, VerifyError};
pub(crate) use greedy::{Generated, greedy, read};
pub use report::{CaseReport, Status, TensorReport};

use crate::core::Engine;
use crate::core::perception::Features;
use recorder::Recorder;

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
        CaseKind::Thinker | CaseKind::Speech => case.inputs(&golden)?,
        _ => case::Inputs::none(),
    };
    let config = engine.text_config().clone();
    let features = features::features(case, &golden)?;
    let features = features.as_ref();
    if (features.is_some() || case.kind() == CaseKind::Speech) && inputs.rows() != 1 {
        report.reason = Some(format!(
            "has sounds, pictures or speech in {} rows; one row can be run",
            inputs.rows()
        ));
        return Ok(report);
    }
    let mut comparison = compare::CaseComparison::new(&golden, &inputs, &config);
    match case.kind() {
        CaseKind::Thinker => think(engine, &inputs, features, &mut comparison).await?,
        CaseKind::Speech => {
            let all = &mut comparison;
            speech::compare(engine, case, &golden, &inputs, features, all).await?;
        }
        CaseKind::Vocoder => speech::vocode(engine, case, &golden, &mut comparison)?,
        CaseKind::Positions => {
            let config = &engine.source.config().thinker;
            positions::compare(config, case, &golden, &mut comparison)?;
        }
        CaseKind::Nothing => {}
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
        CaseKind::Nothing => Some("has no in.input_ids: nothing to run".to_owned()),
        CaseKind::Speech | CaseKind::Vocoder if !engine.speaks() => {
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
    comparison: &mut compare::CaseComparison<'_>,
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
