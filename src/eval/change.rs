//! What a variation of the mind changed: the varied arm against the same arm without it, document by document.

use serde::Serialize;

use super::bootstrap::intervals;
use super::estimate::ArmDifference;
use super::metrics::{Answered, DocumentResult};
use super::record::PartResult;

/// Of reading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TextChange {
    /// Nats a token more.
    pub nll: ArmDifference,
    /// Bytes missed more, as a share of those missed without the variation; none where nothing was missed.
    pub bytes: Option<ArmDifference>,
}

/// Of answering.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TasksChange {
    /// Share of answers more that are the expected one.
    pub exact_match: ArmDifference,
    /// Bytes missed more, as a share of those missed without the variation; none where nothing was missed.
    pub bytes: Option<ArmDifference>,
}

impl TextChange {
    pub(super) fn new(varied: &PartResult, unvaried: &PartResult) -> Self {
        let sums = |one: &DocumentResult| [one.nll, one.tokens as f64, one.miss_bytes as f64];
        let (nll, bytes) = changes(
            &varied.documents.iter().map(sums).collect::<Vec<_>>(),
            &unvaried.documents.iter().map(sums).collect::<Vec<_>>(),
        );
        Self { nll, bytes }
    }
}

impl TasksChange {
    pub(super) fn new(varied: &PartResult, unvaried: &PartResult) -> Self {
        let sums = |one: &Answered| [f64::from(one.correct), 1.0, one.miss_bytes as f64];
        let (exact_match, bytes) = changes(
            &varied.items.iter().map(sums).collect::<Vec<_>>(),
            &unvaried.items.iter().map(sums).collect::<Vec<_>>(),
        );
        Self { exact_match, bytes }
    }
}

/// Of sums `[what, out of how many, bytes]` of every unit: by how much the mean of what is greater, and by what share the bytes
/// are. Both arms are resampled together.
fn changes(varied: &[[f64; 3]], unvaried: &[[f64; 3]]) -> (ArmDifference, Option<ArmDifference>) {
    let numbers = |drawn: &[f64]| {
        let total = |units: &[[f64; 3]], at: usize| -> f64 {
            units.iter().zip(drawn).map(|(unit, n)| n * unit[at]).sum()
        };
        let mean = |units: &[[f64; 3]]| total(units, 0) / total(units, 1);
        let share = total(varied, 2) / total(unvaried, 2) - 1.0;
        [mean(varied) - mean(unvaried), share]
    };
    let values = numbers(&vec![1.0; varied.len()]);
    let spread = intervals(varied.len(), numbers);
    let change = |i: usize| ArmDifference::new(values[i], spread.map(|spread| spread[i]));
    (change(0), values[1].is_finite().then(|| change(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(loss: f64, bytes: u64) -> PartResult {
        let document = |n: u64| DocumentResult {
            tokens: 10 * n,
            nll: (n as f64 + loss) * 10.0 * n as f64,
            miss_bytes: bytes * n,
            ..DocumentResult::default()
        };
        PartResult {
            documents: (1..5).map(document).collect(),
            ..PartResult::default()
        }
    }

    #[test]
    fn a_change_is_paired_and_bytes_are_a_share() {
        let change = TextChange::new(&read(0.25, 30), &read(0.0, 40));
        let near = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
        };
        near(Some(change.nll.value), 0.25);
        near(change.nll.low, 0.25);
        near(change.nll.high, 0.25);
        let bytes = change.bytes.unwrap();
        near(Some(bytes.value), -0.25);
        near(bytes.high, -0.25);
        assert_eq!(bytes.tie, Some(false));
    }

    #[test]
    fn where_nothing_was_missed_no_share_is_told() {
        let change = TextChange::new(&read(0.0, 30), &read(0.0, 0));
        assert_eq!((change.nll.value, change.bytes), (0.0, None));
    }
}
