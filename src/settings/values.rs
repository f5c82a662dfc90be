//! Settings as they came out.

use sage_actors::config::MindConfig;
use serde::Serialize;

use super::{SamplingSettings, SessionSettings, SettingOrigin};
use crate::sensors::SensorSettings;

/// One setting as it came out.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Its key, such as `mind.budgets.wake.f`.
    pub key: String,
    /// Its value; none for one that may be left out and was.
    pub value: Option<toml::Value>,
    /// Its value if nothing is said.
    pub default: Option<toml::Value>,
    /// What it may be.
    pub expected: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub origin: SettingOrigin,
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How much a session takes, reads and says.
    pub session: SessionSettings,
    /// How an answer's tokens are chosen.
    pub sampling: SamplingSettings,
    /// Of the mind; what is found at start is not filled in.
    pub mind: MindConfig,
    /// How the machine's own sensors are read.
    pub sensors: SensorSettings,
    /// One by one, in the order of the defaults.
    pub list: Vec<Setting>,
}

impl Settings {
    /// The setting of this key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.list.iter().find(|setting| setting.key == key)
    }
}
