//! A layer's experts by way of the mind: leased window by window, run by whoever hosts them, summed in an order that does not
//! depend on what was in memory or who answered first. The same for every module.

pub(super) mod apart;

use std::collections::BTreeMap;
use std::ops::Range;

use sage_actors::protocol::{
    ExpertKey, ExpertUse, LayerKey, LeaseRequest, LeasedExpert, Phase, Residency, Route, Selection,
    Use,
};

use tracing::Instrument;

use super::engine::Engine;
use super::error::EngineError;
use super::layers::{LayerStep, Passage};
use super::ports::{
    EXPERT_ROWS, ExpertHost, ExpertOutput, ExpertTask, HiddenRows, LostHost, WeightedOutput,
    module_name,
};
use crate::spans;

/// A layer's expert, the rows that it works on, and how much each of them counts.
struct Workload {
    expert: u16,
    /// Ascending.
    rows: Vec<usize>,
    /// Mixing weight of each.
    weights: Vec<f32>,
}

impl Engine {
    /// Has a layer's experts chosen, and adds their weighted outputs to the passage's rows; what was chosen and what it took
    /// goes into its `out`, the router's entropy as a sum. `input` is the layer's normed rows, `logits` its router's. The
    /// passage's residency is the layer's before, the next one's afterwards.
    pub(super) async fn run_sparse(
        &mut self,
        passage: &mut Passage<'_>,
        layer: usize,
        input: &dyn HiddenRows,
        logits: Vec<f32>,
    ) -> Result<(), EngineError> {
        let key = key(&passage.step, layer);
        let selection = self.choose(passage, key, logits).await?;
        self.run_experts(passage, key, input, &selection).await
    }

    /// Asks the layer's router.
    async fn choose(
        &mut self,
        passage: &mut Passage<'_>,
        key: LayerKey,
        logits: Vec<f32>,
    ) -> Result<Selection, EngineError> {
        let Passage { step, out, .. } = passage;
        let (name, layer) = (module_name(step.module), usize::from(key.layer));
        let tensor = format_args!("{name}.router_logits.{layer}");
        step.listener.tensor(tensor, &logits);
        let route = route(step, logits, &passage.residency);
        let asked = self.mind.route(key, route).instrument(spans::route(key));
        let selection = self.clock.ask(1, asked).await?;
        step.listener.selection(layer, &selection);
        out.entropy.spans.resize(step.spans.len(), 0.0);
        let layers = self.layers_of(step.module).len().max(1) as f32;
        let shares = selection.span_entropy_sums.iter().map(|sum| sum / layers);
        for (entropy, share) in out.entropy.spans.iter_mut().zip(shares) {
            *entropy += share;
        }
        out.note_selection(key.layer, &selection);
        Ok(selection)
    }

    /// Leases and runs a layer's experts window by window and adds their weighted outputs to the rows, in ascending order
    /// of experts for every token, whoever answered first. An expert has one turn, however many rows there are; of its
    /// outputs no more exist at a time than memory is planned for.
    async fn run_experts(
        &mut self,
        passage: &mut Passage<'_>,
        key: LayerKey,
        input: &dyn HiddenRows,
        selection: &Selection,
    ) -> Result<(), EngineError> {
        let workloads = gather(selection);
        let window_experts = self.work.window_experts;
        for (at, window) in workloads.chunks(window_experts).enumerate() {
            let later = &workloads[((at + 1) * window_experts).min(workloads.len())..];
            let request = self.lease_request(&passage.step, key, selection.rows(), window, later);
            let asked = self.mind.lease(request);
            let asked = asked.instrument(spans::lease(key, window.len()));
            let lease = self.clock.ask(1, asked).await?;
            let traffic = &mut passage.out.traffic;
            traffic.add(&lease.experts, lease.miss_bytes);
            // Behind what this layer lacks, and after what was foreseen for it was taken over.
            let ahead = match at {
                0 => self.look_ahead(passage, key, input).await,
                _ => Ok(()),
            };
            let worked = match ahead {
                Ok(()) => {
                    self.add_window(passage, key, window, &lease.experts, input)
                        .await
                }
                failed => failed,
            };
            // Given back before an error is passed on: a lease must never be lost.
            self.clock.ask(1, self.mind.release(lease.id)).await?;
            worked?;
            passage.residency = lease.next;
        }
        let used = workloads.iter().map(|workload| ExpertUse {
            layer: key.layer,
            expert: workload.expert,
            tokens: workload.rows.len() as u32,
        });
        passage.out.work.used.extend(used);
        Ok(())
    }

