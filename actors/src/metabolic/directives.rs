//! From a state's budget to what each module may use.

use super::arbiter::{Arbiter, PoolClaim, PoolShare, Sharer};
use super::attention::Attended;
use crate::config::{MindConfig, ModuleShape, StateBudget, TowerPolicy, TowerShape};
use crate::protocol::{Module, ModuleDirective, State, TowerDirective};

/// How much each that may share in the pool is driven.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drives {
    /// Of the words that are read and written.
    pub thinker: f32,
    /// Of the turn that is being spoken; none: nothing is.
    pub spoken: Option<f32>,
    /// By modality.
    pub senses: [Attended; 3],
}

/// Experts a token under a budget: round(f · k trained), in 1..=E. The talker takes at most its trained k.
pub fn k_of(shape: &ModuleShape, budget: &StateBudget) -> u16 {
    let f = match shape.module {
        Module::Thinker => budget.f,
        Module::Talker => budget.f.min(1.0),
    };
    libm::round(f * f64::from(shape.k_trained)).clamp(1.0, f64::from(shape.experts)) as u16
}

/// Experts for a token that is read, where they are fewer than `k`. Only the thinker reads what is not its own.
fn reading_k(shape: &ModuleShape, budget: &StateBudget, k: u16) -> Option<u16> {
    let share = match shape.module {
        Module::Thinker => budget.reading_share,
        Module::Talker => 1.0,
    };
    let f = budget.f * share;
    let reading_k = libm::round(f * f64::from(shape.k_trained)).clamp(1.0, f64::from(k)) as u16;
    (reading_k < k).then_some(reading_k)
}

/// What each that may be awake asks of the arbiter. A module asks for its experts in proportion to the work that the state gives
/// it, a tower for its weights; without a turn that is spoken the talker asks for nothing.
pub(super) fn claims(config: &MindConfig, budget: &StateBudget, drives: &Drives) -> Vec<PoolClaim> {
    let of_module = |shape: &ModuleShape| {
        let drive = match shape.module {
            Module::Thinker => drives.thinker,
            Module::Talker => drives.spoken.filter(|_| budget.talker)?,
        };
        let work = f64::from(k_of(shape, budget)) / f64::from(shape.k_trained);
        Some(PoolClaim {
            sharer: Sharer::Module(shape.module),
            base: shape.total_bytes() as f64 * work,
            drive,
            // Whoever plans memory reserves one lease window for each module beside the pool: it runs with no share at all.
            floor_bytes: 0,
            most_bytes: None,
        })
    };
    let of_tower = |tower: &TowerShape| {
        let attended = drives.senses[tower.modality as usize];
        let awake = match budget.towers {
            TowerPolicy::None => false,
            TowerPolicy::InUse => attended.in_use,
            TowerPolicy::All => true,
        };
        awake.then_some(PoolClaim {
            sharer: Sharer::Tower(tower.modality),
            base: tower.bytes() as f64,
            drive: attended.drive,
            floor_bytes: tower.largest_piece_bytes(),
            most_bytes: Some(tower.bytes()),
        })
    };
    let modules = config.modules.iter().filter_map(of_module);
    modules
        .chain(config.towers.iter().filter_map(of_tower))
        .collect()
}

/// What a state gives by itself: every module that it lets be awake is, and none is driven.
pub fn undriven(
    config: &MindConfig,
    state: State,
    budget: &StateBudget,
    pool_bytes: u64,
) -> Vec<ModuleDirective> {
    let drives = Drives {
        spoken: Some(0.0),
        ..Drives::default()
    };
    let claims = claims(config, budget, &drives);
    let mut arbiter = Arbiter::default();
    let shares = arbiter.divide(&claims, pool_bytes);
    directives(config, state, budget, pool_bytes, shares, 0)
}

/// One directive for each tower that has a share.
pub(super) fn tower_directives(
    config: &MindConfig,
    pool_bytes: u64,
    shares: &[PoolShare],
    drives: &Drives,
) -> Vec<TowerDirective> {
    let one = |tower: &TowerShape| {
        let sharer = Sharer::Tower(tower.modality);
        let (_, share) = shares.iter().find(|(known, _)| *known == sharer)?;
        let weight_bytes = tower.bytes().min((pool_bytes as f64 * share) as u64);
        Some(TowerDirective {
            modality: tower.modality,
            weight_bytes,
            pieces: tower.pieces_within(weight_bytes) as u32,
            drive: drives.senses[tower.modality as usize].drive,
        })
    };
    config.towers.iter().filter_map(one).collect()
}

/// Every expert of a window may be the largest.
fn window_bytes(config: &MindConfig, shape: &ModuleShape) -> u64 {
    u64::from(config.window_experts) * shape.expert_bytes
}

/// One directive for each module that has a share. Pool and cap of missed bytes are divided as the arbiter says; a module
/// alone gets all of both. The demand pool is one lease window (which the floor reserves) and the state's share of P.
///
/// k never exceeds what the demand pool can pin at once; at or below the trained k it always can.
pub fn directives(
    config: &MindConfig,
    state: State,
    budget: &StateBudget,
    pool_bytes: u64,
    shares: &[PoolShare],
    epoch: u64,
) -> Vec<ModuleDirective> {
    let awake = shares.iter().filter_map(|(sharer, share)| match sharer {
        Sharer::Module(module) => config.shape(*module).map(|shape| (shape, *share)),
        Sharer::Tower(_) => None,
    });
    let exact_bytes = awake.clone().map(|(shape, _)| shape.exact_token_bytes());
    let miss_bytes = budget.miss_bytes_per_token * exact_bytes.sum::<u64>() as f64;
    let one = |(shape, share): (&ModuleShape, f64)| {
        let pool = pool_bytes as f64 * share;
        let demand = budget.expert_memory * (1.0 - config.speculation_share) * pool;
        let expert_bytes = window_bytes(config, shape) + demand as u64;
        let fitting = u16::try_from(expert_bytes / shape.expert_bytes).unwrap_or(u16::MAX);
        let k = k_of(shape, budget).min(fitting);
        ModuleDirective {
            module: shape.module,
            epoch,
            state,
            k,
            reading_k: reading_k(shape, budget, k),
            router_mass: budget.router_mass,
            expert_bytes,
            speculation_bytes: (config.speculation_share * pool) as u64,
            miss_bytes_per_token: (miss_bytes > 0.0).then_some((miss_bytes * share) as u64),
            lambda: budget.residency_bias,
            beta: budget.salience_bias,
            focus_weight: budget.focus_weight,
            lookahead: if budget.lookahead { k } else { 0 },
        }
    };
    awake.map(one).collect()
}
