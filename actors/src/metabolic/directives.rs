//! From a state's budget to what each module may use.

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

/// One directive for each module awake. The pool is shared in proportion to the modules' expert bytes; a module
/// alone gets all of it. The demand pool is one lease window (which the floor reserves) and the state's share of P.
///
/// k never exceeds what the demand pool can pin at once; at or below the trained k it always can.
pub fn directives(
    config: &MindConfig,
    state: State,
    budget: &StateBudget,
    pool_bytes: u64,
    epoch: u64,
) -> Vec<ModuleDirective> {
    let awake = |shape: &&ModuleShape| shape.module == Module::Thinker || budget.talker;
    let total = |shape: &ModuleShape| {
        shape.layers.len() as f64 * f64::from(shape.experts) * shape.expert_bytes as f64
    };
    let all: f64 = config.modules.iter().filter(awake).map(total).sum();
    let one = |shape: &ModuleShape| {
        let pool = pool_bytes as f64 * (total(shape) / all);
        let window_bytes = u64::from(config.window_experts) * shape.expert_bytes;
        let demand = budget.expert_memory * (1.0 - config.speculation_share) * pool;
        let expert_bytes = window_bytes + demand as u64;
        let fitting = u16::try_from(expert_bytes / shape.expert_bytes).unwrap_or(u16::MAX);
        let k = k_of(shape, budget).min(fitting);
        let miss = budget.miss_bytes_per_token * shape.exact_token_bytes() as f64;
        ModuleDirective {
            module: shape.module,
            epoch,
            state,
            k,
            expert_bytes,
            speculation_bytes: (config.speculation_share * pool) as u64,
            miss_bytes_per_token: (budget.miss_bytes_per_token > 0.0).then_some(miss as u64),
            lambda: budget.residency_bias,
            beta: budget.salience_bias,
            focus_weight: budget.focus_weight,
            lookahead: if budget.lookahead { k } else { 0 },
        }
    };
    config.modules.iter().filter(awake).map(one).collect()
}
