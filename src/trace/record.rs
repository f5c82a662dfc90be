//! The lines after the first: what came in, what the mind was asked and answered, what came out.

use sage_actors::protocol::{
    Assess, Chosen, Condense, Directives, ExpertSet, ExpertUse, Habit, LayerKey, Lease,
    LeaseRequest, Module, Observe, Outcome, Phase, Propose, Pruned, Recall, Remember, Remembered,
    Residency, Route, SalienceReport, SalienceSpan, Scored, Selection, State, Tick, TokenOrigin,
    TokenOutcome, Worked,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::columns::Floats;

/// One line's event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TraceRecord {
    /// An observation was handed to the loop before this tick.
    Input {
        /// The tick.
        tick: Tick,
        /// Number of the observation, by which its answer names it.
        id: u64,
        /// As the loop got it.
        observation: Value,
    },
    /// A chunk ends after so many tokens: something urgent comes then.
    Cut {
        /// When it begins.
        tick: Tick,
        /// How many.
        tokens: usize,
    },
    /// A chunk was given up: something urgent waited.
    GivenUp {
        /// When it began.
        tick: Tick,
        /// The layer that it did not reach.
        layer: usize,
    },
    /// What a tick senses.
    Salience {
        /// What reached the loop.
        asked: Observe,
        /// The five numbers.
        answer: SalienceReport,
    },
    /// State and budgets.
    State {
        /// What the controller was told.
        asked: Assess,
        /// The state, its cause where it changed, energy, drive, directives.
        answer: Directives,
    },
    /// Directives and trust were put in force.
    Apply {
        /// Digest of what the ledger believes.
        trust: String,
        /// Residency of the first sparse layer.
        answer: Residency,
    },
    /// Routing of a layer.
    Route {
        /// Which.
        layer: LayerKey,
        /// What its router was told.
        asked: RecordedRoute,
        /// Whom it chose.
        answer: Choice,
    },
    /// A window of experts.
    Lease {
        /// Who was asked for.
        asked: LeaseRequest,
        /// Those that were not in memory.
        missed: Vec<u16>,
        /// Their bytes.
        miss_bytes: u64,
        /// Residency of the layer that runs next.
        next: Residency,
    },
    /// The ledger learned.
    Learn(RecordedOutcome),
    /// Which experts of a recorded segment are to be scored next.
    Propose {
        /// Among whom.
        asked: Propose,
        /// Whom.
        answer: Vec<ExpertUse>,
    },
    /// The cache learned what a domain usually needs.
    Habit {
        /// From which episode.
        asked: Habit,
    },
    /// What follows is of this domain.
    Domain {
        /// In this state.
        state: State,
        /// Which.
        domain: String,
        /// Whether its habits are known.
        known: bool,
    },
    /// The oldest episodes were consolidated.
    Consolidate {
        /// How many.
        episodes: u32,
    },
    /// Episodes that were nearly alike were merged.
    Prune {
        /// What became of memory.
        answer: Pruned,
    },
    /// A segment was read into the conversation.
    Remember {
        /// What reading it measured.
        asked: Remember,
        /// Its salience, and what was forgotten for it.
        answer: Remembered,
    },
    /// The conversation's context was full.
    Condense {
        /// How much may stay.
        asked: Condense,
        /// The segments that stay.
        answer: Vec<u64>,
    },
    /// A question was about to be read.
    Recall {
        /// The question.
        asked: Recall,
        /// The segments that it brought back.
        answer: Vec<u64>,
    },
    /// What was said in the conversation was forgotten.
    ForgetSegments {},
    /// What the loop told the outside.
    Event {
        /// As in the output of `sage run --json`.
        event: Value,
    },
    /// What a host did with an observation before it reached the loop: it was shed, or refused.
    Host {
        /// As in the host's telemetry.
        event: Value,
    },
    /// The run ended by itself.
    End {
        /// Ticks that it took.
        tick: Tick,
    },
}

