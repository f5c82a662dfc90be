//! Tensor by tensor, in the order of computation.

use std::collections::BTreeMap;

use super::CaseError;
use super::case::{Golden, Inputs};
use super::notes::{Notes, TensorDifference};
use super::recorder::Recorder;
use super::{Generated, TensorReport, VerifyError};
use crate::checkpoint::config::TextConfig;
use crate::core::EngineError;
use crate::core::scene::Scene;
use crate::model::Positions;

/// Relative to max(1, largest golden): for what one module computes.
pub(crate) const MODULE_TOLERANCE: f64 = 1e-5;
/// For logits and waveforms.
pub(crate) const LOGITS_TOLERANCE: f64 = 5e-5;
/// Behind a case's own word: the logits at the last token of the prompt.
const LAST_LOGITS: &str = ".last_logits";

/// The reports of a case, gathered over its rows.
pub(super) struct CaseComparison<'a> {
    golden: &'a Golden,
    inputs: &'a Inputs,
    config: &'a TextConfig,
    notes: Notes,
}

impl<'a> CaseComparison<'a> {
    pub(super) fn new(golden: &'a Golden, inputs: &'a Inputs, config: &'a TextConfig) -> Self {
        Self {
            golden,
            inputs,
            config,
            notes: Notes::default(),
        }
    }

    pub(super) fn reports(&self) -> Vec<TensorReport> {
        self.notes.reports()
    }

    pub(super) fn first_difference(&self) -> Option<String> {
        self.notes.first_difference()
    }

    /// Everything of the prompt. `logits` gives the logits of final hidden states.
    pub(super) fn prefill(
        &mut self,
        row: usize,
        scene: Option<&Scene>,
        found: &Recorder,
        mut logits: impl FnMut(&[f32]) -> Result<Vec<f32>, EngineError>,
    ) -> Result<(), VerifyError> {
        self.positions(row, scene)?;
        self.rows("thinker.inputs_embeds", row, found)?;
        for layer in 0..self.config.num_hidden_layers {
            if layer > 0 {
                self.rows(&format!("thinker.layer_in.{layer}"), row, found)?;
            }
            self.rows(&format!("thinker.router_logits.{layer}"), row, found)?;
            self.choices(layer, row, found)?;
            self.rows(&format!("thinker.layer_out.{layer}"), row, found)?;
        }
        let kept = self.kept_positions(self.inputs.positions(row).count())?;
        let Some(normed) = found.tensors.get("thinker.final_norm") else {
            return Ok(());
        };
        let hidden = self.config.hidden_size;
        let last = &normed[normed.len().saturating_sub(hidden)..];
        for name in self.golden.names()? {
            if name.ends_with(LAST_LOGITS) {
                self.all(&name, row, 1, &logits(last)?, LOGITS_TOLERANCE)?;
            }
        }
        let pick = |columns: &[usize]| -> Vec<f32> {
            columns
                .iter()
                .flat_map(|at| normed[at * hidden..(at + 1) * hidden].iter().copied())
                .collect()
        };
        match kept {
            Some(kept) => {
                let normed = pick(&kept);
                self.all(
                    "thinker.final_norm",
                    row,
                    kept.len(),
                    &normed,
                    MODULE_TOLERANCE,
                )?;
                let values = logits(&normed)?;
                let name = "thinker.logits";
                Ok(self.all(name, row, kept.len(), &values, LOGITS_TOLERANCE)?)
            }
            None => {
                self.rows("thinker.final_norm", row, found)?;
                let name = "thinker.logits";
                if self.golden.floats(name)?.is_none() {
                    return Ok(());
                }
                let values = logits(normed)?;
                Ok(self.unpadded(name, row, &values, LOGITS_TOLERANCE)?)
            }
        }
    }

    /// Everything that the towers gave.
    pub(super) fn perceived(&mut self, found: &Recorder) -> Result<(), CaseError> {
        let of_towers = |name: &&String| {
            ["audio.", "vision_image.", "vision_video."]
                .iter()
                .any(|tower| name.starts_with(tower))
        };
        for name in self.golden.names()?.iter().filter(of_towers) {
            let Some((shape, expected)) = self.golden.floats(name)? else {
                continue;
            };
            let Some(values) = found.tensors.get(name) else {
                self.note_integers(name, 1, || format!("{name}: the model has no such result"));
                continue;
            };
            let cols = shape.last().copied().unwrap_or(1);
            self.floats(name, 0, cols, values, &expected, MODULE_TOLERANCE)?;
        }
        Ok(())
    }

    /// Says of every tensor of the file that was neither compared nor read as an input that it was not: a golden that is
    /// partly unknown does not pass.
    pub(super) fn nothing_left_out(
        &mut self,
        inputs: impl Fn(&str) -> bool,
    ) -> Result<(), CaseError> {
        for name in self.golden.names()? {
            if !self.notes.has(&name) && !inputs(&name) {
                self.note_integers(&name, 1, || {
                    format!("{name}: not compared: no tensor of that name, or not in that form, is known for this case")
                });
            }
        }
        Ok(())
    }

