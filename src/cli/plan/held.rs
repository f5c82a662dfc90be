//! The mind of an exact run, as far as it divides the pool.

use sage_actors::cache::{CycleCliff, state_cliffs};
use sage_actors::config::{MindConfig, ModuleShape};
use sage_actors::protocol::Module;

use crate::core::MemoryPlan;

/// A mind that is held, with the thinker's experts.
pub(super) struct HeldMind {
    pub mind: MindConfig,
    pub shape: ModuleShape,
    pub window_experts: usize,
}

impl HeldMind {
    /// How a pool of so many bytes holds a token's experts.
    fn cliff(&self, pool_bytes: u64) -> CycleCliff {
        let mind = MindConfig {
            modules: vec![self.shape.clone()],
            window_experts: self.window_experts as u16,
            pool_bytes,
            ..self.mind.clone()
        };
        let cliffs = state_cliffs(&mind).into_iter();
        let mut thinkers = cliffs.filter(|found| found.module == Module::Thinker);
        thinkers.next().map(|found| found.cliff).unwrap_or_default()
    }

    /// Bytes of the experts that a pool holds, the lease window's among them.
    pub fn capacity_bytes(&self, pool_bytes: u64) -> u64 {
        self.cliff(pool_bytes).capacity_experts * self.shape.expert_bytes
    }

    /// The least limit at which all experts of one token stay, those of the lease window that the floor has counted among them.
    /// None where no limit below everything does it: a part of every pool is kept for what is read ahead.
    pub fn cliff_bytes(&self, memory: &MemoryPlan) -> Option<u64> {
        let pool = self.least_pool(memory, |cliff| !cliff.is_below())?;
        Some(memory.floor.total() + pool)
    }

    /// The greatest limit at which a least-recently-used cache finds no expert of a token again: that is where the other layers'
    /// experts fill it, a layer's experts below the cliff. None where it finds some at the floor.
    pub fn lru_hits_nothing_up_to_bytes(&self, memory: &MemoryPlan) -> Option<u64> {
        let pool = self.least_pool(memory, |cliff| !cliff.lru_hits_nothing());
        let pool = pool
            .unwrap_or_else(|| experts_bytes(memory))
            .checked_sub(1)?;
        Some(memory.floor.total() + pool)
    }

    /// The least pool, of all experts at most, that is `enough`.
    fn least_pool(&self, memory: &MemoryPlan, enough: impl Fn(&CycleCliff) -> bool) -> Option<u64> {
        let (mut little, mut much) = (0, experts_bytes(memory));
        if !enough(&self.cliff(much)) {
            return None;
        }
        // `much` is enough; what is below `little` is not.
        while little < much {
            let middle = little + (much - little) / 2;
            match enough(&self.cliff(middle)) {
                true => much = middle,
                false => little = middle + 1,
            }
        }
        Some(much)
    }
}

/// Of everything beside the floor.
fn experts_bytes(memory: &MemoryPlan) -> u64 {
    memory.everything_bytes() - memory.floor.total()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::Floor;
    use crate::session::exact::EXACT;

    const EXPERT: u64 = 1000;

    fn held(layers: u16, experts: u16, k: u16) -> (HeldMind, MemoryPlan) {
        let held = HeldMind {
            mind: MindConfig {
                hold: Some(EXACT),
                ..MindConfig::default()
            },
            shape: ModuleShape {
                module: Module::Thinker,
                layers: (0..layers).collect(),
                experts,
                k_trained: k,
                norm_topk_prob: true,
                expert_bytes: EXPERT,
                smaller: Vec::new(),
            },
            window_experts: usize::from(k),
        };
        let memory = MemoryPlan {
            limit_bytes: None,
            floor: Floor {
                base_bytes: 5000,
                window_bytes: u64::from(k) * EXPERT,
                ..Floor::default()
            },
            pool_bytes: 0,
            all_experts_bytes: u64::from(layers) * u64::from(experts) * EXPERT,
            towers_bytes: 0,
            slot_bytes: EXPERT,
            context_tokens: 1,
        };
        (held, memory)
    }

    /// The window of the floor counts: a token of 48 layers with 8 experts needs 376 more. A layer's 8 below, LRU finds none.
    #[test]
    fn the_cliff_is_where_a_tokens_experts_fit_and_lru_begins_a_layer_below() {
        let (held, memory) = held(48, 128, 8);
        let at = |limit: u64| held.cliff(limit - memory.floor.total());
        let cliff = held.cliff_bytes(&memory).unwrap();
        assert!(!at(cliff).is_below() && at(cliff - 1).is_below());
        let share = 1.0 - held.mind.speculation_share;
        let pool = (cliff - memory.floor.total()) as f64 * share;
        assert!((pool / EXPERT as f64 - 376.0).abs() < 0.01, "{pool}");
        let nothing = held.lru_hits_nothing_up_to_bytes(&memory).unwrap();
        assert!(at(nothing).lru_hits_nothing() && !at(nothing + 1).lru_hits_nothing());
        assert!(nothing < cliff && nothing > cliff - 8 * EXPERT * 2);
    }

    #[test]
    fn a_cliff_beyond_everything_is_none() {
        // Every token uses every expert: with a part of the pool kept apart no limit below everything has room for all.
        let (held, memory) = held(48, 8, 8);
        assert_eq!(held.cliff_bytes(&memory), None);
        let (one_layer, memory) = self::held(1, 8, 8);
        assert_eq!(
            one_layer.cliff_bytes(&memory),
            Some(memory.floor.total()),
            "its window has room for all"
        );
        assert_eq!(one_layer.lru_hits_nothing_up_to_bytes(&memory), None);
    }
}
