//! Which experts work on a token, and how much each counts.
//!
//! One [`Router`] per sparse layer. Every policy chooses a set S of k experts; the mixing weights are always the
//! router's own: the softmax over all E logits, restricted to S and renormalised exactly as the checkpoint says.
//! A bias decides who is admitted, the router decides how much.

pub mod actor;
mod select;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::config::{ModuleShape, RoutingPolicy};
use crate::protocol::{
    Chosen, ExpertSet, LayerTrust, ModuleDirective, Phase, Route, Selection, State,
};
use select::{Cap, fits, softmax, top_into};

/// Why a router refuses to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A logit is NaN or infinite.
    #[error("logit of row {row}, expert {expert} is not finite")]
    NotFinite {
        /// Row of the request.
        row: usize,
        /// Whose logit.
        expert: u16,
    },
    /// The logits are not whole rows of E entries.
    #[error("{logits} logits are not whole rows of {experts} experts")]
    Shape {
        /// Entries in the request.
        logits: usize,
        /// Experts of the layer.
        experts: u16,
    },
    /// Salience, surprise or reward is NaN.
    #[error("salience, surprise or reward is not a number")]
    NotANumber,
    /// A view of trust that is not of this layer's size.
    #[error("trust of {entries} experts for a layer of {experts}")]
    Trust {
        /// Entries of the view's shortest vector.
        entries: usize,
        /// Experts of the layer.
        experts: u16,
    },
}

/// Fewest logit-chosen experts that no bias and no byte cap can displace: `min(2, max(1, k / 4))`, at most k.
pub fn protected_top(k: usize) -> usize {
    (k / 4).clamp(1, 2).min(k)
}

/// The router of one sparse layer.
#[derive(Clone, Debug)]
pub struct Router {
    policy: RoutingPolicy,
    experts: u16,
    expert_bytes: u64,
    /// By expert; empty where all are alike.
    bytes: Vec<u64>,
    norm_topk_prob: bool,
    /// Of the phase in force.
    k: usize,
    /// In decoding, and in reading.
    k_of_phase: [usize; 2],
    /// Share of the k best's mass at which a row has experts enough; 1: always k.
    router_mass: f32,
    state: State,
    lambda: f32,
    beta: f32,
    focus_weight: f32,
    trust: Arc<LayerTrust>,
    /// 1/√(1 + visits) of every expert in `trust`.
    novelty: Vec<f32>,
    /// Never chosen, except by the exact policy.
    absent: ExpertSet,
    scratch: Scratch,
}

#[derive(Clone, Debug, Default)]
struct Scratch {
    probabilities: Vec<f32>,
    scores: Vec<f32>,
    /// The trained choice.
    exact: Vec<u16>,
    /// The best logits of those that are there: the same, unless experts are absent.
    best: Vec<u16>,
    /// Logits with those of absent experts at −∞.
    present: Vec<f32>,
    order: Vec<u16>,
    admitted: Vec<u16>,
    denied: Vec<f32>,
}

/// Salience of one row.
#[derive(Clone, Copy)]
struct Carried {
    salience_t: f32,
    surprise_t: f32,
}

impl Carried {
    fn of(route: &Route, span: Option<usize>) -> Self {
        match span.and_then(|at| route.spans.get(at)) {
            Some(own) => Self {
                salience_t: own.salience_t,
                surprise_t: own.surprise_t,
            },
            None => Self {
                salience_t: route.salience_t,
                surprise_t: route.surprise_t,
            },
        }
    }
}

/// The span that a row is in.
fn span_of(route: &Route, row: usize) -> Option<usize> {
    route.spans.iter().position(|span| {
        let first = span.first_row as usize;
        (first..first + span.rows as usize).contains(&row)
    })
}

impl Router {
    /// A router of a layer of `shape`, at the trained k, without bias and with the prior's trust.
    pub fn new(shape: &ModuleShape, policy: RoutingPolicy) -> Self {
        Self {
            policy,
            experts: shape.experts,
            expert_bytes: shape.expert_bytes,
            bytes: Vec::new(),
            norm_topk_prob: shape.norm_topk_prob,
            k: usize::from(shape.k_trained),
            k_of_phase: [usize::from(shape.k_trained); 2],
            router_mass: 1.0,
            state: State::Wake,
            lambda: 0.0,
            beta: 0.0,
            focus_weight: 0.0,
            trust: Arc::new(LayerTrust::prior(shape.experts)),
            novelty: vec![1.0; usize::from(shape.experts)],
            absent: ExpertSet::default(),
            scratch: Scratch::default(),
        }
    }

