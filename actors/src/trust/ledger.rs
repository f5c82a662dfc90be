//! The ledger itself: what it learns, and what it shows.

use std::sync::Arc;

use super::deciles::Deciles;
use super::record::TrustRecord;
use crate::config::ModuleShape;
use crate::protocol::{
    ExpertKey, LayerKey, LayerTrust, Module, Outcome, State, Tick, TokenOrigin, TrustSnapshot,
    TrustView, Worked,
};

/// Why the ledger refuses an outcome. Nothing has changed when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The model has no such module.
    #[error("no module {0:?}")]
    UnknownModule(Module),
    /// The model has no such expert.
    #[error("no expert {0:?}")]
    UnknownExpert(ExpertKey),
    /// An error, entropy, gate, feedback or loss increase is not finite.
    #[error("an outcome that is not a number")]
    NotFinite,
}

/// One record as reports show it. All but counts are in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertTrust {
    /// Usefulness, by what its tokens lose without it and by feedback; 0.5 is the prior.
    pub convergence: f64,
    /// How steady its mixing weight is.
    pub stability: f64,
    /// (successes + 1) / (activations + 2).
    pub efficiency: f64,
    /// Decayed count of judged tokens that used it.
    pub activations: f64,
    /// Decayed count of those that went better than tokens as hard, while it was stable.
    pub successes: f64,
    /// Decayed count of tokens that used it.
    pub visits: f64,
    /// Tick of the last step that used it.
    pub last_used: Option<Tick>,
    /// Share of successes in each state, in the order of [`State::ALL`].
    pub affinity: [f64; 6],
    /// Decayed router mass that it was denied.
    pub regret: f64,
    /// 0.4 convergence + 0.3 stability + 0.3 efficiency.
    pub trust: f64,
}

#[derive(Clone, Debug)]
pub(super) struct ModuleLedger {
    pub(super) module: Module,
    pub(super) layers: Vec<u16>,
    pub(super) experts: usize,
    pub(super) records: Vec<TrustRecord>,
    pub(super) views: Vec<Arc<LayerTrust>>,
    /// Half-lives passed since the start.
    pub(super) clock: f64,
    /// The layer that is brought up to date next.
    pub(super) refresh: usize,
}

/// The trust ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) modules: Vec<ModuleLedger>,
    pub(super) observed: Deciles,
    pub(super) generated: Deciles,
    pub(super) view: Option<TrustSnapshot>,
}

/// Ticks after which what was learned counts half; none: nothing is forgotten in this state.
pub fn half_life_ticks(state: State) -> Option<f64> {
    match state {
        State::Wake | State::Focus => Some(50_000.0),
        State::Dream => Some(5_000.0),
        State::Rest | State::Threat | State::Depletion => None,
    }
}

impl Ledger {
    /// A ledger of priors.
    pub fn new(shapes: &[ModuleShape]) -> Self {
        let modules = shapes
            .iter()
            .map(|shape| ModuleLedger {
                module: shape.module,
                layers: shape.layers.clone(),
                experts: usize::from(shape.experts),
                records: vec![
                    TrustRecord::default();
                    shape.layers.len() * usize::from(shape.experts)
                ],
                views: shape
                    .keys()
                    .map(|_| Arc::new(LayerTrust::prior(shape.experts)))
                    .collect(),
                clock: 0.0,
                refresh: 0,
            })
            .collect();
        Self {
            modules,
            observed: Deciles::new(),
            generated: Deciles::new(),
            view: None,
        }
    }

    /// What is believed now. Shares every layer with the ledger until the layer changes.
    pub fn snapshot(&mut self) -> TrustSnapshot {
        let modules = &self.modules;
        let view = self.view.get_or_insert_with(|| {
            let entries = modules.iter().flat_map(|ledger| {
                let keys = ledger.layers.iter().map(|layer| LayerKey {
                    module: ledger.module,
                    layer: *layer,
                });
                keys.zip(ledger.views.iter().map(Arc::clone))
            });
            Arc::new(TrustView {
                layers: entries.collect(),
            })
        });
        Arc::clone(view)
    }

    /// Learns from a step.
    ///
    /// # Errors
    /// An unknown module or expert, or a number that is not finite.
    pub fn learn(&mut self, outcome: &Outcome) -> Result<(), TrustError> {
        let unknown = TrustError::UnknownModule(outcome.module);
        let ledger = self
            .modules
            .iter_mut()
            .find(|ledger| ledger.module == outcome.module)
            .ok_or(unknown)?;
        ledger.check(outcome)?;
        if let Some(half_life) = half_life_ticks(outcome.state) {
            ledger.clock += f64::from(outcome.ticks) / half_life;
        }
        let mut touched = Vec::new();
        for token in &outcome.tokens {
            let deciles = match token.origin {
                TokenOrigin::Observed => Some(&mut self.observed),
                TokenOrigin::Generated => Some(&mut self.generated),
                TokenOrigin::Perceived => None,
            };
            let (error, entropy) = (f64::from(token.error), f64::from(token.entropy));
            let d = deciles.and_then(|deciles| {
                let d = deciles.score(error, entropy);
                deciles.push(error, entropy);
                d
            });
            for worked in &token.worked {
                let index = ledger.index(worked)?;
                let clock = ledger.clock;
                let record = &mut ledger.records[index];
                record.decay(clock);
                record.worked(f64::from(worked.gate), d, outcome.state, outcome.tick);
                touched.push(index);
            }
        }
        for denied in &outcome.denied {
            let index = ledger.index(denied)?;
            let clock = ledger.clock;
            let record = &mut ledger.records[index];
            record.decay(clock);
            record.regret += f64::from(denied.gate);
        }
        if let Some(feedback) = outcome.feedback {
            ledger.feedback(f64::from(feedback.clamp(-1.0, 1.0)), &mut touched);
        }
        ledger.score(&outcome.scored, &mut touched)?;
        ledger.publish(touched);
        self.view = None;
        Ok(())
    }

