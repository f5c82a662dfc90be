//! Which settings there are and what they may be: `config/default.toml` declares them, the mind says what its numbers must be.

use std::collections::{BTreeMap, BTreeSet};

use sage_actors::config::{
    Bound, EvictionPolicy, MindConfig, Named, Retention, RoutingPolicy, TowerPolicy,
};
use sage_actors::protocol::State;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::kinds::{Rule, SettingKind};
use super::session::{AUTO, SESSION, keys};
use crate::input::{KvPrecision, Source, shown};

/// A value that depends on the model and the machine.
#[derive(Clone, Copy, Debug)]
pub struct FoundSetting {
    pub key: &'static str,
    /// What it is found from.
    pub from: &'static str,
}

/// What nobody sets.
pub const FOUND_AT_START: [FoundSetting; 3] = [
    FoundSetting {
        key: "mind.modules",
        from: "the checkpoint's sparse layers",
    },
    FoundSetting {
        key: "mind.towers",
        from: "the checkpoint's towers, where something is to be heard or seen",
    },
    FoundSetting {
        key: "mind.pool_bytes",
        from: "the limit, less what must be in memory",
    },
];

/// The settings of a choice that is not made have no place beside its name, so they are merged in a table of their own.
const OF_CHOICES: &str = "of_choices";

#[derive(Clone, Debug)]
pub struct Leaf {
    pub key: String,
    pub kind: SettingKind,
    /// What its numbers must be.
    pub rule: Rule,
    /// For a number that belongs to one choice: the choice's key and name.
    pub of: Option<(String, String)>,
    /// The table that is whole or absent, if it belongs to one.
    pub group: Option<String>,
}

impl Leaf {
    /// Where a setting is merged.
    pub fn place(&self) -> String {
        match self.of {
            Some(_) => format!("{OF_CHOICES}.{}", self.key),
            None => self.key.clone(),
        }
    }
}

/// All settings, in the order of the defaults' file.
#[derive(Clone, Debug)]
pub struct Schema {
    pub leaves: Vec<Leaf>,
    /// Keys of tables that hold settings.
    pub tables: BTreeSet<String>,
}

impl Schema {
    /// Of the defaults' file: every key in it is a setting of the type of its value. What may be left out is added.
    ///
    /// # Errors
    /// When the file cannot be read or a key in it cannot be a setting; a test holds that it can.
    pub fn of_defaults(defaults: &Source<'_>) -> Result<Self, String> {
        let table = defaults
            .toml()
            .map_err(|problems| problems.first().map_or(String::new(), ToString::to_string))?;
        let mut walk = Walk {
            bounds: bounds(),
            schema: Self {
                leaves: Vec::new(),
                tables: BTreeSet::new(),
            },
        };
        walk.table("", table.get_ref())?;
        walk.held();
        Ok(walk.schema)
    }

    /// The setting of this key.
    pub fn leaf(&self, key: &str) -> Option<&Leaf> {
        self.leaves.iter().find(|leaf| leaf.key == key)
    }

    /// The settings that belong to one name of a choice.
    pub fn of_choice<'a>(
        &'a self,
        choice: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Leaf> {
        self.leaves.iter().filter(move |leaf| {
            leaf.of
                .as_ref()
                .is_some_and(|(of, variant)| of == choice && variant == name)
        })
    }

    /// Keys directly below a table, by their last part; of the root for an empty key.
    pub fn below(&self, table: &str) -> Vec<&str> {
        let keys = self.leaves.iter().map(|leaf| leaf.key.as_str());
        let keys = keys.chain(self.tables.iter().map(String::as_str));
        let mut below: Vec<&str> = keys
            .filter_map(|key| match table {
                "" => Some(key),
                _ => key.strip_prefix(table)?.strip_prefix('.'),
            })
            .filter(|rest| !rest.contains('.'))
            .collect();
        below.sort_unstable();
        below.dedup();
        below
    }
}

/// What the mind's and the sensors' numbers must be.
fn bounds() -> BTreeMap<String, Bound> {
    let numbers = MindConfig::default().numbers().into_iter();
    let of_mind = numbers.map(|number| (format!("mind.{}", number.key), number.bound));
    of_mind
        .chain([("sensors.every_ticks".to_owned(), Bound::Row)])
        .collect()
}

