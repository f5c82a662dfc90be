//! What options, scenarios and programs say.

use super::Origin;

/// One value that no file of settings says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) key: &'static str,
    pub(super) value: toml::Value,
    pub(super) origin: Origin,
}

impl Said {
    pub(super) fn is_scenario_default(&self) -> bool {
        self.origin == Origin::ScenarioDefault
    }

    pub(super) fn is_scenario(&self) -> bool {
        matches!(self.origin, Origin::Scenario(_))
    }
}
