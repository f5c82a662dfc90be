//! The running model against the reference, tensor by tensor as the reference computes them.

use std::collections::BTreeSet;

use serde::Serialize;

use super::thinker::{Extent, run};
use super::witness::ReferenceProbe;
use super::{PromptRun, ReferenceError};
use crate::core::sampling::argmax;
use crate::goldens::compare::{LOGITS_TOLERANCE, MODULE_TOLERANCE};
use crate::goldens::notes::{Notes, TensorDifference};
use crate::goldens::{CaseReport, Status};
use crate::store::WeightSource;

/// What came of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceOutcome {
    /// In the form of a golden's.
    pub case: CaseReport,
    /// Choices of experts that differed among experts whose logits are equal within the tolerance; the running model's was
    /// taken.
    pub near_ties: usize,
    /// Greedy tokens that differed among logits that are equal within the tolerance.
    pub near_tied_tokens: usize,
    /// Choices of experts that were compared: one a token and sparse layer.
    pub choices: usize,
}

/// Runs the reference with the weights of `source` on what the model ran, all tokens in one pass, and compares: `layers`
/// decoder layers; with all of them the final norm, and of the continuation the logits and the tokens. `progress` hears of
/// every layer.
///
/// # Errors
/// When the reference cannot be computed; a difference is a report, not an error.
pub fn compare(
    source: &dyn WeightSource,
    found: &PromptRun,
    layers: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<ReferenceOutcome, ReferenceError> {
    let whole = layers >= source.config().thinker.text.num_hidden_layers;
    let tokens = found.tokens();
    let last = found.prompt.len().saturating_sub(1);
    let extent = Extent {
        layers,
        logits_of: last..last + if whole { found.said().len() } else { 0 },
    };
    let mut comparison = ReferenceComparison {
        found,
        notes: Notes::default(),
        near_ties: 0,
        near_tied_tokens: 0,
        choices: 0,
        progress,
    };
    run(source, &tokens, &extent, &mut comparison)?;
    let tensors = comparison.notes.reports();
    let same = tensors.iter().all(|tensor| tensor.pass);
    Ok(ReferenceOutcome {
        near_ties: comparison.near_ties,
        near_tied_tokens: comparison.near_tied_tokens,
        choices: comparison.choices,
        case: CaseReport {
            name: "prompt".to_owned(),
            status: if same { Status::Pass } else { Status::Fail },
            reason: None,
            first_difference: comparison.notes.first_difference(),
            tensors,
        },
    })
}

struct ReferenceComparison<'a> {
    found: &'a PromptRun,
    notes: Notes,
    near_ties: usize,
    near_tied_tokens: usize,
    choices: usize,
    progress: &'a mut dyn FnMut(usize),
}

impl ReferenceComparison<'_> {
    /// `found` against `expected`, rows of `cols`.
    fn floats(&mut self, name: &str, cols: usize, found: &[f32], expected: &[f32], tolerance: f64) {
        if found.len() != expected.len() {
            let text = || {
                let (found, expected) = (found.len(), expected.len());
                format!("{name}: the model gives {found} numbers, the reference {expected}")
            };
            self.notes.note(name, f64::INFINITY, 0.0, false, text);
            return;
        }
        let TensorDifference { error, at, allowed } =
            TensorDifference::new(found, expected, tolerance);
        let text = || {
            let (token, feature) = (at / cols.max(1), at % cols.max(1));
            format!(
                "{name}: token {token}, feature {feature}: found {}, the reference has {} (difference {error:.2e}, allowed {allowed:.2e})",
                found[at], expected[at]
            )
        };
        self.notes
            .note(name, error, allowed, error <= allowed, text);
    }

    /// Logits `[said, vocabulary]`, and the tokens that were chosen from them.
    fn logits(&mut self, vocabulary: usize, expected: &[f32]) {
        let Some(generated) = &self.found.generated else {
            return;
        };
        let found = generated.logits.concat();
        self.floats(
            "greedy.logits",
            vocabulary,
            &found,
            expected,
            LOGITS_TOLERANCE,
        );
        let mut wrong = Vec::new();
        let rows = expected.chunks_exact(vocabulary.max(1));
        for (step, (row, token)) in rows.zip(&generated.tokens).enumerate() {
            let best = argmax(row);
            if best == *token {
                continue;
            }
            let (own, other) = (row[best as usize], row[*token as usize]);
            if f64::from(own - other) <= 2.0 * allowed(row, LOGITS_TOLERANCE) {
                self.near_tied_tokens += 1;
            } else {
                wrong.push(format!(
                    "greedy.tokens: step {step}: found {token}, the reference has {best}"
                ));
            }
        }
        let first = wrong.first().cloned().unwrap_or_default();
        self.notes
            .note_integers("greedy.tokens", wrong.len(), || first);
    }
}

