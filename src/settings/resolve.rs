//! Putting the layers together.

use std::collections::{BTreeMap, BTreeSet};

use config::{Config, ValueKind};
use sage_actors::config::{ConfigError, MindConfig, ModuleShape};
use sage_actors::protocol::Module;
use toml::Value;

use super::kinds::expected;
use super::layers::Assignment;
use super::schema::{Leaf, Schema};
use super::{Setting, SettingOrigin, SettingProblem, Settings, SettingsError, Trouble};

/// What the layers say, merged.
pub struct MergedSettings<'a> {
    schema: &'a Schema,
    merged: Config,
    defaults: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, SettingOrigin)>,
}

/// An assignment is a source of one value, whose origin says where it was written.
impl config::Source for Assignment {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, config::Value>, config::ConfigError> {
        let kind = config::Value::new(Some(&self.origin.written()), kind(&self.value));
        Ok([(self.place.clone(), kind)].into_iter().collect())
    }
}

/// A value as `config` holds it.
fn kind(value: &Value) -> ValueKind {
    match value {
        Value::Boolean(flag) => ValueKind::Boolean(*flag),
        Value::Integer(whole) => ValueKind::I64(*whole),
        Value::Float(number) => ValueKind::Float(*number),
        Value::Array(items) => {
            let item = |item| config::Value::new(None, kind(item));
            ValueKind::Array(items.iter().map(item).collect())
        }
        other => ValueKind::String(other.as_str().map_or(other.to_string(), str::to_owned)),
    }
}

impl<'a> MergedSettings<'a> {
    /// Merges the defaults and what the other layers say, each assignment over those before it.
    ///
    /// # Errors
    /// When a value cannot be held, which is never the user's doing.
    pub fn merge(
        schema: &'a Schema,
        defaults: Vec<Assignment>,
        mut said: Vec<Assignment>,
        problems: &mut Vec<SettingProblem>,
    ) -> Result<Self, SettingsError> {
        let default = |set: &Assignment| (set.key.clone(), set.value.clone());
        let defaults_by_key = defaults.iter().map(default).collect();
        let mut all = defaults;
        choose(schema, &mut all, &mut said, problems);
        let mut builder = Config::builder();
        let mut origins = BTreeMap::new();
        for set in all {
            origins.insert(set.origin.written(), set.origin.clone());
            builder = builder.add_source(set);
        }
        let merged = builder.build().map_err(broken)?;
        let mut values = BTreeMap::new();
        for leaf in &schema.leaves {
            let Some(found) = at(&merged.cache, &leaf.place()) else {
                continue;
            };
            let origin = found.origin().and_then(|origin| origins.get(origin));
            let value = found.clone().try_deserialize().map_err(broken)?;
            let origin = origin.cloned().unwrap_or(SettingOrigin::Default);
            values.insert(leaf.key.clone(), (value, origin));
        }
        Ok(Self {
            schema,
            merged,
            defaults: defaults_by_key,
            values,
        })
    }

    /// Whether a setting has a meaning as things stand: a number of a choice that was not made has none.
    fn counts(&self, leaf: &Leaf) -> bool {
        leaf.of.as_ref().is_none_or(|(choice, name)| {
            self.values
                .get(choice)
                .is_some_and(|(value, _)| value.as_str() == Some(name))
        })
    }

    /// Checks what the settings must be together, and hands them over.
    pub fn settings(self, mut problems: Vec<SettingProblem>) -> Result<Settings, SettingsError> {
        self.whole_groups(&mut problems);
        if !problems.is_empty() {
            return Err(SettingsError::Wrong(problems));
        }
        let whole = self.whole().map_err(broken)?;
        let mind: MindConfig = whole.get("mind").map_err(broken)?;
        let sensors = whole.get("sensors").map_err(broken)?;
        let session = whole.get("session").map_err(broken)?;
        let sampling = whole.get("sampling").map_err(broken)?;
        self.together(&mind, &mut problems);
        if problems.is_empty() {
            let list = self.list();
            Ok(Settings {
                session,
                sampling,
                mind,
                sensors,
                list,
            })
        } else {
            Err(SettingsError::Wrong(problems))
        }
    }

    fn whole_groups(&self, problems: &mut Vec<SettingProblem>) {
        let groups: BTreeSet<&String> = self
            .schema
            .leaves
            .iter()
            .filter_map(|leaf| leaf.group.as_ref())
            .collect();
        for group in groups {
            let leaves = self.schema.leaves.iter();
            let (set, missing): (Vec<&Leaf>, Vec<&Leaf>) = leaves
                .filter(|leaf| leaf.group.as_ref() == Some(group))
                .partition(|leaf| self.values.contains_key(&leaf.key));
            let Some((_, origin)) = set.last().and_then(|leaf| self.values.get(&leaf.key)) else {
                continue;
            };
            if !missing.is_empty() {
                let names = missing.iter().map(|leaf| last_part(&leaf.key).to_owned());
                problems.push(SettingProblem {
                    origin: origin.clone(),
                    key: group.clone(),
                    trouble: Trouble::Incomplete {
                        missing: names.collect(),
                    },
                    hint: Some("it is given whole or not at all".to_owned()),
                });
            }
        }
    }