    /// The greedy continuation of a row.
    pub(super) fn greedy(&mut self, row: usize, found: &Generated) -> Result<(), CaseError> {
        let Some((shape, tokens)) = self.golden.integers("greedy.tokens")? else {
            return Ok(());
        };
        let steps = shape.last().copied().unwrap_or(0);
        let range = row * steps..(row + 1) * steps;
        let expected = self.golden.part("greedy.tokens", &tokens, range)?;
        let differ = found
            .tokens
            .iter()
            .zip(expected)
            .position(|(a, b)| i64::from(*a) != *b);
        // After its end token the reference pads; so far both must agree.
        let compared = found.tokens.len();
        self.note_integers("greedy.tokens", usize::from(differ.is_some()), || {
            let at = differ.unwrap_or(0);
            format!(
                "greedy.tokens: row {row}, step {at}: found {}, expected {}",
                found.tokens[at], expected[at]
            )
        });
        let Some((shape, logits)) = self.golden.floats("greedy.logits")? else {
            return Ok(());
        };
        let vocabulary = shape.last().copied().unwrap_or(1);
        if logits.len() != tokens.len() * vocabulary {
            let reason = format!(
                "has {} numbers, expected {vocabulary} for each of {} tokens",
                logits.len(),
                tokens.len()
            );
            return Err(self.golden.error("greedy.logits", reason));
        }
        let end = differ.map_or(compared, |at| at + 1);
        let found: Vec<f32> = found.logits[..end].iter().flatten().copied().collect();
        let from = row * steps * vocabulary;
        let expected = (self.golden).part("greedy.logits", &logits, from..from + found.len())?;
        self.floats(
            "greedy.logits",
            row,
            vocabulary,
            &found,
            expected,
            LOGITS_TOLERANCE,
        )
    }

