//! The first line of every run: which mode it is.

use sage_actors::config::{MindConfig, RoutingPolicy};

use crate::core::{Engine, EngineError, LimitOrigin};
use crate::events::RunMode;
use crate::input::human_bytes;

/// Whether every token gets the reference's experts.
fn is_exact(mind: &MindConfig) -> bool {
    mind.routing == RoutingPolicy::Exact && mind.hold.is_some()
}

/// Which mode runs: exact or priced, which limit, which policies.
///
/// # Errors
/// When the model's fingerprint cannot be had.
pub fn mode(engine: &Engine) -> Result<RunMode, EngineError> {
    let mind = &engine.mind_config;
    let exact = is_exact(mind);
    let routing = mind.routing.to_string();
    let eviction = mind.eviction.to_string();
    let plan = &engine.plan;
    let chosen = matches!(engine.limit_origin(), LimitOrigin::Chosen(_));
    let memory = match plan.limit_bytes {
        Some(limit) => format!(
            "limit {}{} (floor {}, pool {} for experts of {})",
            human_bytes(limit),
            if chosen { ", chosen" } else { "" },
            human_bytes(plan.floor.total()),
            human_bytes(plan.pool_bytes),
            human_bytes(plan.all_experts_bytes),
        ),
        None => format!(
            "no limit (experts of {})",
            human_bytes(plan.all_experts_bytes)
        ),
    };
    let kv = engine.kv_precision();
    let (name, what) = match (exact, kv.is_exact()) {
        (true, true) => ("exact", "exact: the reference's experts for every token"),
        (true, false) => (
            "priced",
            "priced: the reference's experts for every token, but rounded keys and values",
        ),
        (false, _) => ("priced", "priced: experts as the state's budgets admit"),
    };
    let rounded = match kv.is_exact() {
        true => String::new(),
        false => format!("; keys and values in {kv}"),
    };
    let absent = engine.absent().len();
    let degraded = match absent {
        0 => String::new(),
        _ => format!("; degraded: {absent} experts are not in this store"),
    };
    Ok(RunMode {
        text: format!(
            "{what}; {memory}; routing {routing}; eviction {eviction}{rounded}{degraded}"
        ),
        kv_precision: kv,
        absent_experts: absent,
        ledger: None,
        mode: name,
        routing,
        eviction,
        limit_bytes: plan.limit_bytes,
        limit_chosen: chosen,
        limit_reason: engine.limit_origin().reason(),
        floor_bytes: plan.floor.total(),
        pool_bytes: plan.pool_bytes,
        below_cycle: {
            let cliffs = engine.cliffs().iter().copied();
            cliffs.filter(|at| at.cliff.is_below()).collect()
        },
        fingerprint: engine.source.fingerprint()?,
    })
}