/// [`Route`], with its logits in a column, or left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedRoute {
    /// Of the step.
    pub tick: Tick,
    /// Prefill or decode.
    pub phase: Phase,
    /// `[rows, experts]`; absent where logits are not recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub logits: Option<Floats>,
    /// Experts of the layer in the demand pool.
    pub resident: ExpertSet,
    /// Bytes that may still be missed.
    pub bytes_left: Option<u64>,
    /// Salience that the token carries, in [0, 1].
    pub salience_t: f32,
    /// Surprise that the token carries.
    pub surprise_t: f32,
    /// Reward.
    pub reward: f32,
    /// Rows that carry another modality's salience.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub spans: Vec<SalienceSpan>,
}

impl RecordedRoute {
    /// Of a question to a router.
    pub fn of(route: &Route, logits: bool) -> Self {
        Self {
            tick: route.tick,
            phase: route.phase,
            logits: logits.then(|| Floats(route.logits.clone())),
            resident: route.resident.clone(),
            bytes_left: route.bytes_left,
            salience_t: route.salience_t,
            surprise_t: route.surprise_t,
            reward: route.reward,
            spans: route.spans.clone(),
        }
    }

    /// The question; none without logits.
    pub fn route(self) -> Option<Route> {
        Some(Route {
            tick: self.tick,
            phase: self.phase,
            logits: self.logits?.0,
            resident: self.resident,
            bytes_left: self.bytes_left,
            salience_t: self.salience_t,
            surprise_t: self.surprise_t,
            reward: self.reward,
            spans: self.spans,
        })
    }
}

/// [`Selection`]: a list of experts a row, all weights in a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Of every row, in descending weight.
    pub experts: Vec<Vec<u16>>,
    /// Mixing weights, row by row.
    pub weights: Floats,
    /// Router mass that was denied.
    pub denied_mass: f32,
    /// Whom.
    pub denied: Vec<u16>,
    /// How much of it each.
    pub denied_each: Floats,
    /// Bytes of protected experts beyond the cap.
    pub overrun_bytes: u64,
    /// Sum of the rows' router entropies, normalised.
    pub entropy_sum: f32,
    /// The same over each span.
    #[serde(skip_serializing_if = "Floats::is_empty", default)]
    pub span_entropy_sums: Floats,
}

impl Choice {
    /// Of a router's answer.
    pub fn of(selection: &Selection) -> Self {
        let row = |row| selection.row(row).iter().map(|chosen| chosen.expert);
        let weight = |chosen: &Chosen| chosen.weight;
        Self {
            experts: (0..selection.rows()).map(|at| row(at).collect()).collect(),
            weights: Floats(selection.chosen.iter().map(weight).collect()),
            denied_mass: selection.denied_mass,
            denied: selection.denied.clone(),
            denied_each: Floats(selection.denied_each.clone()),
            overrun_bytes: selection.overrun_bytes,
            entropy_sum: selection.entropy_sum,
            span_entropy_sums: Floats(selection.span_entropy_sums.clone()),
        }
    }
}

/// [`Outcome`], with who worked on its tokens in columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedOutcome {
    /// The tick at which the step began, in the ledger's time.
    pub tick: Tick,
    /// Ticks that it spanned.
    pub ticks: u32,
    /// State in force.
    pub state: State,
    /// Module that the experts are of.
    pub module: Module,
    /// Tokens whose outcome is known.
    pub tokens: Vec<RecordedToken>,
    /// Who worked on them, token after token.
    pub worked: Workers,
    /// Router mass that experts were denied.
    pub denied: Workers,
    /// Feedback.
    pub feedback: Option<f32>,
    /// What came of denying experts to recorded tokens.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub scored: Vec<Scored>,
}