    pub(super) fn module(&self, module: Module) -> Result<&ModuleLedger, TrustError> {
        let found = self.modules.iter().find(|ledger| ledger.module == module);
        found.ok_or(TrustError::UnknownModule(module))
    }

    /// The record of one expert, as of its last update.
    pub fn record(&self, key: ExpertKey) -> Option<ExpertTrust> {
        let ledger = self.module(key.layer.module).ok()?;
        let worked = Worked {
            layer: key.layer.layer,
            expert: key.expert,
            gate: 0.0,
        };
        let record = ledger.records.get(ledger.index(&worked).ok()?)?;
        Some(record.shown())
    }
}

impl TrustRecord {
    /// As reports show it.
    pub(super) fn shown(&self) -> ExpertTrust {
        ExpertTrust {
            convergence: self.convergence,
            stability: self.stability,
            efficiency: self.judged.share(),
            activations: self.judged.trials,
            successes: self.judged.successes,
            visits: self.visits,
            last_used: self.last_used,
            affinity: self.by_state.map(|tally| tally.share()),
            regret: self.regret,
            trust: self.trust(),
        }
    }
}

impl ModuleLedger {
    pub(super) fn index(&self, worked: &Worked) -> Result<usize, TrustError> {
        let layer = LayerKey {
            module: self.module,
            layer: worked.layer,
        };
        let unknown = TrustError::UnknownExpert(ExpertKey {
            layer,
            expert: worked.expert,
        });
        let rank = self
            .layers
            .binary_search(&worked.layer)
            .map_err(|_| unknown)?;
        let expert = usize::from(worked.expert);
        if expert < self.experts {
            Ok(rank * self.experts + expert)
        } else {
            Err(unknown)
        }
    }

    pub(super) fn check(&self, outcome: &Outcome) -> Result<(), TrustError> {
        let numbers = outcome
            .tokens
            .iter()
            .flat_map(|token| [token.error, token.entropy]);
        if !numbers.chain(outcome.feedback).all(f32::is_finite) {
            return Err(TrustError::NotFinite);
        }
        for worked in outcome
            .tokens
            .iter()
            .flat_map(|token| &token.worked)
            .chain(&outcome.denied)
        {
            self.index(worked)?;
            if !(worked.gate.is_finite() && worked.gate >= 0.0) {
                return Err(TrustError::NotFinite);
            }
        }
        self.check_scores(&outcome.scored)
    }

    /// Moves convergence by each expert's part in its layer's gate mass since the feedback before.
    pub(super) fn feedback(&mut self, feedback: f64, touched: &mut Vec<usize>) {
        for (rank, layer) in self.records.chunks_exact_mut(self.experts).enumerate() {
            let mass: f64 = layer.iter().map(|record| record.turn_gate).sum();
            if mass <= 0.0 {
                continue;
            }
            for (expert, record) in layer
                .iter_mut()
                .enumerate()
                .filter(|(_, record)| record.turn_gate > 0.0)
            {
                record.decay(self.clock);
                let part = record.turn_gate / mass;
                record.feedback(feedback, part);
                touched.push(rank * self.experts + expert);
            }
        }
    }

    /// Writes the touched experts, and all of the layer whose turn it is, into the layers' views.
    pub(super) fn publish(&mut self, mut touched: Vec<usize>) {
        let start = self.refresh * self.experts;
        for index in start..start + self.experts {
            self.records[index].decay(self.clock);
            touched.push(index);
        }
        self.refresh = (self.refresh + 1) % self.layers.len();
        touched.sort_unstable();
        touched.dedup();
        for layer in touched.chunk_by(|a, b| a / self.experts == b / self.experts) {
            let view = Arc::make_mut(&mut self.views[layer[0] / self.experts]);
            for index in layer {
                show(view, index % self.experts, &self.records[*index]);
            }
        }
    }
}

/// Writes one expert's record into its layer's view.
pub(super) fn show(view: &mut LayerTrust, expert: usize, record: &TrustRecord) {
    view.trust[expert] = record.trust() as f32;
    view.convergence[expert] = record.convergence as f32;
    view.stability[expert] = record.stability as f32;
    view.visits[expert] = record.visits as f32;
    for (affinity, tally) in view.affinity.iter_mut().zip(&record.by_state) {
        affinity[expert] = tally.share() as f32;
    }
}
