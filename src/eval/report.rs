//! From what was measured to what is said: sums, intervals, and every arm's difference to the exact arm.

use serde::Serialize;

use super::arm::Arm;
use super::bootstrap::intervals;
use super::change::{TasksChange, TextChange};
use super::estimate::Estimate;
use super::material::{Material, TaskItem};
use super::metrics::{Answered, DocumentResult, PartConditions};
use super::record::{PartResult, Results};
use super::rows::{EvalRow, document_rows, item_rows};
use super::{ArmPolicy, EvalPart};
use crate::input::KvPrecision;
use crate::reads::ReadBytes;

/// What differs from run to run, or from machine to machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ArmMeasurements {
    /// Of the steps; the judge's own work is not counted.
    pub seconds: f64,
    /// Tokens a second of that.
    pub tokens_per_second: f64,
    /// Peak of the resident set of the arm's process.
    pub peak_rss_bytes: u64,
    /// What that process read from disk.
    pub read_bytes: ReadBytes,
    /// The limit, if there is one. A limit in slots or percent is worth what the process itself measured.
    pub limit_bytes: Option<u64>,
    /// What must be in memory.
    pub floor_bytes: u64,
}

/// How an arm reads.
#[derive(Clone, Debug, Serialize)]
pub struct TextReport {
    pub documents: usize,
    /// Tokens predicted.
    pub tokens: u64,
    /// Mean negative log-likelihood a token, nats.
    pub nll: Estimate,
    /// Its exponential.
    pub perplexity: Estimate,
    /// Mean divergence of the oracle's prediction from the arm's, nats a token.
    pub kl: Estimate,
    /// Share of tokens where both hold the same token most likely.
    pub agreement: Estimate,
    /// Share of leased experts that were resident.
    pub hit_rate: f64,
    /// Logical bytes missed per token.
    pub bytes_per_token: f64,
    /// Router mass that wanted experts were denied, summed over layers, per token.
    pub denied_mass_per_token: f64,
    /// What the variation changed; none where the arm has none.
    pub change: Option<TextChange>,
    /// Timings and memory.
    pub measured: ArmMeasurements,
}

#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    pub task: String,
    pub items: usize,
    /// Share of answers that are the expected one.
    pub exact_match: Estimate,
}

/// How an arm answers.
#[derive(Clone, Debug, Serialize)]
pub struct TasksReport {
    pub items: usize,
    /// Tokens of prompts and answers.
    pub tokens: u64,
    /// Share of answers that are the expected one.
    pub exact_match: Estimate,
    /// By task, in the order of the files.
    pub tasks: Vec<TaskReport>,
    /// Share of leased experts that were resident.
    pub hit_rate: f64,
    /// Logical bytes missed per token, of prompts and answers.
    pub bytes_per_token: f64,
    /// What the variation changed; none where the arm has none.
    pub change: Option<TasksChange>,
    /// Timings and memory.
    pub measured: ArmMeasurements,
}

#[derive(Clone, Debug, Serialize)]
pub struct ArmReport {
    /// State, policy and limit in one.
    pub name: String,
    /// The state held; none for the exact arm.
    pub state: Option<sage_actors::protocol::State>,
    /// How it routed.
    pub policy: ArmPolicy,
    /// As it was asked for.
    pub limit: String,
    /// How keys and values were kept.
    pub kv_precision: KvPrecision,
    /// Name of the variation of the mind; none: the mind that all arms have in common.
    pub variation: Option<String>,
    /// Experts a token.
    pub k: u16,
    /// Capacity for resident experts, bytes.
    pub expert_bytes: u64,
    /// Residency bias of the state.
    pub lambda: f32,
    /// Salience bias of the state.
    pub beta: f32,
    /// Bytes that one decoded token may miss; none: no cap.
    pub miss_bytes_per_token: Option<u64>,
    pub text: Option<TextReport>,
    pub tasks: Option<TasksReport>,
}