    /// What only the whole shows: thresholds that lie the wrong way round, and anything else that the mind refuses.
    fn together(&self, mind: &MindConfig, problems: &mut Vec<SettingProblem>) {
        for gap in mind.gaps().iter().filter(|gap| !gap.kept) {
            let (above, below) = (format!("mind.{}", gap.above), format!("mind.{}", gap.below));
            // Whichever was moved is to blame; the default of the other was fine.
            let (key, other, relation) = match self.origin(&above) {
                SettingOrigin::Default => (&below, &above, "below"),
                _ => (&above, &below, "above"),
            };
            problems.push(SettingProblem {
                origin: self.origin(key),
                key: key.clone(),
                trouble: Trouble::Value {
                    value: self.shown(key),
                    expected: format!(
                        "a number {relation} {} ({})",
                        last_part(other),
                        self.shown(other)
                    ),
                },
                hint: Some(
                    "the way back must not be the way there, or the state would flutter".into(),
                ),
            });
        }
        if !problems.is_empty() {
            return;
        }
        let some_model = ModuleShape {
            module: Module::Thinker,
            layers: vec![0],
            experts: 1,
            k_trained: 1,
            norm_topk_prob: true,
            expert_bytes: 1,
            smaller: Vec::new(),
        };
        let whole = MindConfig {
            modules: vec![some_model],
            ..mind.clone()
        };
        if let Err(error) = whole.validate() {
            let key = match &error {
                ConfigError::Range { key, .. } => format!("mind.{key}"),
                _ => "mind".to_owned(),
            };
            problems.push(SettingProblem {
                origin: self.origin(&key),
                trouble: Trouble::Contradiction(error.to_string()),
                key,
                hint: None,
            });
        }
    }

    fn origin(&self, key: &str) -> SettingOrigin {
        let found = self.values.get(key);
        found.map_or(SettingOrigin::Default, |(_, origin)| origin.clone())
    }

    fn shown(&self, key: &str) -> String {
        let found = self.values.get(key);
        found.map_or("not set".to_owned(), |(value, _)| value.to_string())
    }

    /// What was merged, every choice with the settings that it has.
    fn whole(&self) -> Result<Config, config::ConfigError> {
        let mut whole = Config::builder().add_source(self.merged.clone());
        let of_choices = self.schema.leaves.iter().filter(|leaf| leaf.of.is_some());
        for leaf in of_choices.filter(|leaf| self.counts(leaf)) {
            if let Some((value, _)) = self.values.get(&leaf.key) {
                whole = whole.set_override(&leaf.key, kind(value))?;
            }
        }
        whole.build()
    }

    fn list(&self) -> Vec<Setting> {
        let mut list: Vec<Setting> = Vec::new();
        for leaf in self.schema.leaves.iter().filter(|leaf| self.counts(leaf)) {
            let set = self.values.get(&leaf.key);
            // A table that is absent is one line.
            if let (Some(group), None) = (&leaf.group, set) {
                if list.last().is_none_or(|last| last.key != *group) {
                    list.push(Setting {
                        key: group.clone(),
                        value: None,
                        default: None,
                        expected: format!("all of {}", self.schema.below(group).join(", ")),
                        origin: SettingOrigin::Default,
                    });
                }
                continue;
            }
            list.push(Setting {
                key: leaf.key.clone(),
                value: set.map(|(value, _)| value.clone()),
                default: self.defaults.get(&leaf.key).cloned(),
                expected: expected(&leaf.kind, leaf.rule),
                origin: self.origin(&leaf.key),
            });
        }
        list
    }
}

/// Setting a number of one choice chooses it: the choice is said just before the number. Appends what was said to `all`.
fn choose(
    schema: &Schema,
    all: &mut Vec<Assignment>,
    said: &mut Vec<Assignment>,
    problems: &mut Vec<SettingProblem>,
) {
    for set in said.drain(..) {
        let of = schema.leaf(&set.key).and_then(|leaf| leaf.of.as_ref());
        let chosen = of.and_then(|(choice, _)| all.iter().rfind(|other| other.key == *choice));
        if let (Some((choice, name)), Some(chosen)) = (of, chosen)
            && chosen.value.as_str() != Some(name)
        {
            // Variables have no order in which one could be the last word.
            if let (SettingOrigin::Environment { variable }, SettingOrigin::Environment { .. }) =
                (&chosen.origin, &set.origin)
            {
                problems.push(SettingProblem {
                    origin: set.origin.clone(),
                    key: choice.clone(),
                    trouble: Trouble::Contradiction(format!(
                        "{variable} says {}, this variable says {name}",
                        chosen.value
                    )),
                    hint: Some("unset one of them".to_owned()),
                });
            } else {
                all.push(Assignment {
                    key: choice.clone(),
                    place: choice.clone(),
                    value: Value::String(name.clone()),
                    origin: set.origin.clone(),
                });
            }
        }
        all.push(set);
    }
}

/// The value at a key.
fn at<'v>(root: &'v config::Value, key: &str) -> Option<&'v config::Value> {
    key.split('.')
        .try_fold(root, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
}

fn broken(error: config::ConfigError) -> SettingsError {
    SettingsError::Schema(error.to_string())
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
