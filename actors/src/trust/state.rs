//! Everything that a ledger knows, as plain values: a ledger restored from them goes on as the one would have that they
//! were taken from, bit for bit.
//!
//! Whole structs are written and read, so whatever is added to a record is kept with it; `TrustRecord` is taken apart field
//! by field where values are checked, so that nothing can be added without saying what it may be.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::deciles::Deciles;
use super::ledger::{ExpertTrust, Ledger, ModuleLedger, show};
pub use super::range::OutOfRange;
use super::range::{at_least_0, number, share, within};
use super::record::{Tally, TrustRecord};
use crate::protocol::{ExpertKey, LayerKey, LayerTrust, Module, State};

/// Everything that a ledger knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerState {
    /// What errors are compared with.
    pub baselines: Baselines,
    /// One entry a module.
    pub modules: Vec<ModuleState>,
}

/// What the errors of tokens are compared with, by origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    /// Of tokens read.
    pub observed: KeptBaseline,
    /// Of the model's own tokens.
    pub generated: KeptBaseline,
}

/// One origin's baseline; whole, and of no meaning to anyone but the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Deciles", into = "Deciles")]
pub struct KeptBaseline(Deciles);

/// What a module's records have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleHead {
    /// Which.
    pub module: Module,
    /// Its sparse layers, strictly ascending.
    pub layers: Vec<u16>,
    /// Experts a layer.
    pub experts: u16,
    /// Half-lives passed since the start.
    pub clock: f64,
    /// Rank of the layer that is brought up to date next.
    pub refresh: u32,
}

/// A module's records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleState {
    /// What they have in common.
    pub head: ModuleHead,
    /// In the order of [`ModuleHead::keys`].
    pub records: Vec<KeptRecord>,
}

/// One record; whole, and of no meaning to anyone but the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TrustRecord", into = "TrustRecord")]
pub struct KeptRecord(TrustRecord);

impl KeptRecord {
    /// As reports show it.
    pub fn shown(&self) -> ExpertTrust {
        self.0.shown()
    }
}

impl ModuleHead {
    /// Every expert, layer by layer.
    pub fn keys(&self) -> impl Iterator<Item = ExpertKey> + '_ {
        self.layers.iter().flat_map(|layer| {
            let layer = LayerKey {
                module: self.module,
                layer: *layer,
            };
            (0..self.experts).map(move |expert| ExpertKey { layer, expert })
        })
    }

    /// Which experts there are, for people: `thinker with 5 layers of 64 experts`.
    pub fn shape(&self) -> String {
        let module = format!("{:?}", self.module).to_lowercase();
        let (layers, experts) = (self.layers.len(), self.experts);
        format!("{module} with {layers} layers of {experts} experts")
    }

    /// Whether it is of the same experts.
    pub fn is_of(&self, other: &ModuleHead) -> bool {
        (self.module, &self.layers, self.experts) == (other.module, &other.layers, other.experts)
    }

    fn check(&self) -> Result<(), OutOfRange> {
        at_least_0("clock", self.clock)?;
        if !self.layers.is_sorted_by(|a, b| a < b) {
            return Err(OutOfRange::new("layers", "unsorted", "strictly ascending"));
        }
        within("experts", u64::from(self.experts), 1..=u64::from(u16::MAX))?;
        let layers = self.layers.len() as u64;
        within("layers", layers, 1..=u64::from(u16::MAX))?;
        within("refresh", u64::from(self.refresh), 0..=layers - 1)
    }
}

