//! Thresholds of the transition table.

use serde::{Deserialize, Serialize};

/// When states change. A number that a recorded configuration lacks is what was so before there was such a number.
/// Drives and threat are in [0, 1], `atp_*` in [0, 100], times in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // each name says its row; config/default.toml comments them one by one
pub struct Transitions {
    pub dwell_ticks: u32,
    pub threat_level: f32,
    pub overwhelming_drive: f32,
    pub overwhelming_steps: u32,
    pub threat_atp_min: f64,
    pub threat_rearm_ticks: u32,
    pub threat_units_max: f64,
    pub threat_atp_exit: f64,
    pub threat_calm_drive: f32,
    pub threat_calm_ticks: u32,
    pub depletion_atp: f64,
    pub depletion_atp_exit: f64,
    pub wake_rest_atp: f64,
    pub wake_rest_drive: f32,
    pub wake_rest_ticks: u32,
    pub wake_focus_atp: f64,
    pub wake_focus_drive: f32,
    pub focus_wake_atp: f64,
    pub focus_wake_drive: f32,
    pub rest_wake_atp: f64,
    pub rest_wake_drive: f32,
    #[serde(default = "never")]
    pub rest_focus_drive: f32,
    pub dream_quiet_ticks: u32,
    pub dream_atp_min: f64,
    pub dream_episodes_min: u32,
    pub dream_ticks_max: u32,
    #[serde(default = "no_sooner")]
    pub dream_wake_ticks: u32,
}

/// A drive that nothing exceeds: before there was such a number, Rest was never left for Focus.
fn never() -> f32 {
    1.0
}

/// Before there was such a number, a Dream was kept for the dwell, whatever came.
fn no_sooner() -> u32 {
    u32::MAX
}

impl Default for Transitions {
    fn default() -> Self {
        Self {
            dwell_ticks: 5,
            threat_level: 0.95,
            overwhelming_drive: 0.95,
            overwhelming_steps: 2,
            threat_atp_min: 30.0,
            threat_rearm_ticks: 30,
            threat_units_max: 192.0,
            threat_atp_exit: 25.0,
            threat_calm_drive: 0.8,
            threat_calm_ticks: 3,
            depletion_atp: 10.0,
            depletion_atp_exit: 25.0,
            wake_rest_atp: 20.0,
            wake_rest_drive: 0.3,
            wake_rest_ticks: 30,
            wake_focus_atp: 50.0,
            wake_focus_drive: 0.8,
            focus_wake_atp: 30.0,
            focus_wake_drive: 0.5,
            rest_wake_atp: 40.0,
            rest_wake_drive: 0.5,
            rest_focus_drive: 0.8,
            dream_quiet_ticks: 6,
            dream_atp_min: 40.0,
            dream_episodes_min: 16,
            dream_ticks_max: 150,
            dream_wake_ticks: 0,
        }
    }
}