impl ReferenceProbe for ReferenceComparison<'_> {
    fn tensor(&mut self, name: &str, cols: usize, values: &[f32]) {
        if name == "thinker.logits" {
            return self.logits(cols, values);
        }
        let found = self.found;
        let found = found.recorder.tensor_of(name);
        self.floats(name, cols, found, values, MODULE_TOLERANCE);
    }

    fn choice(
        &mut self,
        layer: usize,
        token: usize,
        logits: &[f32],
        own: Vec<usize>,
    ) -> Vec<usize> {
        let Some(found) = chosen(self.found, layer, token) else {
            return own;
        };
        self.choices += 1;
        let found: BTreeSet<usize> = found.iter().map(|(expert, _)| *expert).collect();
        let expected: BTreeSet<usize> = own.iter().copied().collect();
        let name = format!("thinker.topk_index.{layer}");
        if found == expected {
            self.notes.note_integers(&name, 0, String::new);
            return own;
        }
        if is_near_tie(logits, &found, &expected) {
            self.near_ties += 1;
            self.notes.note_integers(&name, 0, String::new);
            return found.into_iter().collect();
        }
        self.notes.note_integers(&name, 1, || {
            format!(
                "{name}: token {token}: found experts {found:?}, the reference has {expected:?}"
            )
        });
        own
    }

    fn gates(&mut self, layer: usize, token: usize, gates: &[(usize, f32)]) {
        let Some(found) = chosen(self.found, layer, token) else {
            return;
        };
        let name = format!("thinker.topk_weight.{layer}");
        let mut worst = 0.0f64;
        for (expert, weight) in gates {
            // Of another expert there is nothing to compare: the choice was found to differ.
            let Some((_, found)) = found.iter().find(|(found, _)| found == expert) else {
                continue;
            };
            let error = f64::from((found - weight).abs());
            worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
        }
        let pass = worst <= MODULE_TOLERANCE;
        self.notes.note(&name, worst, MODULE_TOLERANCE, pass, || {
            format!("{name}: token {token}: weights differ by up to {worst:.2e}")
        });
    }

    fn layer_done(&mut self, layer: usize) {
        (self.progress)(layer + 1);
    }
}

/// The experts that the running model chose, and their weights.
fn chosen(found: &PromptRun, layer: usize, token: usize) -> Option<Vec<(usize, f32)>> {
    let chosen = found.recorder.choices.get(&layer)?.get(token)?;
    let pairs = chosen
        .iter()
        .map(|chosen| (usize::from(chosen.expert), chosen.weight));
    Some(pairs.collect())
}

/// What a number of `row` may differ by.
fn allowed(row: &[f32], tolerance: f64) -> f64 {
    let largest = row.iter().fold(1.0f32, |most, value| most.max(value.abs()));
    tolerance * f64::from(largest)
}

/// Whether two sets of experts differ only among logits that are equal as far as the tolerance lets them be: each of two may
/// be wrong by what is allowed, in opposite directions.
fn is_near_tie(logits: &[f32], found: &BTreeSet<usize>, expected: &BTreeSet<usize>) -> bool {
    if found.len() != expected.len() || found.iter().any(|expert| *expert >= logits.len()) {
        return false;
    }
    let left = expected.difference(found).map(|expert| logits[*expert]);
    let taken = found.difference(expected).map(|expert| logits[*expert]);
    let best_left = left.fold(f32::NEG_INFINITY, f32::max);
    let worst_taken = taken.fold(f32::INFINITY, f32::min);
    f64::from(best_left - worst_taken) <= 2.0 * allowed(logits, MODULE_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ties_are_told_from_other_choices() {
        let set = |experts: &[usize]| experts.iter().copied().collect::<BTreeSet<usize>>();
        let logits = [1.0, 0.5, 0.499_99, 0.3];
        assert!(is_near_tie(&logits, &set(&[0, 2]), &set(&[0, 1])));
        assert!(!is_near_tie(&logits, &set(&[0, 3]), &set(&[0, 1])));
        // One of them is as good, the other is not.
        assert!(!is_near_tie(&logits, &set(&[2, 3]), &set(&[0, 1])));
        assert!(!is_near_tie(&logits, &set(&[0]), &set(&[0, 1])));
        assert!(!is_near_tie(&logits, &set(&[0, 9]), &set(&[0, 1])));
        // The tolerance grows with the numbers.
        assert!(is_near_tie(
            &[900.0, 500.0, 499.99],
            &set(&[0, 2]),
            &set(&[0, 1])
        ));
    }
}