/// Which run it was.
#[derive(Clone, Debug, Serialize)]
pub struct EvalMode {
    /// In one line.
    pub text: String,
    /// The model's fingerprint.
    pub fingerprint: String,
    pub eviction: sage_actors::config::EvictionPolicy,
    /// Documents read by every arm.
    pub documents: usize,
    /// Tokens that every arm predicts.
    pub scored_tokens: usize,
    /// Tokens of a text read in a step: 1 is how decode reads.
    pub chunk_tokens: usize,
    /// Items answered by every arm.
    pub items: usize,
    /// Tokens of an answer at most.
    pub answer_tokens: usize,
    /// Resamples of an interval.
    pub resamples: usize,
    /// Of the resamples.
    pub seed: u64,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Which run it was.
    pub mode: EvalMode,
    /// Every arm; the exact arm first under every limit.
    pub arms: Vec<ArmReport>,
    /// Every document and item under every arm.
    pub rows: Vec<EvalRow>,
}

/// Puts the results of all arms together.
pub(super) fn report(
    mode: EvalMode,
    arms: &[Arm],
    material: &Material,
    results: &Results,
) -> EvalReport {
    let part = |arm: usize, part: EvalPart| results.get(&(arm, part));
    let mut reports = Vec::new();
    let mut rows = Vec::new();
    for (index, arm) in arms.iter().enumerate() {
        let exact = arms
            .iter()
            .position(|other| other.is_exact() && other.limit == arm.limit);
        let exact = exact.filter(|exact| *exact != index);
        let against = |wanted| exact.and_then(|exact| part(exact, wanted));
        let unvaried = arms.iter().position(|other| *other == arm.unvaried());
        let unvaried = unvaried.filter(|_| arm.variation.is_some());
        let before = |wanted| unvaried.and_then(|unvaried| part(unvaried, wanted));
        let text = part(index, EvalPart::Text);
        let tasks = part(index, EvalPart::Tasks);
        let done = text.or(tasks).map(|part| part.done.clone());
        let done = done.unwrap_or_default();
        let name = arm.name();
        if let Some(text) = text {
            rows.extend(document_rows(&name, &material.documents, &text.documents));
        }
        if let Some(tasks) = tasks {
            rows.extend(item_rows(&name, &material.items, &tasks.items));
        }
        reports.push(ArmReport {
            state: arm.state,
            policy: arm.policy,
            limit: arm.limit.name.clone(),
            kv_precision: arm.kv,
            variation: arm.variation.clone(),
            k: done.k,
            expert_bytes: done.expert_bytes,
            lambda: done.lambda,
            beta: done.beta,
            miss_bytes_per_token: done.miss_bytes_per_token,
            text: text.map(|found| TextReport {
                change: before(EvalPart::Text).map(|before| TextChange::new(found, before)),
                ..text_report(found, against(EvalPart::Text))
            }),
            tasks: tasks.map(|found| TasksReport {
                change: before(EvalPart::Tasks).map(|before| TasksChange::new(found, before)),
                ..tasks_report(found, against(EvalPart::Tasks), &material.items)
            }),
            name,
        });
    }
    EvalReport {
        mode,
        arms: reports,
        rows,
    }
}

/// [nll, perplexity, kl, agreement] of documents that count `drawn` times each.
fn text_numbers(documents: &[DocumentResult], drawn: &[f64]) -> [f64; 4] {
    let (mut tokens, mut nll, mut kl, mut agreed) = (0.0, 0.0, 0.0, 0.0);
    for (document, n) in documents.iter().zip(drawn) {
        tokens += n * document.tokens as f64;
        nll += n * document.nll;
        kl += n * document.kl;
        agreed += n * document.agreed as f64;
    }
    let nll = nll / tokens;
    [nll, libm::exp(nll), kl / tokens, agreed / tokens]
}

