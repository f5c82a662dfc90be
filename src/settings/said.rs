//! What options, scenarios and programs say.

use super::SettingOrigin;

/// One value that no file of settings says.
#[derive(Clone, Debug)]
pub(super) struct SettingOverride {
    pub(super) key: &'static str,
    pub(super) value: toml::Value,
    pub(super) origin: SettingOrigin,
}

impl SettingOverride {
    pub(super) fn is_scenario_default(&self) -> bool {
        self.origin == SettingOrigin::ScenarioDefault
    }

    pub(super) fn is_scenario(&self) -> bool {
        matches!(self.origin, SettingOrigin::Scenario(_))
    }
}
