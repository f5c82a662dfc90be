//! Budgets, the transitions between states, and the reserves: what the metabolic controller is told and answers.

use serde::{Deserialize, Serialize};

use super::ids::{Modality, Module, Phase, State, Tick};
use super::salience::SalienceReport;

/// What the body used since the step before; feeds the energy buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Sum over tokens of k used / k trained.
    pub compute_units: f64,
    /// Logical bytes of demanded misses.
    pub miss_bytes: u64,
}

/// Question to the metabolic controller at the start of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assess {
    /// The tick at which this step begins.
    pub tick: Tick,
    /// Ticks since the step before.
    pub ticks: u32,
    /// Of this step, from the assessor.
    pub report: SalienceReport,
    /// Observations that ask for an answer and have none yet.
    pub open_requests: u32,
    /// No observation arrived in this step, none is being read, and no request is open.
    pub quiet: bool,
    /// An outside input arrived in this step (ends Dream).
    pub outside_input: bool,
    /// An observation is being read and its end is not reached: of what the step before read, nothing was measured.
    pub unfinished: bool,
    /// What the step before used.
    pub spent: Spent,
    /// Bytes of the pool P as of now (a limit can change at run time).
    pub pool_bytes: u64,
    /// Bytes in use that could not be given back now if P had to go (unleased cached experts could): leases that are out,
    /// and, of a limit that fell below the floor, what is missing of the floor (P is 0 then).
    pub unreclaimable_bytes: u64,
    /// Levels of outside reserves in [0, 1], when there are such sensors.
    pub levels: Vec<f64>,
    /// Episodes that Dream has not consolidated yet.
    pub unconsolidated_episodes: u32,
    /// Drive of the turn that is being spoken; none: nothing is, and the talker sleeps.
    #[serde(default)]
    pub spoken_drive: Option<f32>,
    /// Modalities of what waits, is being read or answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perceiving: Vec<Modality>,
}

/// Why a state was left. A closed list: every row of the transition table has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A sensor left its declared range, or an alarm.
    Threat,
    /// Drive of 0.95 or more for two ticks.
    Overwhelming,
    /// Energy below the survival line.
    Exhausted,
    /// Threat's own allowance was used up.
    ThreatSpent,
    /// No threat any more.
    ThreatOver,
    /// Energy is low: rest.
    Tired,
    /// Nothing happened for long.
    Bored,
    /// A request came.
    Request,
    /// Something salient came.
    Drive,
    /// The request is answered and nothing else drives.
    Settled,
    /// Quiet, rested, and there is something to consolidate.
    Quiet,
    /// Input from outside.
    Awakened,
    /// Nothing left to consolidate.
    Consolidated,
    /// Energy is back.
    Recovered,
}

/// A change of state; takes effect between two tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// State that was left.
    pub from: State,
    /// State that was entered.
    pub to: State,
    /// Row of the transition table that applied.
    pub cause: Cause,
}

/// The three reserves and what follows from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// 100 x the least of the reserves.
    pub atp: f64,
    /// Compute bucket, units of one exact token.
    pub compute: f64,
    /// I/O bucket, units of one exact token.
    pub io: f64,
    /// Memory and outside levels: the least, in [0, 1].
    pub level: f64,
}

/// Budgets and biases of one module, valid until the next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleDirective {
    /// Module that these budgets are for.
    pub module: Module,
    /// Counts directives; a message of an older epoch is stale.
    pub epoch: u64,
    /// The state it comes from.
    pub state: State,
    /// Experts a token at most, in 1..=E.
    pub k: u16,
    /// The same for a token that is read and not written; none: as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_k: Option<u16>,
    /// Router mass at which a token has experts enough, as a share of what its k best have, in (0, 1]; 1: always k.
    #[serde(
        default = "ModuleDirective::whole_mass",
        skip_serializing_if = "ModuleDirective::is_whole_mass"
    )]
    pub router_mass: f32,
    /// Capacity of the demand pool, one lease window included.
    pub expert_bytes: u64,
    /// Capacity of the speculation pool.
    pub speculation_bytes: u64,
    /// Bytes that one decoded token may miss; none: no cap.
    pub miss_bytes_per_token: Option<u64>,
    /// Residency bias of the state.
    pub lambda: f32,
    /// Salience bias of the state.
    pub beta: f32,
    /// Weight of the affinity term.
    pub focus_weight: f32,
    /// Experts a layer to prefetch ahead.
    pub lookahead: u16,
}

impl ModuleDirective {
    /// Experts a token at most, in a phase.
    pub fn k_in(&self, phase: Phase) -> u16 {
        match phase {
            Phase::Prefill => self.reading_k.unwrap_or(self.k),
            Phase::Decode => self.k,
        }
    }

    /// The mass of all k experts: what recordings had before there was another.
    fn whole_mass() -> f32 {
        1.0
    }

    fn is_whole_mass(mass: &f32) -> bool {
        *mass == 1.0
    }
}

/// Answer of the metabolic controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directives {
    /// Counts the answers.
    pub epoch: u64,
    /// Of the step.
    pub tick: Tick,
    /// The state in force.
    pub state: State,
    /// The change that this step brought, if any.
    pub transition: Option<Transition>,
    /// The reserves after this step's refill and the cost of the step before.
    pub energy: Energy,
    /// What moves states.
    pub drive: f32,
    /// Whether the cheapest form of a step is covered; if not, the tick idles.
    pub may_step: bool,
    /// A running answer ends at the next token (only Depletion does so).
    pub end_answer: bool,
    /// Tokens that the next step may span at most, so that Threat stays within its allowance, and no state spends what it would
    /// have been left for; none: no limit.
    pub tokens_max: Option<u32>,
    /// One for each module awake.
    pub modules: Vec<ModuleDirective>,
    /// One for each tower awake.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<TowerDirective>,
}

/// What a tower may keep in memory until the next epoch. One that sleeps has none: what it perceives is read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TowerDirective {
    /// Modality that the tower perceives.
    pub modality: Modality,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Its first so many pieces, which have room in them, may stay; the others are read when their turn comes.
    pub pieces: u32,
    /// Drive of its modality, in [0, 1].
    pub drive: f32,
}