    /// The positions of the row's `tokens` that the golden holds the end of the model at.
    fn kept_positions(&self, tokens: usize) -> Result<Option<Vec<usize>>, CaseError> {
        let name = "kept_positions";
        let Some((_, kept)) = self.golden.integers(name)? else {
            return Ok(None);
        };
        let position = |at: i64| {
            let within = usize::try_from(at).ok().filter(|at| *at < tokens);
            let reason = || format!("holds {at}, expected positions of {tokens} tokens");
            within.ok_or_else(|| self.golden.error(name, reason()))
        };
        kept.into_iter()
            .map(position)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn positions(&mut self, row: usize, scene: Option<&Scene>) -> Result<(), CaseError> {
        if let Some((_, expected)) = self.golden.floats("thinker.position_ids")? {
            let columns: Vec<usize> = self.inputs.positions(row).collect();
            let found = match scene {
                Some(scene) => scene.positions.clone(),
                None => Positions::text(0, columns.len()),
            };
            let rows = self.inputs.rows();
            let mut differing = 0;
            for (axis, found) in found.axes.iter().enumerate() {
                let base = (axis * rows + row) * self.inputs.width;
                differing += columns
                    .iter()
                    .zip(found)
                    .filter(|(at, found)| expected.get(base + **at) != Some(found))
                    .count();
            }
            if let Some((_, deltas)) = self.golden.floats("thinker.rope_delta")? {
                // What decoding adds to the length of the cache.
                let found = scene.map_or(0.0, |scene| scene.position_delta);
                let expected = deltas.get(row);
                self.note_integers(
                    "thinker.rope_delta",
                    usize::from(expected != Some(&found)),
                    || {
                        format!(
                            "thinker.rope_delta: row {row}: found {found}, expected {expected:?}"
                        )
                    },
                );
            }
            self.note_integers("thinker.position_ids", differing, || {
                format!("thinker.position_ids: row {row}: {differing} positions differ")
            });
        }
        Ok(())
    }

    /// A recorded tensor against the golden's rows of this batch row.
    fn rows(&mut self, name: &str, row: usize, found: &Recorder) -> Result<(), CaseError> {
        match found.tensors.get(name) {
            Some(values) => self.unpadded(name, row, values, MODULE_TOLERANCE),
            None if self.golden.floats(name)?.is_some() => {
                self.note_integers(name, 1, || format!("{name}: the model has no such result"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A tensor `[rows, width, cols]`, or with rows and width in one: the columns of this row that hold a token.
    fn unpadded(
        &mut self,
        name: &str,
        row: usize,
        found: &[f32],
        tolerance: f64,
    ) -> Result<(), CaseError> {
        let base = row * self.inputs.width;
        let at = self.inputs.positions(row).map(|at| base + at).collect();
        self.at(name, row, at, found, tolerance)
    }

    /// A tensor `[rows, n, cols]` whose n are all to be compared.
    fn all(
        &mut self,
        name: &str,
        row: usize,
        n: usize,
        found: &[f32],
        tolerance: f64,
    ) -> Result<(), CaseError> {
        self.at(
            name,
            row,
            (row * n..(row + 1) * n).collect(),
            found,
            tolerance,
        )
    }

    /// The golden's vectors `at` against what was found.
    fn at(
        &mut self,
        name: &str,
        row: usize,
        at: Vec<usize>,
        found: &[f32],
        tolerance: f64,
    ) -> Result<(), CaseError> {
        let Some((shape, values)) = self.golden.floats(name)? else {
            return Ok(());
        };
        let cols = shape.last().copied().unwrap_or(1);
        let mut expected = Vec::with_capacity(at.len() * cols);
        for at in at {
            let vector = self
                .golden
                .part(name, &values, at * cols..(at + 1) * cols)?;
            expected.extend_from_slice(vector);
        }
        self.floats(name, row, cols, found, &expected, tolerance)
    }

    pub(super) fn floats(
        &mut self,
        name: &str,
        row: usize,
        cols: usize,
        found: &[f32],
        expected: &[f32],
        tolerance: f64,
    ) -> Result<(), CaseError> {
        if found.len() != expected.len() {
            let reason = format!(
                "has {} numbers in row {row}, the model gives {}",
                expected.len(),
                found.len()
            );
            return Err(self.golden.error(name, reason));
        }
        let TensorDifference { error, at, allowed } =
            TensorDifference::new(found, expected, tolerance);
        self.notes
            .note(name, error, allowed, error <= allowed, || {
                let (token, feature) = (at / cols.max(1), at % cols.max(1));
                format!(
                    "{name}: row {row}, token {token}, feature {feature}: found {}, expected {} (difference {error:.2e}, allowed {allowed:.2e})",
                    found[at], expected[at]
                )
            });
        Ok(())
    }

    /// The experts that a layer of the thinker chose for the tokens of a row.
    fn choices(&mut self, layer: usize, row: usize, found: &Recorder) -> Result<(), CaseError> {
        let base = row * self.inputs.width;
        let at: Vec<usize> = self.inputs.positions(row).map(|at| base + at).collect();
        self.chosen("thinker", layer, &at, found)
    }

    /// Chosen experts as sets (their order among near-equal weights means nothing), weights expert by expert; `at` are the
    /// golden's rows of the tokens.
    pub(super) fn chosen(
        &mut self,
        module: &str,
        layer: usize,
        at: &[usize],
        found: &Recorder,
    ) -> Result<(), CaseError> {
        let (index, weight) = (
            format!("{module}.topk_index.{layer}"),
            format!("{module}.topk_weight.{layer}"),
        );
        let (Some((shape, indices)), Some((_, weights))) =
            (self.golden.integers(&index)?, self.golden.floats(&weight)?)
        else {
            return Ok(());
        };
        let k = shape.last().copied().unwrap_or(1).max(1);
        let nothing = Vec::new();
        let chosen = found.choices.get(&layer).unwrap_or(&nothing);
        let mut wrong: Vec<String> = Vec::new();
        let mut worst = 0.0f64;
        for (token, at) in at.iter().enumerate() {
            let range = at * k..(at + 1) * k;
            let experts = self.golden.part(&index, &indices, range.clone())?;
            let shares = self.golden.part(&weight, &weights, range)?;
            let expected: BTreeMap<i64, f32> = experts
                .iter()
                .copied()
                .zip(shares.iter().copied())
                .collect();
            let found: BTreeMap<i64, f32> = chosen
                .get(token)
                .into_iter()
                .flatten()
                .map(|c| (i64::from(c.expert), c.weight))
                .collect();
            if !found.keys().eq(expected.keys()) {
                let list =
                    |set: &BTreeMap<i64, f32>| format!("{:?}", set.keys().collect::<Vec<_>>());
                wrong.push(format!(
                    "{index}: row {at}, token {token}: found experts {}, expected {}",
                    list(&found),
                    list(&expected)
                ));
                continue;
            }
            for (found, expected) in found.values().zip(expected.values()) {
                let error = f64::from((found - expected).abs());
                worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
            }
        }
        let first = wrong.first().cloned().unwrap_or_default();
        self.note_integers(&index, wrong.len(), || first);
        self.notes.note(
            &weight,
            worst,
            MODULE_TOLERANCE,
            worst <= MODULE_TOLERANCE,
            || format!("{weight}: weights differ by up to {worst:.2e}"),
        );
        Ok(())
    }

    pub(super) fn note_integers(
        &mut self,
        name: &str,
        differing: usize,
        text: impl FnOnce() -> String,
    ) {
        self.notes.note_integers(name, differing, text);
    }
}