fn text_report(found: &PartResult, exact: Option<&PartResult>) -> TextReport {
    let documents = &found.documents;
    let units = documents.len();
    let numbers = |drawn: &[f64]| -> [f64; 8] {
        let own = text_numbers(documents, drawn);
        let exact = exact.map_or(own, |exact| text_numbers(&exact.documents, drawn));
        std::array::from_fn(|i| {
            if i < 4 {
                own[i]
            } else {
                own[i - 4] - exact[i - 4]
            }
        })
    };
    let values = numbers(&vec![1.0; units]);
    let spread = intervals(units, numbers);
    let estimate = |i: usize| {
        let at = |i: usize| spread.map(|spread| spread[i]);
        let difference = exact.map(|_| (values[i + 4], at(i + 4)));
        Estimate::new(values[i], at(i), difference)
    };
    let sum = |of: fn(&DocumentResult) -> u64| documents.iter().map(of).sum::<u64>();
    let tokens = sum(|d| d.tokens);
    let denied: f64 = documents.iter().map(|d| d.denied_mass).sum();
    TextReport {
        documents: units,
        tokens,
        nll: estimate(0),
        perplexity: estimate(1),
        kl: estimate(2),
        agreement: estimate(3),
        hit_rate: share(sum(|d| d.hits), sum(|d| d.misses)),
        bytes_per_token: sum(|d| d.miss_bytes) as f64 / tokens.max(1) as f64,
        denied_mass_per_token: denied / tokens.max(1) as f64,
        change: None,
        measured: measured(
            documents.iter().map(|d| d.seconds).sum(),
            tokens,
            &found.done,
        ),
    }
}

/// Exact match of some of the items, with the exact arm's answers to the same.
fn matched(own: &[&Answered], exact: Option<&[&Answered]>) -> Estimate {
    let rate = |answers: &[&Answered], drawn: &[f64]| {
        let right = answers.iter().zip(drawn);
        right.map(|(a, n)| n * f64::from(a.correct)).sum::<f64>() / drawn.iter().sum::<f64>()
    };
    let numbers = |drawn: &[f64]| {
        let mine = rate(own, drawn);
        [mine, mine - exact.map_or(mine, |exact| rate(exact, drawn))]
    };
    let [value, difference] = numbers(&vec![1.0; own.len()]);
    let spread = intervals(own.len(), numbers);
    let at = |i: usize| spread.map(|spread| spread[i]);
    Estimate::new(value, at(0), exact.map(|_| (difference, at(1))))
}

fn tasks_report(found: &PartResult, exact: Option<&PartResult>, items: &[TaskItem]) -> TasksReport {
    let answers = &found.items;
    let of = |answers: &'_ [Answered], task: Option<&str>| -> Vec<usize> {
        (0..answers.len())
            .filter(|i| task.is_none_or(|task| items[*i].task == task))
            .collect()
    };
    let estimate = |task: Option<&str>| {
        let chosen = of(answers, task);
        let own: Vec<&Answered> = chosen.iter().map(|i| &answers[*i]).collect();
        let exact: Option<Vec<&Answered>> =
            exact.map(|exact| chosen.iter().map(|i| &exact.items[*i]).collect());
        (own.len(), matched(&own, exact.as_deref()))
    };
    let mut names: Vec<&str> = Vec::new();
    for item in items {
        if !names.contains(&item.task.as_str()) {
            names.push(&item.task);
        }
    }
    let tasks = names
        .into_iter()
        .map(|task| {
            let (items, exact_match) = estimate(Some(task));
            TaskReport {
                task: task.to_owned(),
                items,
                exact_match,
            }
        })
        .collect();
    let sum = |of: fn(&Answered) -> u64| answers.iter().map(of).sum::<u64>();
    let tokens = sum(|a| a.tokens);
    TasksReport {
        items: answers.len(),
        tokens,
        exact_match: estimate(None).1,
        tasks,
        hit_rate: share(sum(|a| a.hits), sum(|a| a.misses)),
        bytes_per_token: sum(|a| a.miss_bytes) as f64 / tokens.max(1) as f64,
        change: None,
        measured: measured(answers.iter().map(|a| a.seconds).sum(), tokens, &found.done),
    }
}

