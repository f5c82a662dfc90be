//! What a configuration must be for the actors to rely on it.

use super::{MindConfig, ModuleShape};
use crate::protocol::{Modality, Module};

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
    /// A tower that no model can have.
    #[error("the tower of {modality:?}: {reason}")]
    Tower {
        /// Whose tower.
        modality: Modality,
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
        for (i, tower) in self.towers.iter().enumerate() {
            let modality = tower.modality;
            let twice = self.towers[..i].iter().any(|t| t.modality == modality);
            let reason = match modality {
                Modality::Text => "words have none",
                _ if twice => "appears twice",
                _ if tower.piece_bytes.is_empty() => "has no piece",
                _ if tower.piece_bytes.contains(&0) => "a piece of no bytes",
                _ => continue,
            };
            return Err(ConfigError::Tower { modality, reason });
        }
        if self.hold.is_none() && self.hold_state.is_some() {
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
        if let Some(reason) = shape.wrong_sizes() {
            return wrong(reason);
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
        let numbers = self.numbers();
        let wrong = numbers
            .iter()
            .find(|number| !number.bound.admits(number.value));
        if let Some(number) = wrong {
            return Err(ConfigError::Range {
                key: number.key.clone(),
                rule: number.bound.rule(),
            });
        }
        match self.gaps().iter().find(|gap| !gap.kept) {
            Some(gap) => Err(ConfigError::Range {
                key: gap.above.to_owned(),
                rule: gap.rule,
            }),
            None => Ok(()),
        }
    }
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
            smaller: Vec::new(),
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

    fn with(change: impl FnOnce(&mut MindConfig)) -> Result<(), ConfigError> {
        let mut config = MindConfig {
            modules: vec![ModuleShape {
                module: Module::Thinker,
                layers: vec![0],
                experts: 4,
                k_trained: 2,
                norm_topk_prob: true,
                expert_bytes: 10,
                smaller: Vec::new(),
            }],
            ..Default::default()
        };
        change(&mut config);
        config.validate()
    }

    #[test]
    fn a_number_out_of_its_bounds_is_named_by_its_key() {
        let named = |result: Result<(), ConfigError>| match result {
            Err(ConfigError::Range { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            named(with(|c| c.budgets.rest.salience_bias = 1.5)),
            "budgets.rest.salience_bias"
        );
        assert_eq!(
            named(with(|c| c.transitions.depletion_atp = f64::NAN)),
            "transitions.depletion_atp"
        );
        assert_eq!(
            named(with(|c| c.transitions.overwhelming_steps = 0)),
            "transitions.overwhelming_steps"
        );
        assert_eq!(
            named(with(|c| c.energy.drive_weights[2] = -0.1)),
            "energy.drive_weights"
        );
        assert_eq!(
            named(with(|c| c.hold = Some(crate::config::StateBudget {
                f: 0.0,
                ..c.budgets.focus
            }))),
            "hold.f"
        );
        assert_eq!(
            named(with(|c| c.transitions.wake_focus_drive = 0.5)),
            "transitions.wake_focus_drive"
        );
    }

    /// Each number of the configuration has a bound: a new one cannot be forgotten.
    #[test]
    fn every_number_has_a_bound() {
        fn keys(at: &str, value: &toml::Value, all: &mut std::collections::BTreeSet<String>) {
            match value {
                toml::Value::Table(table) => {
                    for (key, value) in table {
                        let at = if at.is_empty() {
                            key.clone()
                        } else {
                            format!("{at}.{key}")
                        };
                        keys(&at, value, all);
                    }
                }
                toml::Value::Array(items) => items.iter().for_each(|item| keys(at, item, all)),
                toml::Value::Integer(_) | toml::Value::Float(_) => {
                    all.insert(at.to_owned());
                }
                _ => {}
            }
        }
        let config = MindConfig {
            hold: Some(MindConfig::default().budgets.focus),
            ..Default::default()
        };
        let mut all = std::collections::BTreeSet::new();
        keys("", &toml::Value::try_from(&config).unwrap(), &mut all);
        // Found at start, not set.
        assert!(all.remove("pool_bytes"));
        let bounded = config.numbers().into_iter().map(|number| number.key);
        assert_eq!(bounded.collect::<std::collections::BTreeSet<_>>(), all);
    }
}
