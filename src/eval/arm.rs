//! What is compared: a state held, a policy, a limit.

use std::fmt;

use sage_actors::config::{MindConfig, Named, RoutingPolicy};
use sage_actors::protocol::State;
use serde::{Deserialize, Serialize};

use crate::core::Limit;
use crate::input::KvPrecision;
use crate::session::exact::EXACT;

/// How an arm routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmPolicy {
    /// The trained k and the router's own choice, whatever the state: what every other arm is compared with.
    Exact,
    /// The router's own choice at the state's k and memory: the price of k alone.
    TopK,
    /// As [`RoutingPolicy::Salient`].
    Salient,
    /// As [`RoutingPolicy::Sage`].
    Sage,
}

impl Named for ArmPolicy {
    const ALL: &'static [Self] = &[Self::Exact, Self::TopK, Self::Salient, Self::Sage];

    fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::TopK => "topk",
            Self::Salient => RoutingPolicy::Salient.name(),
            Self::Sage => RoutingPolicy::Sage.name(),
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Exact => "The trained top-k whatever the state; always runs",
            Self::TopK => "The router's own choice at the state's k: the price of k alone",
            Self::Salient => RoutingPolicy::Salient.summary(),
            Self::Sage => RoutingPolicy::Sage.summary(),
        }
    }
}

impl fmt::Display for ArmPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit and how it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedLimit {
    /// As on the command line.
    pub name: String,
    /// Of an arm's process.
    pub limit: Limit,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// The state held; none for the exact arm, which no state changes.
    pub state: Option<State>,
    /// How it routes.
    pub policy: ArmPolicy,
    /// What it may use.
    pub limit: NamedLimit,
    /// How it keeps keys and values.
    #[serde(default, skip_serializing_if = "KvPrecision::is_exact")]
    pub kv: KvPrecision,
    /// Name of the variation of the mind that it runs; none: the mind that all have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<String>,
}

/// Another mind for the same arms: with one mechanism off, or with other numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variation {
    /// As it is shown behind the arm's name.
    pub name: String,
    /// The mind, before an arm's routing and state.
    pub mind: MindConfig,
}

impl Arm {
    /// The model as it was trained, with everything in memory.
    pub fn oracle() -> Self {
        let limit = NamedLimit {
            name: "none".to_owned(),
            limit: Limit::None,
        };
        Self {
            state: None,
            policy: ArmPolicy::Exact,
            limit,
            kv: KvPrecision::Exact,
            variation: None,
        }
    }

    /// Whether nothing of it differs from the model as it was trained but its memory.
    pub fn is_exact(&self) -> bool {
        self.policy == ArmPolicy::Exact && self.kv.is_exact()
    }

    /// The state's name, or a dash.
    pub fn state_name(&self) -> String {
        self.state
            .map_or("-".to_owned(), |state| format!("{state:?}").to_lowercase())
    }

    /// In words: `rest salient 48slots`, `exact none bf16`, `rest salient 48slots without router_mass`.
    pub fn name(&self) -> String {
        let state = self.state.map(|_| format!("{} ", self.state_name()));
        let (policy, limit) = (self.policy.name(), &self.limit.name);
        let rounded = match self.kv.is_exact() {
            true => String::new(),
            false => format!(" {}", self.kv),
        };
        let varied = self.variation.iter().map(|name| format!(" {name}"));
        let varied: String = varied.collect();
        let state = state.unwrap_or_default();
        format!("{state}{policy} {limit}{rounded}{varied}")
    }

    /// The arm that differs from it in nothing but the variation.
    pub fn unvaried(&self) -> Self {
        Self {
            variation: None,
            ..self.clone()
        }
    }

    /// The mind of the arm: `mind` with its routing, held in its state.
    pub fn mind(&self, mind: &MindConfig) -> MindConfig {
        let routing = match self.policy {
            ArmPolicy::Exact | ArmPolicy::TopK => RoutingPolicy::Exact,
            ArmPolicy::Salient => RoutingPolicy::Salient,
            ArmPolicy::Sage => RoutingPolicy::Sage,
        };
        // The exact arm names a state too, so that its memory is divided like that of the others.
        let (state, budget) = match self.state {
            Some(state) => (state, mind.budgets[state]),
            None => (State::Focus, EXACT),
        };
        MindConfig {
            routing,
            hold: Some(budget),
            hold_state: Some(state),
            ..mind.clone()
        }
    }
}

/// The arms of a run: at every limit the exact arm, the same with keys and values kept in every other precision, then every
/// state under every other policy, each followed by its variations. What is named twice counts once.
pub fn arms(
    states: &[State],
    policies: &[ArmPolicy],
    limits: &[NamedLimit],
    kv: &[KvPrecision],
    variations: &[Variation],
) -> Vec<Arm> {
    let mut arms: Vec<Arm> = Vec::new();
    let mut add = |arm: Arm| {
        if !arms.contains(&arm) {
            arms.push(arm);
        }
    };
    for limit in limits {
        for kv in std::iter::once(KvPrecision::Exact).chain(kv.iter().copied()) {
            add(Arm {
                limit: limit.clone(),
                kv,
                ..Arm::oracle()
            });
        }
        for policy in policies
            .iter()
            .filter(|policy| **policy != ArmPolicy::Exact)
        {
            for state in states {
                let varied = variations.iter().map(|one| Some(one.name.clone()));
                for variation in std::iter::once(None).chain(varied) {
                    add(Arm {
                        state: Some(*state),
                        policy: *policy,
                        limit: limit.clone(),
                        kv: KvPrecision::Exact,
                        variation,
                    });
                }
            }
        }
    }
    arms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, slots: u64) -> NamedLimit {
        NamedLimit {
            name: name.to_owned(),
            limit: Limit::Slots(slots),
        }
    }

    #[test]
    fn every_limit_has_its_exact_arm_and_nothing_runs_twice() {
        let limits = [limit("4slots", 4), limit("9slots", 9), limit("4slots", 4)];
        let states = [State::Rest, State::Wake, State::Rest];
        let kv = [KvPrecision::Half, KvPrecision::Exact];
        let policies = [ArmPolicy::Salient, ArmPolicy::Exact];
        let variation = Variation {
            name: "without salience_bias".into(),
            mind: MindConfig::default(),
        };
        let arms = arms(&states, &policies, &limits, &kv, &[variation]);
        let names: Vec<String> = arms.iter().map(Arm::name).collect();
        assert_eq!(
            names,
            [
                "exact 4slots",
                "exact 4slots bf16",
                "rest salient 4slots",
                "rest salient 4slots without salience_bias",
                "wake salient 4slots",
                "wake salient 4slots without salience_bias",
                "exact 9slots",
                "exact 9slots bf16",
                "rest salient 9slots",
                "rest salient 9slots without salience_bias",
                "wake salient 9slots",
                "wake salient 9slots without salience_bias",
            ]
        );
        assert_eq!(arms[3].unvaried(), arms[2]);
    }

    #[test]
    fn an_arm_is_held_in_its_state_with_its_budget() {
        let defaults = MindConfig::default();
        let arm = Arm {
            state: Some(State::Rest),
            policy: ArmPolicy::TopK,
            limit: limit("4slots", 4),
            kv: KvPrecision::Exact,
            variation: None,
        };
        let mind = arm.mind(&defaults);
        assert_eq!(mind.hold, Some(defaults.budgets.rest));
        assert_eq!(mind.hold_state, Some(State::Rest));
        assert_eq!(mind.routing, RoutingPolicy::Exact);
        let exact = Arm::oracle().mind(&defaults);
        assert_eq!(exact.hold, Some(EXACT));
    }
}