/// What came of a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedToken {
    /// Read or generated.
    pub origin: TokenOrigin,
    /// Loss, or entropy.
    pub error: f32,
    /// Entropy of the prediction.
    pub entropy: f32,
    /// How many of the workers are its own.
    pub workers: usize,
}

/// Columns of experts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// Layer of each.
    pub layer: Vec<u16>,
    /// Which.
    pub expert: Vec<u16>,
    /// Mixing weight, or mass.
    pub gate: Floats,
}

impl Workers {
    fn of<'a>(worked: impl Iterator<Item = &'a Worked>) -> Self {
        let mut columns = Self::default();
        for worked in worked {
            columns.layer.push(worked.layer);
            columns.expert.push(worked.expert);
            columns.gate.0.push(worked.gate);
        }
        columns
    }

    fn rows(self) -> impl Iterator<Item = Worked> {
        let columns = self.layer.into_iter().zip(self.expert);
        let rows = columns.zip(self.gate.0);
        rows.map(|((layer, expert), gate)| Worked {
            layer,
            expert,
            gate,
        })
    }
}

impl RecordedOutcome {
    /// Of what the ledger was told.
    pub fn of(outcome: &Outcome) -> Self {
        let token = |token: &TokenOutcome| RecordedToken {
            origin: token.origin,
            error: token.error,
            entropy: token.entropy,
            workers: token.worked.len(),
        };
        Self {
            tick: outcome.tick,
            ticks: outcome.ticks,
            state: outcome.state,
            module: outcome.module,
            tokens: outcome.tokens.iter().map(token).collect(),
            worked: Workers::of(outcome.tokens.iter().flat_map(|token| &token.worked)),
            denied: Workers::of(outcome.denied.iter()),
            feedback: outcome.feedback,
            scored: outcome.scored.clone(),
        }
    }

    /// What the ledger was told.
    pub fn outcome(self) -> Outcome {
        let mut workers = self.worked.rows();
        let tokens = self.tokens.into_iter().map(|token| TokenOutcome {
            origin: token.origin,
            error: token.error,
            entropy: token.entropy,
            worked: workers.by_ref().take(token.workers).collect(),
        });
        Outcome {
            tick: self.tick,
            ticks: self.ticks,
            state: self.state,
            module: self.module,
            tokens: tokens.collect(),
            denied: self.denied.rows().collect(),
            feedback: self.feedback,
            scored: self.scored,
        }
    }
}

impl TraceRecord {
    /// What a lease came to; slots are left out, because reading ahead moves them and no decision sees them.
    pub fn lease(asked: &LeaseRequest, lease: &Lease) -> Self {
        let missed = lease.experts.iter().filter(|expert| !expert.hit);
        TraceRecord::Lease {
            asked: asked.clone(),
            missed: missed.map(|expert| expert.expert).collect(),
            miss_bytes: lease.miss_bytes,
            next: lease.next.clone(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            TraceRecord::Input { .. } => "input",
            TraceRecord::Cut { .. } => "cut",
            TraceRecord::GivenUp { .. } => "given_up",
            TraceRecord::Salience { .. } => "salience",
            TraceRecord::State { .. } => "state",
            TraceRecord::Apply { .. } => "apply",
            TraceRecord::Route { .. } => "route",
            TraceRecord::Lease { .. } => "lease",
            TraceRecord::Learn(_) => "learn",
            TraceRecord::Propose { .. } => "propose",
            TraceRecord::Habit { .. } => "habit",
            TraceRecord::Domain { .. } => "domain",
            TraceRecord::Consolidate { .. } => "consolidate",
            TraceRecord::Prune { .. } => "prune",
            TraceRecord::Remember { .. } => "remember",
            TraceRecord::Condense { .. } => "condense",
            TraceRecord::Recall { .. } => "recall",
            TraceRecord::ForgetSegments {} => "forget_segments",
            TraceRecord::Event { .. } => "event",
            TraceRecord::Host { .. } => "host",
            TraceRecord::End { .. } => "end",
        }
    }
}