    /// The same router for a layer whose experts take so many bytes each.
    #[must_use]
    pub(crate) fn sized(mut self, bytes: Vec<u64>) -> Self {
        self.bytes = bytes;
        self
    }

    /// What missing an expert costs.
    fn bytes_of(&self, expert: u16) -> u64 {
        let own = self.bytes.get(usize::from(expert));
        own.copied().unwrap_or(self.expert_bytes)
    }

    /// The same router for a store that lacks some experts: the others are chosen from, what is lost is denied.
    #[must_use]
    pub fn without(mut self, absent: impl IntoIterator<Item = u16>) -> Self {
        absent
            .into_iter()
            .for_each(|expert| self.absent.insert(expert));
        self
    }

    /// Takes over a directive and what the ledger believes of this layer.
    ///
    /// # Errors
    /// [`RouteError::Trust`] if the view has fewer experts than the layer.
    pub fn apply(
        &mut self,
        directive: &ModuleDirective,
        trust: Arc<LayerTrust>,
    ) -> Result<(), RouteError> {
        let entries = trust
            .affinity
            .iter()
            .map(Vec::len)
            .chain([
                trust.trust.len(),
                trust.visits.len(),
                trust.affinity.len() * usize::from(self.experts),
            ])
            .min()
            .unwrap_or(0);
        if entries < usize::from(self.experts) || trust.affinity.len() < State::ALL.len() {
            return Err(RouteError::Trust {
                entries,
                experts: self.experts,
            });
        }
        let k_in = |phase| usize::from(directive.k_in(phase).clamp(1, self.experts));
        self.k_of_phase = [k_in(Phase::Decode), k_in(Phase::Prefill)];
        self.router_mass = directive.router_mass;
        self.state = directive.state;
        self.lambda = directive.lambda;
        self.beta = directive.beta;
        self.focus_weight = directive.focus_weight;
        if self.policy != RoutingPolicy::Exact && !Arc::ptr_eq(&self.trust, &trust) {
            let novelty = |visits: &f32| 1.0 / libm::sqrtf(1.0 + visits.max(0.0));
            self.novelty.clear();
            self.novelty.extend(trust.visits.iter().map(novelty));
        }
        self.trust = trust;
        Ok(())
    }

    /// Chooses for every row of the request.
    ///
    /// # Errors
    /// Logits that are not finite or not whole rows; salience that is not a number.
    pub fn route(&mut self, route: &Route) -> Result<Selection, RouteError> {
        let experts = usize::from(self.experts);
        if !route.logits.len().is_multiple_of(experts) {
            return Err(RouteError::Shape {
                logits: route.logits.len(),
                experts: self.experts,
            });
        }
        let spans = route.spans.iter();
        let spans_nan = spans.map(|span| span.salience_t + span.surprise_t);
        let numbers = [route.salience_t, route.surprise_t, route.reward].into_iter();
        if numbers.chain(spans_nan).any(f32::is_nan) {
            return Err(RouteError::NotANumber);
        }
        if let Some(at) = route.logits.iter().position(|z| !z.is_finite()) {
            return Err(RouteError::NotFinite {
                row: at / experts,
                expert: (at % experts) as u16,
            });
        }
        let mut cap = match (self.policy, route.phase, route.bytes_left) {
            (RoutingPolicy::Sage | RoutingPolicy::Salient, Phase::Decode, Some(bytes_left)) => {
                Some(Cap {
                    bytes_left,
                    overrun_bytes: 0,
                    paid: ExpertSet::default(),
                })
            }
            _ => None,
        };
        let [decoding, reading] = self.k_of_phase;
        self.k = match route.phase {
            Phase::Decode => decoding,
            Phase::Prefill => reading,
        };
        let rows = route.logits.len() / experts;
        let mut selection = Selection {
            chosen: Vec::with_capacity(rows * self.k),
            row_starts: Vec::with_capacity(rows + 1),
            span_entropy_sums: vec![0.0; route.spans.len()],
            ..Selection::default()
        };
        selection.row_starts.push(0);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.denied.clear();
        scratch.denied.resize(experts, 0.0);
        for (row, z) in route.logits.chunks_exact(experts).enumerate() {
            let span = span_of(route, row);
            let carried = Carried::of(route, span);
            let before = selection.entropy_sum;
            self.row(z, route, carried, &mut cap, &mut scratch, &mut selection);
            if let Some(span) = span {
                selection.span_entropy_sums[span] += selection.entropy_sum - before;
            }
        }
        for (expert, mass) in scratch.denied.iter().enumerate() {
            if *mass > 0.0 {
                selection.denied.push(expert as u16);
                selection.denied_each.push(*mass);
            }
        }
        self.scratch = scratch;
        selection.overrun_bytes = cap.map_or(0, |cap| cap.overrun_bytes);
        Ok(selection)
    }

