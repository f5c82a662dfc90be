//! Putting the layers together.

use std::collections::{BTreeMap, BTreeSet};

use sage_actors::config::{ConfigError, MindConfig, ModuleShape};
use sage_actors::protocol::Module;
use serde::Deserialize;
use toml::{Table, Value};

use super::layers::Assignment;
use super::schema::{Kind, Leaf, Schema};
use super::{Origin, Setting, SettingProblem, Settings, SettingsError, Trouble, expected};

/// The last word on every setting so far.
pub struct Resolved<'a> {
    schema: &'a Schema,
    defaults: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, Origin)>,
}

impl<'a> Resolved<'a> {
    /// With the defaults alone.
    pub fn defaults(schema: &'a Schema, assignments: Vec<Assignment>) -> Self {
        let values: BTreeMap<_, _> = assignments
            .into_iter()
            .map(|set| (set.key, (set.value, set.origin)))
            .collect();
        Self {
            schema,
            defaults: values
                .iter()
                .map(|(key, (value, _))| (key.clone(), value.clone()))
                .collect(),
            values,
        }
    }

    /// Applies what the layers say, in their order.
    pub fn assign(&mut self, assignments: Vec<Assignment>, problems: &mut Vec<SettingProblem>) {
        for set in assignments {
            if let Some((choice, name)) = self.schema.leaf(&set.key).and_then(|l| l.of.clone()) {
                self.choose(&choice, &name, &set, problems);
            }
            self.values.insert(set.key, (set.value, set.origin));
        }
    }

    /// Setting a number of one choice chooses it.
    fn choose(
        &mut self,
        choice: &str,
        name: &str,
        set: &Assignment,
        problems: &mut Vec<SettingProblem>,
    ) {
        let chosen = self.values.get(choice);
        if chosen.is_some_and(|(value, _)| value.as_str() == Some(name)) {
            return;
        }
        // Variables have no order in which one could be the last word.
        if let (Some((value, Origin::Environment { variable })), Origin::Environment { .. }) =
            (chosen, &set.origin)
        {
            problems.push(SettingProblem {
                origin: set.origin.clone(),
                key: choice.to_owned(),
                trouble: Trouble::Contradiction(format!(
                    "{variable} says {value}, this variable says {name}"
                )),
                hint: Some("unset one of them".to_owned()),
            });
            return;
        }
        let value = (Value::String(name.to_owned()), set.origin.clone());
        self.values.insert(choice.to_owned(), value);
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
        let mind: MindConfig = self.read("mind")?;
        let sensors = self.read("sensors")?;
        self.together(&mind, &mut problems);
        if problems.is_empty() {
            let list = self.list();
            Ok(Settings {
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
                Origin::Default => (&below, &above, "below"),
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

    fn origin(&self, key: &str) -> Origin {
        let found = self.values.get(key);
        found.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn shown(&self, key: &str) -> String {
        let found = self.values.get(key);
        found.map_or("not set".to_owned(), |(value, _)| value.to_string())
    }

    /// The settings of one table at the top, as their type.
    fn read<T: for<'de> Deserialize<'de>>(&self, top: &str) -> Result<T, SettingsError> {
        T::deserialize(Value::Table(self.table(top)))
            .map_err(|error| SettingsError::Schema(error.to_string()))
    }

    /// The table below `top`.
    fn table(&self, top: &str) -> Table {
        let mut root = Table::new();
        let below = |leaf: &&Leaf| leaf.key.split('.').next() == Some(top);
        for leaf in self.schema.leaves.iter().filter(below) {
            let with_settings = match (&leaf.kind, self.values.get(&leaf.key)) {
                (Kind::Choice(_), Some((Value::String(name), _))) => {
                    self.schema.of_choice(&leaf.key, name).next().is_some()
                }
                _ => false,
            };
            // A choice with settings of its own is the table that they make.
            if let Some((value, _)) = self.values.get(&leaf.key)
                && self.counts(leaf)
                && !with_settings
            {
                let path: Vec<&str> = leaf.key.split('.').skip(1).collect();
                insert(&mut root, &path, value.clone());
            }
        }
        root
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
                        origin: Origin::Default,
                    });
                }
                continue;
            }
            list.push(Setting {
                key: leaf.key.clone(),
                value: set.map(|(value, _)| value.clone()),
                default: self.defaults.get(&leaf.key).cloned(),
                expected: expected(&leaf.kind, leaf.bound),
                origin: self.origin(&leaf.key),
            });
        }
        list
    }
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn insert(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = table
                .entry(*first)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
