//! What a mind is configured with: the model's shape, policies, budgets of the six states, thresholds.
//!
//! Everything has a default, and `config/default.toml` states the same defaults under `[mind]` with comments.
//! The body fills in what depends on the model and the machine: `modules` and `pool_bytes`.

mod eviction;
mod mechanism;
mod memory;
mod named;
mod names;
mod numbers;
mod salience;
mod shapes;
mod sizes;
mod transitions;
mod validate;

use std::ops::Index;

use serde::{Deserialize, Serialize};

use crate::protocol::{ExpertKey, Module, State};
pub use eviction::EvictionPolicy;
pub use mechanism::Mechanism;
pub use memory::{MemoryConfig, Retention};
pub use named::{Named, UnknownName};
pub use numbers::{Bound, Number, ThresholdGap};
pub use salience::SalienceConfig;
pub use shapes::{ExpertRun, ModuleShape, TowerShape};
pub(crate) use sizes::ExpertSizes;
pub use transitions::Transitions;
pub use validate::ConfigError;

/// Which towers a state lets have a share of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TowerPolicy {
    /// None.
    #[default]
    None,
    /// Those of which something was perceived lately.
    InUse,
    /// All that there are.
    All,
}

/// How routers choose experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutingPolicy {
    /// Top-k of the logits; no byte cap. The oracle of every comparison.
    Exact,
    /// A weighted sum of logit, novelty, trust and affinity.
    Sage,
    /// The first experts are protected, the others are biased by residency and salience.
    #[default]
    Salient,
}

/// What one metabolic state may use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateBudget {
    /// Experts a token, as a multiple of the trained k (the talker takes at most 1).
    pub f: f64,
    /// Of these, the share for a token of the thinker that is read and not written, in (0, 1].
    #[serde(default = "StateBudget::whole")]
    pub reading_share: f64,
    /// Share of the pool P for the demand pool, in [0, 1].
    pub expert_memory: f64,
    /// Router mass at which a token has experts enough, as a share of what its k best have, in (0, 1]; 1: always k.
    #[serde(default = "StateBudget::whole_mass")]
    pub router_mass: f32,
    /// Bytes a decoded token may miss, as a share of an exact token's expert bytes; 0: no cap.
    pub miss_bytes_per_token: f64,
    /// Residency bias λ of the routers, in [0, 1].
    pub residency_bias: f32,
    /// Salience bias β of the routers, in [0, 1].
    pub salience_bias: f32,
    /// Weight of affinity in the routers, in [0, 1].
    pub focus_weight: f32,
    /// Whether k experts of the next layer are prefetched.
    pub lookahead: bool,
    /// Whether the talker is awake, where the model has one. The thinker always is.
    pub talker: bool,
    /// Which towers are awake, where the model has them.
    pub towers: TowerPolicy,
}

impl StateBudget {
    /// The mass of all k experts.
    fn whole_mass() -> f32 {
        1.0
    }

    /// As many experts in reading.
    fn whole() -> f64 {
        1.0
    }
}

/// The budgets of the six states.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Of [`State::Wake`].
    pub wake: StateBudget,
    /// Of [`State::Focus`].
    pub focus: StateBudget,
    /// Of [`State::Rest`].
    pub rest: StateBudget,
    /// Of [`State::Dream`].
    pub dream: StateBudget,
    /// Of [`State::Threat`].
    pub threat: StateBudget,
    /// Of [`State::Depletion`].
    pub depletion: StateBudget,
}

impl Index<State> for Budgets {
    type Output = StateBudget;

    fn index(&self, state: State) -> &StateBudget {
        match state {
            State::Wake => &self.wake,
            State::Focus => &self.focus,
            State::Rest => &self.rest,
            State::Dream => &self.dream,
            State::Threat => &self.threat,
            State::Depletion => &self.depletion,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        let row = |f, expert_memory, miss, (lambda, beta, focus), lookahead, (talker, towers)| {
            StateBudget {
                f,
                reading_share: 1.0,
                expert_memory,
                router_mass: 1.0,
                miss_bytes_per_token: miss,
                residency_bias: lambda,
                salience_bias: beta,
                focus_weight: focus,
                lookahead,
                talker,
                towers,
            }
        };
        use TowerPolicy::{All, InUse, None};
        Self {
            wake: row(0.5, 0.5, 0.5, (0.10, 0.05, 0.5), false, (true, None)),
            focus: row(1.0, 0.85, 0.0, (0.03, 0.02, 1.0), true, (true, InUse)),
            rest: row(0.5, 0.3, 0.25, (0.15, 0.0, 0.0), false, (false, None)),
            dream: row(1.0, 0.5, 0.0, (0.0, 0.0, 0.0), false, (false, None)),
            threat: row(2.0, 1.0, 0.0, (0.0, 0.0, 1.0), true, (true, All)),
            depletion: row(0.25, 0.2, 0.125, (0.15, 0.0, 0.0), false, (true, None)),
        }
    }
}

/// The energy buckets and the drive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnergyConfig {
    /// Capacity of the compute and of the I/O bucket, units of one exact token.
    pub capacity_units: f64,
    /// Refill of each bucket, units a tick.
    pub refill_units_per_tick: f64,
    /// Weight of the newest value in the drive's moving average, a tick.
    pub drive_rate: f32,
    /// Weights of surprise, novelty, arousal and conflict in the drive.
    pub drive_weights: [f32; 4],
    /// Weight of |2·reward − 1| in the drive.
    pub drive_reward_weight: f32,
}

impl Default for EnergyConfig {
    fn default() -> Self {
        Self {
            capacity_units: 256.0,
            refill_units_per_tick: 0.75,
            drive_rate: 0.3,
            drive_weights: [0.8, 0.5, 0.7, 0.5],
            drive_reward_weight: 0.4,
        }
    }
}