    /// Runs a leased window over the rows and adds what comes of it, some rows at a time.
    async fn add_window(
        &self,
        passage: &mut Passage<'_>,
        key: LayerKey,
        window: &[Workload],
        leased: &[LeasedExpert],
        input: &dyn HiddenRows,
    ) -> Result<(), EngineError> {
        for rows in row_ranges(window, EXPERT_ROWS) {
            let (mut parts, mut leases) = (Vec::new(), Vec::new());
            for (workload, leased) in window.iter().zip(leased) {
                let part = workload.within(&rows);
                if !part.rows.is_empty() {
                    parts.push(part);
                    leases.push(*leased);
                }
            }
            let mut outputs = self.run_window(key, &parts, &leases, input).await?;
            outputs.sort_unstable_by_key(|output| output.expert);
            let weighted: Vec<_> = parts.iter().zip(&outputs).map(weighted).collect();
            passage.decoder.add_experts(&mut *passage.x, &weighted)?;
        }
        Ok(())
    }

    fn lease_request(
        &self,
        step: &LayerStep<'_>,
        key: LayerKey,
        tokens: usize,
        window: &[Workload],
        later: &[Workload],
    ) -> LeaseRequest {
        let uses = window.iter().map(|workload| Use {
            expert: workload.expert,
            tokens: workload.rows.len() as u32,
        });
        LeaseRequest {
            tick: self.tick(),
            phase: step.phase,
            layer: key,
            tokens: tokens as u32,
            uses: uses.collect(),
            upcoming: later.iter().map(|workload| workload.expert).collect(),
            next_layer: self.experts.layer_after(key),
        }
    }

    /// Has the host run a window's experts; one output for each of them, in no order.
    async fn run_window(
        &self,
        layer: LayerKey,
        window: &[Workload],
        leased: &[LeasedExpert],
        input: &dyn HiddenRows,
    ) -> Result<Vec<ExpertOutput>, EngineError> {
        let pairs = leased.iter().zip(window);
        let tasks: Vec<ExpertTask<'_>> = pairs
            .map(|(leased, workload)| ExpertTask {
                leased: *leased,
                rows: &workload.rows,
            })
            .collect();
        let outputs = self.body.experts.work(layer, &tasks, input).await?;
        check_outputs(self.host(), layer, &tasks, &outputs)?;
        Ok(outputs)
    }

    /// Predicts the next sparse layer's experts with its router on this layer's input, and has them read ahead.
    async fn look_ahead(
        &mut self,
        passage: &Passage<'_>,
        key: LayerKey,
        input: &dyn HiddenRows,
    ) -> Result<(), EngineError> {
        if passage.step.phase != Phase::Decode || !self.work.read_ahead {
            return Ok(());
        }
        let decoder = &passage.decoder;
        let count = usize::from(passage.step.lookahead);
        let next = self.experts.layer_after(key);
        // The first layer's input is another token's: nothing to predict from.
        if count == 0 || next <= key {
            return Ok(());
        }
        let Some(logits) = decoder.router_logits(usize::from(next.layer), input)? else {
            return Ok(());
        };
        let mut order: Vec<u16> = (0..logits.len() as u16).collect();
        order.sort_by(|a, b| {
            logits[usize::from(*b)]
                .total_cmp(&logits[usize::from(*a)])
                .then(a.cmp(b))
        });
        order.retain(|expert| {
            let (layer, expert) = (next, *expert);
            !self.experts.absent.contains(&ExpertKey { layer, expert })
        });
        order.truncate(count);
        let prefetch = self.mind.prefetch(next, order);
        Ok(self.clock.ask(1, prefetch).await?)
    }
}

fn key(step: &LayerStep<'_>, layer: usize) -> LayerKey {
    LayerKey {
        module: step.module,
        layer: layer as u16,
    }
}

fn weighted<'a>((workload, output): (&'a Workload, &'a ExpertOutput)) -> WeightedOutput<'a> {
    WeightedOutput {
        rows: &workload.rows,
        weights: &workload.weights,
        values: &*output.values,
    }
}