fn share(hits: u64, misses: u64) -> f64 {
    hits as f64 / (hits + misses).max(1) as f64
}

fn measured(seconds: f64, tokens: u64, done: &PartConditions) -> ArmMeasurements {
    ArmMeasurements {
        seconds,
        tokens_per_second: if seconds > 0.0 {
            tokens as f64 / seconds
        } else {
            0.0
        },
        peak_rss_bytes: done.peak_rss_bytes,
        read_bytes: done.read_bytes,
        limit_bytes: done.limit_bytes,
        floor_bytes: done.floor_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents of 10, 20, 30, ... tokens that lose so many nats a token.
    fn read(nats: &[f64]) -> PartResult {
        let documents = nats.iter().zip(1..).map(|(nats, n)| DocumentResult {
            tokens: 10 * n,
            nll: nats * 10.0 * n as f64,
            kl: 0.01 * n as f64,
            agreed: 9 * n,
            hits: 3,
            misses: 1,
            miss_bytes: 20 * n,
            ..DocumentResult::default()
        });
        PartResult {
            documents: documents.collect(),
            ..PartResult::default()
        }
    }

    #[test]
    fn tokens_weigh_alike_and_differences_are_paired() {
        let exact = read(&[1.0, 2.0, 3.0]);
        let worse = read(&[1.25, 2.25, 3.25]);
        let report = text_report(&worse, Some(&exact));
        let mean = (10.0 * 1.25 + 20.0 * 2.25 + 30.0 * 3.25) / 60.0;
        assert!((report.nll.value - mean).abs() < 1e-12);
        assert!((report.perplexity.value - libm::exp(mean)).abs() < 1e-9);
        assert!((report.agreement.value - 0.9).abs() < 1e-12);
        assert_eq!((report.hit_rate, report.bytes_per_token), (0.75, 2.0));
        // The documents differ widely, what the arm loses on each does not.
        let difference = report.nll.difference.unwrap();
        let (low, high) = (difference.low.unwrap(), difference.high.unwrap());
        assert!((low - 0.25).abs() < 1e-12 && (high - 0.25).abs() < 1e-12);
        assert_eq!(difference.tie, Some(false));
        assert!(report.nll.high.unwrap() - report.nll.low.unwrap() > 0.5);
    }

    #[test]
    fn a_difference_that_goes_either_way_is_a_tie() {
        let exact = read(&[1.0, 2.0, 3.0, 2.0]);
        let mixed = read(&[1.2, 1.9, 3.1, 1.9]);
        let report = text_report(&mixed, Some(&exact));
        assert_eq!(report.nll.difference.unwrap().tie, Some(true));
        assert!(text_report(&exact, None).nll.difference.is_none());
        let alone = text_report(&read(&[1.0]), Some(&read(&[0.5])));
        assert_eq!(alone.nll.difference.unwrap().tie, None);
        assert_eq!(alone.nll.low, None);
    }

    #[test]
    fn answers_are_counted_by_task() {
        let item = |task: &str| TaskItem {
            task: task.to_owned(),
            name: String::new(),
            tokens: Vec::new(),
            answer: String::new(),
        };
        let items = [item("b"), item("a"), item("b")];
        let answers = |correct: [bool; 3]| PartResult {
            items: correct
                .map(|correct| Answered {
                    correct,
                    ..Answered::default()
                })
                .into(),
            ..PartResult::default()
        };
        let exact = answers([true, true, true]);
        let report = tasks_report(&answers([false, true, true]), Some(&exact), &items);
        let tasks: Vec<_> = report
            .tasks
            .iter()
            .map(|task| (task.task.as_str(), task.items, task.exact_match.value))
            .collect();
        assert_eq!(tasks, [("b", 2, 0.5), ("a", 1, 1.0)]);
        let difference = report.tasks[0].exact_match.difference.unwrap();
        assert_eq!((difference.value, difference.tie), (-0.5, Some(true)));
    }
}
