//! What a configuration must be for the actors to rely on it.

use super::{EvictionPolicy, MindConfig, ModuleShape, StateBudget};
use crate::protocol::{Module, State};

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No sparse module, or the thinker is missing or not first.
    #[error("the thinker must be the first module")]
    NoThinker,
    /// A module appears twice.
    #[error("module {0:?} appears twice")]
    DuplicateModule(Module),
    /// A shape that no model can have.
    #[error("module {module:?}: {reason}")]
    Shape {
        /// Whose shape.
        module: Module,
        /// What is wrong.
        reason: &'static str,
    },
    /// A lease could not hold one token's experts.
    #[error("window_experts is {window_experts}, below the trained k of {k_trained}")]
    Window {
        /// As configured.
        window_experts: u16,
        /// Of the module that needs more.
        k_trained: u16,
    },
    /// A number out of its range.
    #[error("{key} is out of range: {rule}")]
    Range {
        /// Key in the configuration.
        key: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl MindConfig {
    /// Checks everything that the actors rely on.
    ///
    /// # Errors
    /// Names the first key that is out of range, or the module whose shape is impossible.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.modules.first().map(|shape| shape.module) != Some(Module::Thinker) {
            return Err(ConfigError::NoThinker);
        }
        for (i, shape) in self.modules.iter().enumerate() {
            if self.modules[..i]
                .iter()
                .any(|other| other.module == shape.module)
            {
                return Err(ConfigError::DuplicateModule(shape.module));
            }
            self.validate_shape(shape)?;
        }
        for state in State::ALL {
            validate_budget(
                &format!("budgets.{state:?}").to_lowercase(),
                &self.budgets[state],
            )?;
        }
        if let Some(hold) = &self.hold {
            validate_budget("hold", hold)?;
        } else if self.hold_state.is_some() {
            return Err(ConfigError::Range {
                key: "hold_state".to_owned(),
                rule: "only together with hold",
            });
        }
        self.validate_numbers()
    }

    fn validate_shape(&self, shape: &ModuleShape) -> Result<(), ConfigError> {
        let wrong = |reason| {
            Err(ConfigError::Shape {
                module: shape.module,
                reason,
            })
        };
        if shape.layers.is_empty() {
            return wrong("no sparse layer");
        }
        if !shape.layers.is_sorted_by(|a, b| a < b) {
            return wrong("layers are not strictly ascending");
        }
        if shape.experts == 0 {
            return wrong("no experts");
        }
        if shape.k_trained == 0 || shape.k_trained > shape.experts {
            return wrong("k_trained is not in 1..=experts");
        }
        if shape.expert_bytes == 0 {
            return wrong("an expert of no bytes");
        }
        if self.window_experts < shape.k_trained {
            return Err(ConfigError::Window {
                window_experts: self.window_experts,
                k_trained: shape.k_trained,
            });
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), ConfigError> {
        if let EvictionPolicy::Horizon { half_life_tokens } = self.eviction {
            check(
                "eviction.horizon.half_life_tokens",
                (0.1..=1e6).contains(&half_life_tokens),
                "0.1..=1e6",
            )?;
        }
        let energy = &self.energy;
        check(
            "speculation_share",
            (0.0..1.0).contains(&self.speculation_share),
            "in [0, 1)",
        )?;
        check(
            "energy.capacity_units",
            positive(energy.capacity_units),
            "above 0",
        )?;
        check(
            "energy.refill_units_per_tick",
            positive(energy.refill_units_per_tick),
            "above 0",
        )?;
        check(
            "energy.drive_rate",
            energy.drive_rate > 0.0 && energy.drive_rate <= 1.0,
            "in (0, 1]",
        )?;
        let weights = energy
            .drive_weights
            .iter()
            .chain([&energy.drive_reward_weight]);
        check(
            "energy.drive_weights",
            weights.into_iter().all(|w| unit32(*w)),
            "in [0, 1]",
        )?;
        let t = &self.transitions;
        check(
            "transitions.threat_units_max",
            positive(t.threat_units_max),
            "above 0",
        )?;
        check(
            "transitions.depletion_atp_exit",
            t.depletion_atp_exit > t.depletion_atp,
            "above depletion_atp",
        )?;
        check(
            "transitions.wake_focus_atp",
            t.wake_focus_atp > t.focus_wake_atp,
            "above focus_wake_atp",
        )?;
        check(
            "transitions.wake_focus_drive",
            t.wake_focus_drive > t.focus_wake_drive,
            "above focus_wake_drive",
        )?;
        check(
            "transitions.rest_wake_atp",
            t.rest_wake_atp > t.wake_rest_atp,
            "above wake_rest_atp",
        )?;
        check(
            "transitions.rest_wake_drive",
            t.rest_wake_drive > t.wake_rest_drive,
            "above wake_rest_drive",
        )
    }
}

fn validate_budget(key: &str, budget: &StateBudget) -> Result<(), ConfigError> {
    check(&format!("{key}.f"), positive(budget.f), "above 0")?;
    check(
        &format!("{key}.expert_memory"),
        (0.0..=1.0).contains(&budget.expert_memory),
        "in [0, 1]",
    )?;
    check(
        &format!("{key}.miss_bytes_per_token"),
        (0.0..=1e6).contains(&budget.miss_bytes_per_token),
        "0 or above",
    )?;
    let biases = [
        budget.residency_bias,
        budget.salience_bias,
        budget.focus_weight,
    ];
    check(
        &format!("{key}: biases"),
        biases.into_iter().all(unit32),
        "in [0, 1]",
    )
}

fn check(key: &str, ok: bool, rule: &'static str) -> Result<(), ConfigError> {
    if ok {
        Ok(())
    } else {
        Err(ConfigError::Range {
            key: key.to_owned(),
            rule,
        })
    }
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn unit32(value: f32) -> bool {
    (0.0..=1.0).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_are_refused() {
        let shape = ModuleShape {
            module: Module::Thinker,
            layers: vec![0, 1],
            experts: 4,
            k_trained: 2,
            norm_topk_prob: true,
            expert_bytes: 10,
        };
        let with = |shape: ModuleShape| MindConfig {
            modules: vec![shape],
            ..Default::default()
        };
        assert_eq!(with(shape.clone()).validate(), Ok(()));
        assert_eq!(
            MindConfig::default().validate(),
            Err(ConfigError::NoThinker)
        );
        assert!(
            with(ModuleShape {
                layers: vec![1, 1],
                ..shape.clone()
            })
            .validate()
            .is_err()
        );
        assert!(
            with(ModuleShape {
                k_trained: 5,
                ..shape.clone()
            })
            .validate()
            .is_err()
        );
        let narrow = MindConfig {
            window_experts: 1,
            ..with(shape)
        };
        assert_eq!(
            narrow.validate(),
            Err(ConfigError::Window {
                window_experts: 1,
                k_trained: 2
            })
        );
    }
}