/// The whole configuration of a mind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MindConfig {
    /// Sparse modules of the model, the thinker first. From the checkpoint.
    pub modules: Vec<ModuleShape>,
    /// Its towers, where something will be heard or seen. From the checkpoint.
    pub towers: Vec<TowerShape>,
    /// The pool P at the start, bytes. From the limit and what is always resident.
    pub pool_bytes: u64,
    /// How routers choose.
    pub routing: RoutingPolicy,
    /// How the demand pool makes room.
    pub eviction: EvictionPolicy,
    /// Experts of one lease at most (a k above it raises it), and of the room that the floor reserves.
    pub window_experts: u16,
    /// Share of P kept for speculative reads, in [0, 1).
    pub speculation_share: f64,
    /// Budgets of the states.
    pub budgets: Budgets,
    /// When states change.
    pub transitions: Transitions,
    /// Energy and drive.
    pub energy: EnergyConfig,
    /// What is measured of the moment.
    #[serde(default = "SalienceConfig::unsaid")]
    pub salience: SalienceConfig,
    /// What is remembered of what was read. Off in recordings that say nothing of it.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// Stay in Focus with exactly these budgets: no transition, every step allowed, no answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<StateBudget>,
    /// With `hold`: stay in this state instead of Focus, so that trust and affinity are kept as in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_state: Option<State>,
    /// Experts that a partial store does not have: never chosen, and counted as denied where the router wanted them.
    /// The exact policy knows no such exception. From the store.
    #[serde(skip)]
    pub absent: Vec<ExpertKey>,
}

impl Default for MindConfig {
    fn default() -> Self {
        Self {
            modules: Vec::new(),
            towers: Vec::new(),
            pool_bytes: 0,
            routing: RoutingPolicy::default(),
            eviction: EvictionPolicy::default(),
            window_experts: 8,
            speculation_share: 0.05,
            budgets: Budgets::default(),
            transitions: Transitions::default(),
            energy: EnergyConfig::default(),
            salience: SalienceConfig::default(),
            memory: MemoryConfig::default(),
            hold: None,
            hold_state: None,
            absent: Vec::new(),
        }
    }
}

impl MindConfig {
    /// Whether a mind that runs under it can go on under `other`: they differ in nothing but budgets, thresholds, energy and
    /// the numbers of salience and memory.
    pub fn changes_only_numbers(&self, other: &Self) -> bool {
        self.with_numbers_of(other) == *other
    }

    /// This configuration with budgets, thresholds, energy and the numbers of salience and memory of `other`.
    #[must_use]
    pub fn with_numbers_of(&self, other: &Self) -> Self {
        Self {
            budgets: other.budgets,
            transitions: other.transitions,
            energy: other.energy,
            salience: other.salience,
            memory: other.memory,
            ..self.clone()
        }
    }

    /// The shape of a module, if the model has it.
    pub fn shape(&self, module: Module) -> Option<&ModuleShape> {
        self.modules.iter().find(|shape| shape.module == module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Modality;

    #[derive(Deserialize)]
    struct File {
        mind: MindConfig,
    }

    #[test]
    fn the_default_file_states_the_defaults() {
        let text = include_str!("../../../config/default.toml");
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(file.mind, MindConfig::default());
        // Not merely absent: every key that a user may set is written down.
        let written: toml::Table = toml::from_str(text).unwrap();
        let defaults = toml::Table::try_from(MindConfig::default()).unwrap();
        let mut mind = written["mind"].as_table().unwrap().clone();
        mind.insert("modules".into(), defaults["modules"].clone());
        mind.insert("towers".into(), defaults["towers"].clone());
        mind.insert("pool_bytes".into(), defaults["pool_bytes"].clone());
        assert_eq!(keys("", &mind), keys("", &defaults));
    }

    fn keys(at: &str, table: &toml::Table) -> Vec<String> {
        let mut all: Vec<String> = table
            .iter()
            .flat_map(|(key, value)| match value.as_table() {
                Some(inner) => keys(&format!("{at}.{key}"), inner),
                None => vec![format!("{at}.{key}")],
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn eviction_policies_have_names() {
        let read = |text: &str| toml::from_str::<MindConfig>(text).map(|config| config.eviction);
        for (name, policy) in [
            ("lru", EvictionPolicy::Lru),
            ("lfu", EvictionPolicy::Lfu),
            ("trust", EvictionPolicy::Trust),
        ] {
            assert_eq!(read(&format!("eviction = \"{name}\"")), Ok(policy));
        }
        let horizon = read("eviction = { horizon = { half_life_tokens = 12.0 } }");
        assert_eq!(horizon, Ok(EvictionPolicy::default()));
        assert!(read("eviction = \"belady\"").is_err());
    }

    #[test]
    fn what_fits_of_a_tower_is_its_beginning() {
        let tower = TowerShape {
            modality: Modality::Audio,
            piece_bytes: vec![10, 20, 5],
        };
        assert_eq!((tower.bytes(), tower.largest_piece_bytes()), (35, 20));
        // A later piece that would fit does not take the place of one before it.
        for (bytes, pieces) in [
            (0, 0),
            (9, 0),
            (10, 1),
            (29, 1),
            (30, 2),
            (34, 2),
            (35, 3),
            (u64::MAX, 3),
        ] {
            assert_eq!(tower.pieces_within(bytes), pieces, "{bytes}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<MindConfig>("windows = 3").is_err());
        assert!(toml::from_str::<MindConfig>("[transitions]\ndwell = 3").is_err());
    }
}
