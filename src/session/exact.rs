//! Exact mode: what a session has to be so that it equals the reference implementation.

use sage_actors::config::{MindConfig, RoutingPolicy, StateBudget, TowerPolicy};

use crate::settings::{SettingOrigin, Settings};

/// Budgets of a run that must equal the reference: the trained k, all memory, no bias, no cap.
pub const EXACT: StateBudget = StateBudget {
    f: 1.0,
    reading_share: 1.0,
    expert_memory: 1.0,
    router_mass: 1.0,
    miss_bytes_per_token: 0.0,
    residency_bias: 0.0,
    salience_bias: 0.0,
    focus_weight: 0.0,
    lookahead: true,
    talker: true,
    towers: TowerPolicy::All,
};

/// Holds a mind to the reference: its experts for every token, in whatever memory there is.
pub fn apply_exact_mode(mind: &mut MindConfig) {
    mind.routing = RoutingPolicy::Exact;
    mind.hold = Some(EXACT);
}

/// Exactness and a routing that somebody asked for on the same command line, or in the same program, contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("--exact routes exactly: leave --set mind.routing out, or --exact")]
pub struct RoutingContradiction;

/// The mind of the settings; `exact` holds it to the reference.
///
/// # Errors
/// When another routing was asked for beside the exactness. (A file may say how to route in general.)
pub fn resolve_mind(settings: &Settings, exact: bool) -> Result<MindConfig, RoutingContradiction> {
    let mut mind = settings.mind.clone();
    if exact {
        let routing = settings.get("mind.routing").map(|set| &set.origin);
        let asked = matches!(
            routing,
            Some(
                SettingOrigin::CommandLine { .. }
                    | SettingOrigin::Option { .. }
                    | SettingOrigin::Program { .. }
            )
        );
        if asked && mind.routing != RoutingPolicy::Exact {
            return Err(RoutingContradiction);
        }
        apply_exact_mode(&mut mind);
    }
    Ok(mind)
}
