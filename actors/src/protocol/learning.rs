//! What the trust ledger learns from, and what it believes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::consolidation::Scored;
use super::ids::{LayerKey, Module, State, Tick, TokenOrigin};

/// One expert's part in one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worked {
    /// Layer index in the checkpoint.
    pub layer: u16,
    /// Number of the expert in its layer.
    pub expert: u16,
    /// Mixing weight of the expert in that token's layer.
    pub gate: f32,
}

/// What came of one token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenOutcome {
    /// Read, generated or perceived.
    pub origin: TokenOrigin,
    /// Loss of the token that followed (observed), or entropy of the prediction (generated), nats; 0 of what is perceived, which is
    /// not judged.
    pub error: f32,
    /// Entropy of the prediction, nats: which decile the token is compared in; 0 of what is perceived.
    pub entropy: f32,
    /// Who worked on it.
    pub worked: Vec<Worked>,
}

/// End of a step: what the ledger learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The tick at which the step began.
    pub tick: Tick,
    /// Ticks that the step spanned.
    pub ticks: u32,
    /// State in force.
    pub state: State,
    /// Module that the experts are of.
    pub module: Module,
    /// Tokens whose outcome is known.
    pub tokens: Vec<TokenOutcome>,
    /// Router mass that experts were denied: (layer, expert, mass).
    pub denied: Vec<Worked>,
    /// Feedback on the turn that ended, in [-1, 1].
    pub feedback: Option<f32>,
    /// What came of denying experts to recorded tokens; in any order, an expert may stand there more than once.
    pub scored: Vec<Scored>,
}

/// What the ledger believes of the experts of every module, as routers and the cache read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrustView {
    /// One entry a sparse layer; shared, so that a new view copies only the layers that changed.
    #[serde(with = "shared_layers")]
    pub layers: BTreeMap<LayerKey, Arc<LayerTrust>>,
}

/// Trust of one layer's experts; every vector has `experts` entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerTrust {
    /// 0.4 convergence + 0.3 stability + 0.3 efficiency, in [0, 1].
    pub trust: Vec<f32>,
    /// How useful it is, in [0, 1].
    pub convergence: Vec<f32>,
    /// How steady its mixing weight is, in [0, 1].
    pub stability: Vec<f32>,
    /// Decayed count of tokens that used the expert.
    pub visits: Vec<f32>,
    /// Smoothed share of successes, one vector a state in the order of [`State::ALL`].
    pub affinity: Vec<Vec<f32>>,
}

impl LayerTrust {
    /// What is believed of experts that never worked.
    pub fn prior(experts: u16) -> Self {
        let all = |value| vec![value; usize::from(experts)];
        Self {
            trust: all(0.5),
            convergence: all(0.5),
            stability: all(0.5),
            visits: all(0.0),
            affinity: vec![all(0.5); State::ALL.len()],
        }
    }
}

/// Layers are written as (key, layer) pairs, so that formats without structured keys can hold them.
mod shared_layers {
    use super::{Arc, BTreeMap, Deserialize, LayerKey, LayerTrust};

    type Layers = BTreeMap<LayerKey, Arc<LayerTrust>>;

    pub fn serialize<S: serde::Serializer>(
        layers: &Layers,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(layers.iter().map(|(key, layer)| (key, &**layer)))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Layers, D::Error> {
        let pairs = Vec::<(LayerKey, LayerTrust)>::deserialize(deserializer)?;
        Ok(pairs
            .into_iter()
            .map(|(key, layer)| (key, Arc::new(layer)))
            .collect())
    }
}

/// A shared, immutable view.
pub type TrustSnapshot = Arc<TrustView>;