    fn row(
        &self,
        z: &[f32],
        route: &Route,
        carried: Carried,
        cap: &mut Option<Cap>,
        scratch: &mut Scratch,
        out: &mut Selection,
    ) {
        out.entropy_sum += softmax(z, &mut scratch.probabilities);
        top_into(z, self.k, &mut scratch.exact);
        scratch.admitted.clear();
        if self.policy == RoutingPolicy::Exact {
            scratch.admitted.extend_from_slice(&scratch.exact);
        } else {
            self.score(z, route, carried, &mut scratch.scores);
            self.leave_out_absent(z, scratch);
            let enough = self.enough(carried, scratch);
            self.admit(z.len(), enough, &route.resident, cap, scratch);
        }
        self.weigh(z, scratch, out);
        self.deny(scratch, out);
    }

    /// Scores by which the policy ranks experts, before any cap.
    fn score(&self, z: &[f32], route: &Route, carried: Carried, scores: &mut Vec<f32>) {
        scores.clear();
        let affinity = self
            .trust
            .affinity
            .get(self.state.index())
            .map_or(&[][..], Vec::as_slice);
        let experts = z
            .iter()
            .zip(&self.novelty)
            .zip(&self.trust.trust)
            .zip(affinity);
        if self.policy == RoutingPolicy::Sage {
            scores.extend(experts.map(|(((z, novelty), trust), affinity)| {
                0.5 * z
                    + 0.2 * carried.surprise_t * novelty
                    + 0.2 * route.reward * trust
                    + 0.1 * self.focus_weight * affinity
            }));
            return;
        }
        let (low, high) = z.iter().fold((f32::MAX, f32::MIN), |(low, high), z| {
            (low.min(*z), high.max(*z))
        });
        let range = high - low;
        let lambda_t = match route.phase {
            Phase::Prefill => 0.0,
            Phase::Decode => self.lambda * (1.0 - carried.salience_t.clamp(0.0, 1.0)),
        };
        scores.extend(
            experts
                .enumerate()
                .map(|(expert, (((z, novelty), trust), affinity))| {
                    let resident = if route.resident.contains(expert as u16) {
                        lambda_t
                    } else {
                        0.0
                    };
                    let salient = carried.surprise_t * novelty
                        + route.reward * (2.0 * trust - 1.0)
                        + self.focus_weight * (2.0 * affinity - 1.0);
                    let bias = resident + self.beta * salient / 3.0;
                    // Without bias the logit itself ranks, even where the range overflows.
                    if bias == 0.0 { *z } else { z + range * bias }
                }),
        );
    }

    /// The best of the experts that are there into `scratch.best`; absent ones rank last in the scores.
    fn leave_out_absent(&self, z: &[f32], scratch: &mut Scratch) {
        if self.absent.is_empty() {
            scratch.best.clone_from(&scratch.exact);
            return;
        }
        scratch.present.clear();
        scratch.present.extend_from_slice(z);
        for expert in (0..self.experts).filter(|expert| self.absent.contains(*expert)) {
            scratch.present[usize::from(expert)] = f32::NEG_INFINITY;
            scratch.scores[usize::from(expert)] = f32::NEG_INFINITY;
        }
        let present = z.len() - self.absent.len();
        top_into(&scratch.present, self.k.min(present), &mut scratch.best);
    }

