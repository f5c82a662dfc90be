//! Every document and item under every arm: what the sums are made of.

use serde::Serialize;

use super::material::{Document, TaskItem};
use super::metrics::{Answered, DocumentResult};

/// One document or item under one arm.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum EvalRow {
    Document {
        /// Name of the arm.
        arm: String,
        /// File and number.
        document: String,
        /// Tokens predicted.
        tokens: u64,
        /// Negative log-likelihood, nats, summed.
        nll: f64,
        /// Divergence from the oracle, nats, summed.
        kl: f64,
        /// Tokens where both agree.
        agreed: u64,
        /// Leased experts that were resident.
        hits: u64,
        /// Leased experts that were not.
        misses: u64,
        /// Logical bytes of the misses.
        miss_bytes: u64,
        /// Denied router mass, summed.
        denied_mass: f64,
    },
    Item {
        /// Name of the arm.
        arm: String,
        /// File and line.
        item: String,
        task: String,
        /// What was answered.
        answer: String,
        /// What was expected.
        expected: String,
        /// Whether they are the same.
        correct: bool,
        /// Tokens of prompt and answer.
        tokens: u64,
        /// Leased experts that were resident.
        hits: u64,
        /// Leased experts that were not.
        misses: u64,
        /// Logical bytes of the misses.
        miss_bytes: u64,
    },
}

/// Rows of the documents that an arm read.
pub(super) fn document_rows<'a>(
    arm: &'a str,
    documents: &'a [Document],
    results: &'a [DocumentResult],
) -> impl Iterator<Item = EvalRow> + 'a {
    let pairs = documents.iter().zip(results);
    pairs.map(move |(document, found)| EvalRow::Document {
        arm: arm.to_owned(),
        document: document.name.clone(),
        tokens: found.tokens,
        nll: found.nll,
        kl: found.kl,
        agreed: found.agreed,
        hits: found.hits,
        misses: found.misses,
        miss_bytes: found.miss_bytes,
        denied_mass: found.denied_mass,
    })
}

/// Rows of the items that an arm answered.
pub(super) fn item_rows<'a>(
    arm: &'a str,
    items: &'a [TaskItem],
    answers: &'a [Answered],
) -> impl Iterator<Item = EvalRow> + 'a {
    let pairs = items.iter().zip(answers);
    pairs.map(move |(item, found)| EvalRow::Item {
        arm: arm.to_owned(),
        item: item.name.clone(),
        task: item.task.clone(),
        answer: found.answer.clone(),
        expected: item.answer.clone(),
        correct: found.correct,
        tokens: found.tokens,
        hits: found.hits,
        misses: found.misses,
        miss_bytes: found.miss_bytes,
    })
}
