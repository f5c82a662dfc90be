//! Every number of the configuration, and what it must be: the one place where bounds are stated.

use std::fmt;

use super::{EvictionPolicy, MemoryConfig, MindConfig, StateBudget, Transitions};
use crate::protocol::State;

/// What a number must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Finite and above 0.
    Positive,
    /// In [0, 1].
    Share,
    /// In [0, 1).
    ShareBelowOne,
    /// In (0, 1].
    ShareAboveZero,
    /// In [0, 100].
    Atp,
    /// A half-life in tokens.
    HalfLife,
    /// A multiple of an exact token's bytes.
    Bytes,
    /// A number of experts, at least 1.
    Experts,
    /// A number of ticks or episodes, 0 included.
    Count,
    /// So many in a row, which is at least 1.
    Row,
}

impl Bound {
    /// Whether a value keeps to it; NaN never does.
    pub fn admits(self, value: f64) -> bool {
        match self {
            Self::Positive => value.is_finite() && value > 0.0,
            Self::Share => (0.0..=1.0).contains(&value),
            Self::ShareBelowOne => (0.0..1.0).contains(&value),
            Self::ShareAboveZero => value > 0.0 && value <= 1.0,
            Self::Atp => (0.0..=100.0).contains(&value),
            Self::HalfLife => (0.1..=1e6).contains(&value),
            Self::Bytes => (0.0..=1e6).contains(&value),
            Self::Experts => (1.0..=f64::from(u16::MAX)).contains(&value),
            Self::Count => (0.0..=f64::from(u32::MAX)).contains(&value),
            Self::Row => (1.0..=f64::from(u32::MAX)).contains(&value),
        }
    }

    /// In words that follow "a number".
    pub fn rule(self) -> &'static str {
        match self {
            Self::Positive => "above 0",
            Self::Share => "in [0, 1]",
            Self::ShareBelowOne => "in [0, 1)",
            Self::ShareAboveZero => "in (0, 1]",
            Self::Atp => "in [0, 100]",
            Self::HalfLife => "from 0.1 to 1000000",
            Self::Bytes => "from 0 to 1000000",
            Self::Experts => "from 1 to 65535",
            Self::Count => "from 0 to 4294967295",
            Self::Row => "from 1 to 4294967295",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

/// One number of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Its key, such as `budgets.wake.f`; the four weights of the drive share one.
    pub key: String,
    /// Its value.
    pub value: f64,
    /// What it must be.
    pub bound: Bound,
}

/// Two numbers of which one must lie above the other: a way back that is not the way there, or states would flutter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdGap {
    /// Key of the number that must be larger.
    pub above: &'static str,
    /// Key of the number that must be smaller.
    pub below: &'static str,
    /// What to say of the larger one.
    pub rule: &'static str,
    /// Whether it is so.
    pub kept: bool,
}

impl MindConfig {
    /// Every number of this configuration, the held budget's too where there is one.
    pub fn numbers(&self) -> Vec<Number> {
        let mut numbers = Vec::new();
        let mut add = |key: &str, value: f64, bound: Bound| {
            numbers.push(Number {
                key: key.to_owned(),
                value,
                bound,
            });
        };
        add("window_experts", self.window_experts.into(), Bound::Experts);
        add(
            "speculation_share",
            self.speculation_share,
            Bound::ShareBelowOne,
        );
        if let EvictionPolicy::Horizon { half_life_tokens } = self.eviction {
            let key = "eviction.horizon.half_life_tokens";
            add(key, half_life_tokens, Bound::HalfLife);
        }
        for state in State::ALL {
            let key = format!("budgets.{state:?}").to_lowercase();
            budget(&key, &self.budgets[state], &mut add);
        }
        if let Some(hold) = &self.hold {
            budget("hold", hold, &mut add);
        }
        transitions(&self.transitions, &mut add);
        let energy = &self.energy;
        add(
            "energy.capacity_units",
            energy.capacity_units,
            Bound::Positive,
        );
        add(
            "energy.refill_units_per_tick",
            energy.refill_units_per_tick,
            Bound::Positive,
        );
        add(
            "energy.drive_rate",
            energy.drive_rate.into(),
            Bound::ShareAboveZero,
        );
        for weight in energy.drive_weights {
            add("energy.drive_weights", weight.into(), Bound::Share);
        }
        let weight = energy.drive_reward_weight.into();
        add("energy.drive_reward_weight", weight, Bound::Share);
        let half_life = self.salience.reward_half_life_ticks.into();
        add("salience.reward_half_life_ticks", half_life, Bound::Count);
        memory(&self.memory, &mut add);
        numbers
    }