/// That a host answered what it was asked: one output for every task, of as many rows.
fn check_outputs(
    host: &dyn ExpertHost,
    layer: LayerKey,
    tasks: &[ExpertTask<'_>],
    outputs: &[ExpertOutput],
) -> Result<(), EngineError> {
    let lost = |expert: u16, reason: String| LostHost {
        host: host.name().to_owned(),
        key: ExpertKey { layer, expert },
        reason,
    };
    for task in tasks {
        let expert = task.leased.expert;
        let mut of_task = outputs.iter().filter(|output| output.expert == expert);
        let rows = of_task.next().map(|output| output.values.rows());
        if rows != Some(task.rows.len()) || of_task.next().is_some() {
            let (found, expected) = (rows.unwrap_or(0), task.rows.len());
            let reason =
                format!("it answered with {found} rows, expected one output of {expected}");
            return Err(lost(expert, reason).into());
        }
    }
    if outputs.len() != tasks.len() {
        let expert = outputs.iter().find(|output| {
            let known = |task: &ExpertTask<'_>| task.leased.expert == output.expert;
            !tasks.iter().any(known)
        });
        let expert = expert.map_or(0, |output| output.expert);
        return Err(lost(
            expert,
            "it answered for an expert that it was not asked".into(),
        )
        .into());
    }
    Ok(())
}

/// What the layer's router is asked.
fn route(step: &LayerStep<'_>, logits: Vec<f32>, residency: &Residency) -> Route {
    Route {
        tick: step.tick,
        phase: step.phase,
        logits,
        resident: residency.resident.clone(),
        bytes_left: residency.bytes_left.filter(|_| step.phase == Phase::Decode),
        salience_t: step.felt.salience_t,
        surprise_t: step.felt.surprise_t,
        reward: step.felt.reward,
        spans: step.spans.clone(),
    }
}

/// The chosen experts with the tokens that each works on, ascending; none is leased yet.
fn gather(selection: &Selection) -> Vec<Workload> {
    let mut by_expert = BTreeMap::<u16, (Vec<usize>, Vec<f32>)>::new();
    for row in 0..selection.rows() {
        for chosen in selection.row(row) {
            let (rows, weights) = by_expert.entry(chosen.expert).or_default();
            rows.push(row);
            weights.push(chosen.weight);
        }
    }
    by_expert
        .into_iter()
        .map(|(expert, (rows, weights))| Workload {
            expert,
            rows,
            weights,
        })
        .collect()
}

/// Rows of a window that are worked on at a time: as many as have `most` outputs together, one token's at least.
fn row_ranges(window: &[Workload], most: usize) -> Vec<Range<usize>> {
    let mut used: Vec<usize> = window.iter().flat_map(|work| &work.rows).copied().collect();
    used.sort_unstable();
    let mut ranges = Vec::new();
    let (mut start, mut outputs) = (0, 0);
    for of_row in used.chunk_by(|a, b| a == b) {
        if outputs > 0 && outputs + of_row.len() > most {
            ranges.push(start..of_row[0]);
            (start, outputs) = (of_row[0], 0);
        }
        outputs += of_row.len();
    }
    if let Some(last) = used.last() {
        ranges.push(start..last + 1);
    }
    ranges
}

impl Workload {
    /// The part of it that is about these rows.
    fn within(&self, rows: &Range<usize>) -> Self {
        let first = self.rows.partition_point(|row| *row < rows.start);
        let end = self.rows.partition_point(|row| *row < rows.end);
        Self {
            expert: self.expert,
            rows: self.rows[first..end].to_vec(),
            weights: self.weights[first..end].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_where_its_outputs_would_be_too_many() {
        let workload = |expert, rows: &[usize]| Workload {
            expert,
            rows: rows.to_vec(),
            weights: rows.iter().map(|row| *row as f32).collect(),
        };
        let window = [
            workload(1, &[0, 1, 2, 5]),
            workload(4, &[1, 2, 3]),
            workload(6, &[2]),
        ];
        let whole = row_ranges(&window, 100);
        assert_eq!((whole.len(), &whole[0]), (1, &(0..6)));
        assert_eq!(row_ranges(&window, 4), [0..2, 2..5, 5..6]);
        assert_eq!(row_ranges(&window, 1), [0..1, 1..2, 2..3, 3..5, 5..6]);
        assert!(row_ranges(&[], 4).is_empty());
        let part = window[0].within(&(1..5));
        assert_eq!((part.rows, part.weights), (vec![1, 2], vec![1.0, 2.0]));
        // Every row is in one range.
        for most in 1..9 {
            let ranges = row_ranges(&window, most);
            let rows = |range: &Range<usize>| window[0].within(range).rows;
            let all: Vec<usize> = ranges.iter().flat_map(rows).collect();
            assert_eq!(all, window[0].rows);
        }
    }
}
