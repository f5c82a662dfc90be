//! What was compared, in the order of computation, and the first difference of all.

use std::collections::BTreeMap;

use super::TensorReport;

/// How far numbers are from those that were expected.
pub(crate) struct TensorDifference {
    /// The greatest absolute difference; infinite where a result is no number.
    pub(crate) error: f64,
    /// Where it is; 0 where there is none.
    pub(crate) at: usize,
    /// What is allowed: the tolerance, relative to max(1, the largest finite expected number).
    pub(crate) allowed: f64,
}

impl TensorDifference {
    /// Of as many `found` as `expected` numbers.
    pub(crate) fn new(found: &[f32], expected: &[f32], tolerance: f64) -> Self {
        // A number that is infinite must come again as it is, and allows the others nothing.
        let finite = expected.iter().filter(|value| value.is_finite());
        let largest = finite.fold(1.0f64, |most, value| most.max(f64::from(value.abs())));
        let mut worst = (0.0f64, 0);
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = match found == expected {
                true => 0.0,
                false => f64::from((found - expected).abs()),
            };
            // A result that is not a number is the worst there is.
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if error > worst.0 {
                worst = (error, at);
            }
        }
        Self {
            error: worst.0,
            at: worst.1,
            allowed: tolerance * largest,
        }
    }
}

/// The reports of a case, gathered tensor by tensor.
#[derive(Default)]
pub(crate) struct Notes {
    order: Vec<String>,
    reports: BTreeMap<String, TensorReport>,
    first: Option<(usize, String)>,
}

impl Notes {
    /// Every tensor that was compared, in the order of computation.
    pub(crate) fn reports(&self) -> Vec<TensorReport> {
        let in_order = self.order.iter();
        in_order
            .filter_map(|name| self.reports.get(name))
            .cloned()
            .collect()
    }

    /// The first difference in the order of computation, in words.
    pub(crate) fn first_difference(&self) -> Option<String> {
        self.first.as_ref().map(|(_, text)| text.clone())
    }

    /// Whether a tensor of that name was compared.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.reports.contains_key(name)
    }

    /// Adds a comparison of whole numbers, of which `differing` differ.
    pub(crate) fn note_integers(
        &mut self,
        name: &str,
        differing: usize,
        text: impl FnOnce() -> String,
    ) {
        self.note(name, differing as f64, 0.0, differing == 0, text);
    }

    /// Adds a comparison; of several under one name the worst is reported. `text` says what differs.
    pub(crate) fn note(
        &mut self,
        name: &str,
        error: f64,
        allowed: f64,
        pass: bool,
        text: impl FnOnce() -> String,
    ) {
        let rank = self
            .order
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| {
                self.order.push(name.to_owned());
                self.order.len() - 1
            });
        let report = self
            .reports
            .entry(name.to_owned())
            .or_insert_with(|| TensorReport {
                name: name.to_owned(),
                max_abs_error: 0.0,
                tolerance: allowed,
                pass: true,
            });
        if error >= report.max_abs_error {
            report.max_abs_error = error;
            report.tolerance = allowed;
        }
        report.pass &= pass;
        if !pass && self.first.as_ref().is_none_or(|(first, _)| rank < *first) {
            self.first = Some((rank, text()));
        }
    }
}
