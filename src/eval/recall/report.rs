//! What came of it: exact match of every arm, and how far the mind's own rule is from each rival.

use std::collections::BTreeSet;

use sage_actors::config::Named;
use serde::Serialize;

use super::arm::RecallArm;
use super::items::Item;
use super::settings::RecallSettings;
use crate::eval::bootstrap::intervals;

/// What an arm did.
#[derive(Clone, Debug, Default)]
pub(super) struct ArmResult {
    /// Of every item, whether each question was answered right.
    pub right: Vec<Vec<bool>>,
    /// How often the context was full.
    pub condensed: usize,
    /// Segments that came back.
    pub recalled: usize,
    /// Bytes of experts that were read while it waited.
    pub bytes_read: u64,
    /// Tokens read and generated, what was read anew included.
    pub ticks: u64,
}

/// An arm's share of right answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmRecall {
    /// Its name.
    pub arm: &'static str,
    /// Of all questions, in [0, 1].
    pub right: f64,
    /// Percentile 2.5 of 2,000 resamples of the items; none with fewer than two.
    pub low: Option<f64>,
    /// Percentile 97.5.
    pub high: Option<f64>,
    /// Of each group's questions.
    pub groups: Vec<(String, f64)>,
    /// How often the context was full and read anew.
    pub condensed: usize,
    /// Segments that questions brought back.
    pub recalled: usize,
    /// Bytes of experts that were read while it waited.
    pub bytes_read: u64,
    /// Tokens read and generated, what was read anew included.
    pub ticks: u64,
}

/// What the arm `mind` has above another one, the same items drawn for both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RivalDifference {
    /// The other.
    pub rival: &'static str,
    /// In shares of all questions.
    pub value: f64,
    /// Percentile 2.5.
    pub low: Option<f64>,
    /// Percentile 97.5.
    pub high: Option<f64>,
}

/// The comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecallReport {
    /// Items.
    pub items: usize,
    /// Questions about them.
    pub questions: usize,
    /// Tokens of context of every arm but the unlimited.
    pub context_tokens: usize,
    /// Bytes of memory of every arm.
    pub store_bytes: u64,
    /// In the order in which they were asked for.
    pub arms: Vec<ArmRecall>,
    /// Where the mind's own rule was among them.
    pub differences: Vec<RivalDifference>,
}

impl RecallReport {
    pub(super) fn new(
        settings: &RecallSettings,
        items: &[Item],
        results: &[(RecallArm, ArmResult)],
    ) -> Self {
        let mind = results.iter().find(|(arm, _)| *arm == RecallArm::Mind);
        let rivals = results.iter().filter(|(arm, _)| *arm != RecallArm::Mind);
        let differences = mind.map_or(Vec::new(), |(_, mind)| {
            rivals
                .map(|(arm, rival)| difference(mind, *arm, rival))
                .collect()
        });
        Self {
            items: items.len(),
            questions: items.iter().map(|item| item.questions.len()).sum(),
            context_tokens: settings.context_tokens,
            store_bytes: settings.mind.memory.store_bytes,
            arms: results
                .iter()
                .map(|(arm, result)| recall(*arm, items, result))
                .collect(),
            differences,
        }
    }
}

/// Right answers and questions of an item.
fn counts(right: &[bool]) -> (f64, f64) {
    let hits = right.iter().filter(|right| **right).count();
    (hits as f64, right.len() as f64)
}

/// Share of right answers where item i was drawn `drawn[i]` times.
fn share(result: &ArmResult, drawn: &[f64]) -> f64 {
    let items = result.right.iter().zip(drawn);
    let sums = items.fold((0.0, 0.0), |(hits, asked), (right, times)| {
        let (hit, of) = counts(right);
        (hits + times * hit, asked + times * of)
    });
    if sums.1 == 0.0 { 0.0 } else { sums.0 / sums.1 }
}

fn recall(arm: RecallArm, items: &[Item], result: &ArmResult) -> ArmRecall {
    let once = vec![1.0; result.right.len()];
    let found = intervals(result.right.len(), |drawn| [share(result, drawn)]);
    let groups: BTreeSet<&str> = items.iter().map(|item| item.group.as_str()).collect();
    let of_group = |group: &&str| {
        let drawn = items
            .iter()
            .map(|item| f64::from(u8::from(item.group == **group)));
        let drawn: Vec<f64> = drawn.collect();
        ((*group).to_owned(), share(result, &drawn))
    };
    ArmRecall {
        arm: arm.name(),
        right: share(result, &once),
        low: found.map(|[interval]| interval.low),
        high: found.map(|[interval]| interval.high),
        groups: groups.iter().map(of_group).collect(),
        condensed: result.condensed,
        recalled: result.recalled,
        bytes_read: result.bytes_read,
        ticks: result.ticks,
    }
}

fn difference(mind: &ArmResult, arm: RecallArm, rival: &ArmResult) -> RivalDifference {
    let less = |drawn: &[f64]| [share(mind, drawn) - share(rival, drawn)];
    let found = intervals(mind.right.len(), less);
    let [value] = less(&vec![1.0; mind.right.len()]);
    RivalDifference {
        rival: arm.name(),
        value,
        low: found.map(|[interval]| interval.low),
        high: found.map(|[interval]| interval.high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_questions_and_differences_are_paired() {
        let result = |right: &[&[bool]]| ArmResult {
            right: right.iter().map(|right| right.to_vec()).collect(),
            ..ArmResult::default()
        };
        let mind = result(&[&[true, true, false], &[true]]);
        let rival = result(&[&[true, false, false], &[false]]);
        assert_eq!(share(&mind, &[1.0, 1.0]), 0.75);
        assert_eq!(share(&mind, &[1.0, 0.0]), 2.0 / 3.0);
        let found = difference(&mind, RecallArm::Recency, &rival);
        assert_eq!((found.rival, found.value), ("recency", 0.5));
        // The first item alone says a third, the second 1.
        assert!((found.low.unwrap() - 1.0 / 3.0).abs() < 1e-9 && found.high == Some(1.0));
    }
}