/// The names of a setting that is one of several.
fn names(key: &str) -> Option<Vec<&'static str>> {
    match key {
        "mind.routing" => Some(RoutingPolicy::names()),
        "mind.memory.retention" => Some(Retention::names()),
        "mind.eviction" => Some(EvictionPolicy::names()),
        _ if key == keys::KV_PRECISION.name => {
            let precisions = KvPrecision::ALL.map(KvPrecision::name);
            Some(std::iter::once(AUTO).chain(precisions).collect())
        }
        _ if key.ends_with(".towers") => Some(TowerPolicy::names()),
        _ => None,
    }
}

struct Walk {
    bounds: BTreeMap<String, Bound>,
    schema: Schema,
}

impl Walk {
    fn table(&mut self, at: &str, table: &DeTable<'_>) -> Result<(), String> {
        for (name, value) in in_order(table) {
            let key = match at {
                "" => name.get_ref().to_string(),
                _ => format!("{at}.{}", name.get_ref()),
            };
            self.entry(&key, value.get_ref())?;
        }
        Ok(())
    }

    fn entry(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        if let Some(names) = names(key) {
            self.leaf(key, SettingKind::Choice(names));
            let DeValue::Table(chosen) = value else {
                return Ok(());
            };
            // `{ horizon = { half_life_tokens = 12.0 } }`: settings of that choice alone.
            let from = self.schema.leaves.len();
            self.table(key, chosen)?;
            for leaf in &mut self.schema.leaves[from..] {
                let name = leaf.key[key.len() + 1..].split('.').next();
                leaf.of = name.map(|name| (key.to_owned(), name.to_owned()));
            }
            return Ok(());
        }
        let declared = SESSION.iter().find(|(name, ..)| *name == key);
        match (declared, value) {
            (Some((_, kind, _)), _) => self.leaf(key, kind.clone()),
            (None, DeValue::Table(table)) => {
                self.schema.tables.insert(key.to_owned());
                self.table(key, table)?;
            }
            (None, DeValue::Boolean(_)) => self.leaf(key, SettingKind::Flag),
            (None, DeValue::Integer(_)) => self.leaf(key, SettingKind::Whole),
            (None, DeValue::Float(_)) => self.leaf(key, SettingKind::Number),
            (None, DeValue::Array(numbers)) => self.leaf(key, SettingKind::Numbers(numbers.len())),
            (None, other) => return Err(format!("{key} is no setting: {}", shown(other))),
        }
        Ok(())
    }

    /// The budgets that the mind may be held to: the keys of a state's budgets, all of them or none.
    fn held(&mut self) {
        let leaves = &self.schema.leaves;
        let like = leaves.iter().filter_map(|leaf| {
            let name = leaf.key.strip_prefix("mind.budgets.focus.")?;
            Some(Leaf {
                key: format!("mind.hold.{name}"),
                group: Some("mind.hold".to_owned()),
                ..leaf.clone()
            })
        });
        let held: Vec<Leaf> = like.collect();
        let end = leaves
            .iter()
            .rposition(|leaf| leaf.key.starts_with("mind."));
        let end = end.map_or(leaves.len(), |last| last + 1);
        // That is the state in which it is held, if not in Focus.
        let state = Leaf {
            key: "mind.hold_state".to_owned(),
            kind: SettingKind::Choice(State::names()),
            rule: Rule::Any,
            of: None,
            group: None,
        };
        self.schema
            .leaves
            .splice(end..end, held.into_iter().chain([state]));
        self.schema.tables.insert("mind.hold".to_owned());
    }

    fn leaf(&mut self, key: &str, kind: SettingKind) {
        let declared = SESSION.iter().find(|(name, ..)| *name == key);
        let of_mind = self.bounds.get(key).copied().map(Rule::Mind);
        self.schema.leaves.push(Leaf {
            key: key.to_owned(),
            kind,
            rule: declared
                .map(|(_, _, rule)| *rule)
                .or(of_mind)
                .unwrap_or(Rule::Any),
            of: None,
            group: None,
        });
    }
}

/// The entries of a table as they were written: the map is sorted by name.
pub fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
