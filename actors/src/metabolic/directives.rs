//! From a state's budget to what each module may use.

use super::arbiter::{Arbiter, Claim};
use crate::config::{MindConfig, ModuleShape, StateBudget};
use crate::protocol::{Module, ModuleDirective, State};

/// Experts a token under a budget: round(f · k trained), in 1..=E. The talker takes at most its trained k.
pub fn k_of(shape: &ModuleShape, budget: &StateBudget) -> u16 {
    let f = match shape.module {
        Module::Thinker => budget.f,
        Module::Talker => budget.f.min(1.0),
    };
    libm::round(f * f64::from(shape.k_trained)).clamp(1.0, f64::from(shape.experts)) as u16
}

/// What each module that may be awake asks of the arbiter: experts in proportion to the work that the state gives it.
/// Without a turn that is spoken the talker asks for nothing.
pub fn claims(
    config: &MindConfig,
    budget: &StateBudget,
    drive: f32,
    spoken_drive: Option<f32>,
) -> Vec<Claim> {
    let claim = |shape: &ModuleShape| {
        let drive = match shape.module {
            Module::Thinker => drive,
            Module::Talker => spoken_drive.filter(|_| budget.talker)?,
        };
        let experts = shape.layers.len() as f64 * f64::from(shape.experts);
        let work = f64::from(k_of(shape, budget)) / f64::from(shape.k_trained);
        Some(Claim {
            module: shape.module,
            base: experts * shape.expert_bytes as f64 * work,
            drive,
            floor_bytes: window_bytes(config, shape),
        })
    };
    config.modules.iter().filter_map(claim).collect()
}

/// What a state gives by itself: every module that it lets be awake is, and none is driven.
pub fn undriven(
    config: &MindConfig,
    state: State,
    budget: &StateBudget,
    pool_bytes: u64,
) -> Vec<ModuleDirective> {
    let claims = claims(config, budget, 0.0, Some(0.0));
    let mut arbiter = Arbiter::default();
    let shares = arbiter.divide(&claims, pool_bytes);
    directives(config, state, budget, pool_bytes, shares, 0)
}

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
    shares: &[(Module, f64)],
    epoch: u64,
) -> Vec<ModuleDirective> {
    let awake = shares.iter().filter_map(|(module, share)| {
        let shape = config.modules.iter().find(|shape| shape.module == *module);
        shape.map(|shape| (shape, *share))
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