    /// The mass with which a row has experts enough: the state's share of what its k best have, the more of it the more
    /// salient it is. Of the trained choice only those that make it up stay wanted. Without end where all k are.
    fn enough(&self, carried: Carried, scratch: &mut Scratch) -> f32 {
        if self.router_mass >= 1.0 {
            return f32::INFINITY;
        }
        let mass = |expert: &u16| scratch.probabilities[usize::from(*expert)];
        let whole = scratch.exact.iter().fold(0.0f32, |sum, e| sum + mass(e));
        let salience_t = carried.salience_t.clamp(0.0, 1.0);
        let enough = whole * (self.router_mass + (1.0 - self.router_mass) * salience_t);
        let mut held = 0.0;
        let wanted = scratch.exact.iter().position(|expert| {
            held += mass(expert);
            held >= enough
        });
        let least = protected_top(self.k);
        if let Some(last) = wanted {
            scratch.exact.truncate((last + 1).max(least));
        }
        enough
    }

    /// Fills `scratch.admitted` from the scores: first the protected top, then the best that the cap lets in, until there are
    /// k of them or they have mass `enough`.
    fn admit(
        &self,
        experts: usize,
        enough: f32,
        resident: &ExpertSet,
        cap: &mut Option<Cap>,
        scratch: &mut Scratch,
    ) {
        let present = experts - self.absent.len();
        let k = self.k.min(present);
        let protected_top = protected_top(k);
        match self.policy {
            // The formula itself has no protected experts: without a cap its own order decides everything.
            RoutingPolicy::Sage => {
                top_into(&scratch.scores, protected_top, &mut scratch.order);
                scratch.admitted.extend_from_slice(&scratch.order);
            }
            RoutingPolicy::Exact | RoutingPolicy::Salient => {
                scratch
                    .admitted
                    .extend_from_slice(&scratch.best[..protected_top.min(scratch.best.len())]);
            }
        }
        let mut held = 0.0f32;
        for expert in &scratch.admitted {
            held += scratch.probabilities[usize::from(*expert)];
            if let Some(cap) = cap {
                fits(cap, *expert, resident, self.bytes_of(*expert), true);
            }
        }
        let is_done = |admitted: usize, held: f32| admitted == k || held >= enough;
        // With the protected top among them, the first `k + protected_top` decide unless the cap keeps some of them out.
        let likely = (k + protected_top).min(present);
        let mut looked_at = 0;
        for wanted in [likely, present] {
            if is_done(scratch.admitted.len(), held) || looked_at == wanted {
                break;
            }
            top_into(&scratch.scores, wanted, &mut scratch.order);
            for expert in &scratch.order[looked_at..] {
                if is_done(scratch.admitted.len(), held) {
                    break;
                }
                if scratch.admitted[..protected_top].contains(expert) {
                    continue;
                }
                if cap
                    .as_mut()
                    .is_none_or(|cap| fits(cap, *expert, resident, self.bytes_of(*expert), false))
                {
                    held += scratch.probabilities[usize::from(*expert)];
                    scratch.admitted.push(*expert);
                }
            }
            looked_at = wanted;
        }
    }

    /// The admitted experts in descending weight, weighted by the router's own softmax.
    fn weigh(&self, z: &[f32], scratch: &mut Scratch, out: &mut Selection) {
        let logit = |expert: u16| z[usize::from(expert)];
        scratch.admitted.sort_unstable_by(|a, b| {
            logit(*b)
                .partial_cmp(&logit(*a))
                .unwrap_or(std::cmp::Ordering::Equal)
                .then(a.cmp(b))
        });
        let p = |expert: u16| scratch.probabilities[usize::from(expert)];
        let total = scratch
            .admitted
            .iter()
            .fold(0.0f32, |sum, expert| sum + p(*expert));
        let normalise = self.norm_topk_prob && total > 0.0;
        out.chosen
            .extend(scratch.admitted.iter().map(|expert| Chosen {
                expert: *expert,
                weight: if normalise {
                    p(*expert) / total
                } else {
                    p(*expert)
                },
            }));
        out.row_starts.push(out.chosen.len() as u32);
    }

    fn deny(&self, scratch: &mut Scratch, out: &mut Selection) {
        for expert in &scratch.exact {
            if !scratch.admitted.contains(expert) {
                let mass = scratch.probabilities[usize::from(*expert)];
                out.denied_mass += mass;
                // A mass that underflows is still a denial.
                scratch.denied[usize::from(*expert)] += mass.max(f32::MIN_POSITIVE);
            }
        }
    }
}