impl LedgerState {
    /// Whether it is of the same experts as another.
    pub fn is_of(&self, other: &LedgerState) -> bool {
        let (ours, theirs) = (&self.modules, &other.modules);
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.head.is_of(&b.head))
    }

    /// Which experts there are, for people.
    pub fn shape(&self) -> String {
        let shapes = self.modules.iter().map(|module| module.head.shape());
        shapes.collect::<Vec<_>>().join(", ")
    }

    fn check(&self) -> Result<(), OutOfRange> {
        for (at, module) in self.modules.iter().enumerate() {
            let of = |wrong: OutOfRange| OutOfRange {
                name: format!("modules[{at}].{}", wrong.name),
                ..wrong
            };
            module.head.check().map_err(of)?;
            if self.modules[..at]
                .iter()
                .any(|before| before.head.module == module.head.module)
            {
                let name = format!("{:?}", module.head.module).to_lowercase();
                return Err(of(OutOfRange::new("module", name, "each module once")));
            }
            let expected = module.head.keys().count() as u64;
            let records = module.records.len() as u64;
            within("records", records, expected..=expected).map_err(of)?;
            for (record, key) in module.records.iter().zip(module.head.keys()) {
                if record.0.clock > module.head.clock {
                    let name = format!("clock of layer {} expert {}", key.layer.layer, key.expert);
                    let most = format!("at most the module's {}", module.head.clock);
                    return Err(of(OutOfRange::new(name, record.0.clock, most)));
                }
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Everything that it knows.
    pub fn state(&self) -> LedgerState {
        let modules = self.modules.iter().map(|ledger| ModuleState {
            head: ModuleHead {
                module: ledger.module,
                layers: ledger.layers.clone(),
                experts: ledger.experts as u16,
                clock: ledger.clock,
                refresh: ledger.refresh as u32,
            },
            records: ledger.records.iter().copied().map(KeptRecord).collect(),
        });
        LedgerState {
            baselines: Baselines {
                observed: KeptBaseline(self.observed.clone()),
                generated: KeptBaseline(self.generated.clone()),
            },
            modules: modules.collect(),
        }
    }

    /// A ledger that goes on where the one was that `state` was taken from.
    ///
    /// # Errors
    /// Names a value that no ledger can have.
    pub fn restore(state: LedgerState) -> Result<Self, OutOfRange> {
        state.check()?;
        let modules = state
            .modules
            .into_iter()
            .map(|ModuleState { head, records }| {
                let experts = usize::from(head.experts);
                let records: Vec<TrustRecord> =
                    records.into_iter().map(|record| record.0).collect();
                let views = records.chunks_exact(experts).map(|layer| {
                    let mut view = LayerTrust::prior(head.experts);
                    for (expert, record) in layer.iter().enumerate() {
                        show(&mut view, expert, record);
                    }
                    Arc::new(view)
                });
                ModuleLedger {
                    module: head.module,
                    views: views.collect(),
                    layers: head.layers,
                    experts,
                    records,
                    clock: head.clock,
                    refresh: head.refresh as usize,
                }
            });
        Ok(Self {
            modules: modules.collect(),
            observed: state.baselines.observed.0,
            generated: state.baselines.generated.0,
            view: None,
        })
    }
}

impl From<KeptRecord> for TrustRecord {
    fn from(kept: KeptRecord) -> Self {
        kept.0
    }
}

impl TryFrom<TrustRecord> for KeptRecord {
    type Error = OutOfRange;

    fn try_from(record: TrustRecord) -> Result<Self, OutOfRange> {
        let TrustRecord {
            convergence,
            stability,
            gate_mean,
            judged,
            by_state,
            visits,
            regret,
            last_used: _,
            turn_gate,
            evidence,
            clock,
        } = &record;
        share("convergence", *convergence)?;
        share("stability", *stability)?;
        at_least_0("gate_mean", *gate_mean)?;
        tally("judged", judged)?;
        for (state, of_state) in State::ALL.iter().zip(by_state) {
            tally(&format!("by_state of {state:?}"), of_state)?;
        }
        at_least_0("visits", *visits)?;
        at_least_0("regret", *regret)?;
        at_least_0("turn_gate", *turn_gate)?;
        at_least_0("evidence: tokens", evidence.tokens)?;
        number("evidence: increase", evidence.increase)?;
        share("evidence: brought_in", evidence.brought_in)?;
        at_least_0("clock", *clock)?;
        Ok(Self(record))
    }
}

impl From<KeptBaseline> for Deciles {
    fn from(kept: KeptBaseline) -> Self {
        kept.0
    }
}

impl TryFrom<Deciles> for KeptBaseline {
    type Error = OutOfRange;

    fn try_from(deciles: Deciles) -> Result<Self, OutOfRange> {
        deciles.check()?;
        Ok(Self(deciles))
    }
}

fn tally(name: &str, tally: &Tally) -> Result<(), OutOfRange> {
    let Tally { trials, successes } = *tally;
    at_least_0(&format!("{name}: trials"), trials)?;
    at_least_0(&format!("{name}: successes"), successes)?;
    if successes > trials {
        let most = format!("at most its trials, {trials}");
        return Err(OutOfRange::new(
            format!("{name}: successes"),
            successes,
            most,
        ));
    }
    Ok(())
}