    /// Every pair of thresholds between which states would flutter.
    pub fn gaps(&self) -> [ThresholdGap; 6] {
        let t = &self.transitions;
        let gap = |above, below, rule, kept| ThresholdGap {
            above,
            below,
            rule,
            kept,
        };
        [
            gap(
                "transitions.depletion_atp_exit",
                "transitions.depletion_atp",
                "above depletion_atp",
                t.depletion_atp_exit > t.depletion_atp,
            ),
            gap(
                "transitions.wake_focus_atp",
                "transitions.focus_wake_atp",
                "above focus_wake_atp",
                t.wake_focus_atp > t.focus_wake_atp,
            ),
            gap(
                "transitions.wake_focus_drive",
                "transitions.focus_wake_drive",
                "above focus_wake_drive",
                t.wake_focus_drive > t.focus_wake_drive,
            ),
            gap(
                "transitions.rest_wake_atp",
                "transitions.wake_rest_atp",
                "above wake_rest_atp",
                t.rest_wake_atp > t.wake_rest_atp,
            ),
            gap(
                "transitions.rest_wake_drive",
                "transitions.wake_rest_drive",
                "above wake_rest_drive",
                t.rest_wake_drive > t.wake_rest_drive,
            ),
            gap(
                "transitions.rest_focus_drive",
                "transitions.focus_wake_drive",
                "above focus_wake_drive",
                t.rest_focus_drive > t.focus_wake_drive,
            ),
        ]
    }
}

fn budget(key: &str, budget: &StateBudget, add: &mut impl FnMut(&str, f64, Bound)) {
    for (name, value, bound) in [
        ("f", budget.f, Bound::Positive),
        ("reading_share", budget.reading_share, Bound::ShareAboveZero),
        ("expert_memory", budget.expert_memory, Bound::Share),
        (
            "router_mass",
            budget.router_mass.into(),
            Bound::ShareAboveZero,
        ),
        (
            "miss_bytes_per_token",
            budget.miss_bytes_per_token,
            Bound::Bytes,
        ),
        ("residency_bias", budget.residency_bias.into(), Bound::Share),
        ("salience_bias", budget.salience_bias.into(), Bound::Share),
        ("focus_weight", budget.focus_weight.into(), Bound::Share),
    ] {
        add(&format!("{key}.{name}"), value, bound);
    }
}

fn memory(memory: &MemoryConfig, add: &mut impl FnMut(&str, f64, Bound)) {
    for (name, value, bound) in [
        ("store_bytes", memory.store_bytes as f64, Bound::Count),
        ("context_share", memory.context_share, Bound::ShareAboveZero),
        ("recent_share", memory.recent_share, Bound::Share),
        ("recall_share", memory.recall_share, Bound::ShareBelowOne),
    ] {
        add(&format!("memory.{name}"), value, bound);
    }
    for weight in memory.weights {
        add("memory.weights", weight.into(), Bound::Share);
    }
}

fn transitions(t: &Transitions, add: &mut impl FnMut(&str, f64, Bound)) {
    for (name, value, bound) in [
        ("dwell_ticks", t.dwell_ticks.into(), Bound::Count),
        ("threat_level", t.threat_level.into(), Bound::Share),
        (
            "overwhelming_drive",
            t.overwhelming_drive.into(),
            Bound::Share,
        ),
        (
            "overwhelming_steps",
            t.overwhelming_steps.into(),
            Bound::Row,
        ),
        ("threat_atp_min", t.threat_atp_min, Bound::Atp),
        (
            "threat_rearm_ticks",
            t.threat_rearm_ticks.into(),
            Bound::Row,
        ),
        ("threat_units_max", t.threat_units_max, Bound::Positive),
        ("threat_atp_exit", t.threat_atp_exit, Bound::Atp),
        (
            "threat_calm_drive",
            t.threat_calm_drive.into(),
            Bound::Share,
        ),
        ("threat_calm_ticks", t.threat_calm_ticks.into(), Bound::Row),
        ("depletion_atp", t.depletion_atp, Bound::Atp),
        ("depletion_atp_exit", t.depletion_atp_exit, Bound::Atp),
        ("wake_rest_atp", t.wake_rest_atp, Bound::Atp),
        ("wake_rest_drive", t.wake_rest_drive.into(), Bound::Share),
        ("wake_rest_ticks", t.wake_rest_ticks.into(), Bound::Row),
        ("wake_focus_atp", t.wake_focus_atp, Bound::Atp),
        ("wake_focus_drive", t.wake_focus_drive.into(), Bound::Share),
        ("focus_wake_atp", t.focus_wake_atp, Bound::Atp),
        ("focus_wake_drive", t.focus_wake_drive.into(), Bound::Share),
        ("rest_wake_atp", t.rest_wake_atp, Bound::Atp),
        ("rest_wake_drive", t.rest_wake_drive.into(), Bound::Share),
        ("rest_focus_drive", t.rest_focus_drive.into(), Bound::Share),
        ("dream_quiet_ticks", t.dream_quiet_ticks.into(), Bound::Row),
        ("dream_atp_min", t.dream_atp_min, Bound::Atp),
        (
            "dream_episodes_min",
            t.dream_episodes_min.into(),
            Bound::Count,
        ),
        ("dream_ticks_max", t.dream_ticks_max.into(), Bound::Count),
        ("dream_wake_ticks", t.dream_wake_ticks.into(), Bound::Count),
    ] {
        add(&format!("transitions.{name}"), value, bound);
    }
}
