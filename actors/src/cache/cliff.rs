//! The cycle cliff: a pool that holds less than the experts of one token.
//!
//! The layers of a model run in a cycle. Between two turns of a layer the others use (layers − 1) · k experts, all of
//! them more recent than anything that the layer used: a pool that has no room beyond those keeps nothing of it when
//! the least recently used goes first, whatever the tokens are. So a global LRU hits exactly nothing there.

use serde::{Deserialize, Serialize};

use crate::config::MindConfig;
use crate::metabolic::directives::undriven;
use crate::protocol::{Module, State};

/// What one token's experts need of a pool. In experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleCliff {
    /// That the pool holds.
    pub capacity_experts: u64,
    /// That one token uses: layers · k.
    pub token_experts: u64,
    /// Of the k experts of a layer, how many LRU can find at most.
    pub lru_hits_per_layer_most: u64,
}

impl CycleCliff {
    /// The pool holds less than what one token uses.
    pub fn is_below(&self) -> bool {
        self.capacity_experts < self.token_experts
    }

    /// LRU hits nothing, as long as every layer uses k experts.
    pub fn lru_hits_nothing(&self) -> bool {
        self.lru_hits_per_layer_most == 0
    }
}

/// What `layers` sparse layers with `k` experts a token each need of a pool of `capacity` experts.
///
/// A lease pins a layer's experts together, so between (layers − 1) · k and layers · k experts LRU keeps the part of
/// a layer's k that has room; from (layers − 1) · k downward it keeps none.
pub fn cycle_cliff(capacity: u64, layers: u64, k: u64) -> CycleCliff {
    let others = layers.saturating_sub(1).saturating_mul(k);
    CycleCliff {
        capacity_experts: capacity,
        token_experts: layers.saturating_mul(k),
        lru_hits_per_layer_most: capacity.saturating_sub(others).min(k),
    }
}

/// The cliff of one module in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCliff {
    /// The state.
    pub state: State,
    /// The module.
    pub module: Module,
    /// Experts a token and layer.
    pub k: u16,
    /// Of the state's demand pool.
    #[serde(flatten)]
    pub cliff: CycleCliff,
}

/// Every state's demand pool, for each module that is awake in it. Only the held one where a state is held.
pub fn state_cliffs(config: &MindConfig) -> Vec<StateCliff> {
    let budgets = match &config.hold {
        Some(hold) => vec![(State::Focus, hold)],
        None => State::ALL
            .map(|state| (state, &config.budgets[state]))
            .to_vec(),
    };
    let mut cliffs = Vec::new();
    for (state, budget) in budgets {
        for directive in undriven(config, state, budget, config.pool_bytes) {
            let Some(shape) = config.shape(directive.module) else {
                continue;
            };
            let capacity = shape.experts_within(directive.expert_bytes);
            cliffs.push(StateCliff {
                state,
                module: directive.module,
                k: directive.k,
                cliff: cycle_cliff(capacity, shape.layers.len() as u64, u64::from(directive.k)),
            });
        }
    }
    cliffs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModuleShape;

    #[test]
    fn the_cliff_is_where_the_other_layers_fill_the_pool() {
        let at = |capacity| cycle_cliff(capacity, 48, 8);
        assert_eq!(at(376).token_experts, 384);
        assert!(at(376).lru_hits_nothing() && at(376).is_below());
        assert_eq!(at(379).lru_hits_per_layer_most, 3);
        assert!(!at(379).lru_hits_nothing() && at(379).is_below());
        assert_eq!(at(384).lru_hits_per_layer_most, 8);
        assert!(!at(384).is_below() && !at(9999).is_below());
        assert_eq!(at(9999).lru_hits_per_layer_most, 8);
        // A single layer's window always fits.
        assert!(!cycle_cliff(8, 1, 8).is_below());
    }

    #[test]
    fn every_state_is_held_against_its_own_pool_and_k() {
        let config = MindConfig {
            modules: vec![ModuleShape {
                module: Module::Thinker,
                layers: (0..48).collect(),
                experts: 128,
                k_trained: 8,
                norm_topk_prob: true,
                expert_bytes: 100,
                smaller: Vec::new(),
            }],
            pool_bytes: 300 * 100,
            window_experts: 16,
            ..MindConfig::default()
        };
        let cliffs = state_cliffs(&config);
        assert_eq!(cliffs.len(), 6);
        // 16 of the window, and a share of 95 % of 300: 0.5, 0.85, 0.3, 0.5, 1, 0.2.
        let held: Vec<_> = cliffs
            .iter()
            .map(|c| (c.k, c.cliff.capacity_experts, c.cliff.token_experts))
            .collect();
        assert_eq!(
            held,
            [
                (4, 158, 192),
                (8, 258, 384),
                (4, 101, 192),
                (8, 158, 384),
                (16, 301, 768),
                (2, 73, 96)
            ]
        );
        assert!(cliffs.iter().all(|c| c.cliff.lru_hits_nothing()));
        let hold = Some(config.budgets.focus);
        let held = state_cliffs(&MindConfig { hold, ..config });
        assert_eq!((held.len(), held[0].state), (1, State::Focus));
    }
}
