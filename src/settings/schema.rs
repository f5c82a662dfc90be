//! Which settings there are and what they may be, read off the types that they fill: a new field is a new setting.

use std::collections::{BTreeMap, BTreeSet};

use sage_actors::config::{Bound, EvictionPolicy, MindConfig, RoutingPolicy, Towers};
use sage_actors::protocol::{Modality, Module, State};
use serde_reflection::{
    ContainerFormat, Format, Named, Registry, Tracer, TracerConfig, VariantFormat,
};

use crate::sensors::SensorSettings;

/// A value that depends on the model and the machine.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its key.
    pub key: &'static str,
    /// What it is found from.
    pub from: &'static str,
}

/// What nobody sets.
pub const FOUND_AT_START: [Found; 3] = [
    Found {
        key: "mind.modules",
        from: "the checkpoint's sparse layers",
    },
    Found {
        key: "mind.towers",
        from: "the checkpoint's towers, where something is to be heard or seen",
    },
    Found {
        key: "mind.pool_bytes",
        from: "the limit, less what must be in memory",
    },
];

/// Types of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A boolean.
    Flag,
    /// An integer.
    Whole,
    /// A floating-point number; an integer will do.
    Number,
    /// So many numbers.
    Numbers(usize),
    /// One of these names.
    Choice(Vec<String>),
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its key.
    pub key: String,
    /// Its type.
    pub kind: Kind,
    /// What its numbers must be.
    pub bound: Option<Bound>,
    /// For a number that belongs to one choice: the choice's key and name.
    pub of: Option<(String, String)>,
    /// The table that is whole or absent, if it belongs to one.
    pub group: Option<String>,
}

/// All settings, in the order of the types' fields.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The settings.
    pub leaves: Vec<Leaf>,
    /// Keys of tables that hold settings.
    pub tables: BTreeSet<String>,
}

impl Schema {
    /// Of [`MindConfig`], under `mind`, and [`SensorSettings`], under `sensors`.
    ///
    /// # Errors
    /// When the types cannot be described; a test holds that they can.
    pub fn of_all() -> Result<Self, String> {
        let registry = registry().map_err(|error| error.to_string())?;
        // Every number that can be set, with what it must be.
        let all = MindConfig {
            hold: Some(MindConfig::default().budgets.focus),
            ..MindConfig::default()
        };
        let mut bounds: BTreeMap<_, _> = all
            .numbers()
            .into_iter()
            .map(|number| (format!("mind.{}", number.key), number.bound))
            .collect();
        bounds.insert("sensors.every_ticks".to_owned(), Bound::Row);
        let mut walk = Walk {
            registry: &registry,
            bounds,
            schema: Self {
                leaves: Vec::new(),
                tables: BTreeSet::new(),
            },
        };
        walk.format("mind", &Format::TypeName("MindConfig".into()), None)?;
        walk.format("sensors", &Format::TypeName("SensorSettings".into()), None)?;
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

fn registry() -> serde_reflection::Result<Registry> {
    let mut tracer = Tracer::new(TracerConfig::default());
    // An enum is described only if it is traced by itself.
    tracer.trace_simple_type::<RoutingPolicy>()?;
    tracer.trace_simple_type::<EvictionPolicy>()?;
    tracer.trace_simple_type::<State>()?;
    tracer.trace_simple_type::<Module>()?;
    tracer.trace_simple_type::<Modality>()?;
    tracer.trace_simple_type::<Towers>()?;
    tracer.trace_simple_type::<MindConfig>()?;
    tracer.trace_simple_type::<SensorSettings>()?;
    tracer.registry()
}

struct Walk<'a> {
    registry: &'a Registry,
    bounds: BTreeMap<String, Bound>,
    schema: Schema,
}

impl Walk<'_> {
    fn format(&mut self, key: &str, format: &Format, group: Option<&str>) -> Result<(), String> {
        if FOUND_AT_START.iter().any(|found| found.key == key) {
            return Ok(());
        }
        match format {
            Format::Bool => self.leaf(key, Kind::Flag, group),
            Format::U8 | Format::U16 | Format::U32 | Format::U64 => {
                self.leaf(key, Kind::Whole, group);
            }
            Format::F32 | Format::F64 => self.leaf(key, Kind::Number, group),
            Format::TupleArray { content, size }
                if matches!(**content, Format::F32 | Format::F64) =>
            {
                self.leaf(key, Kind::Numbers(*size), group);
            }
            Format::Option(inner) => {
                let whole = matches!(&**inner, Format::TypeName(name)
                    if matches!(self.registry.get(name), Some(ContainerFormat::Struct(_))));
                return self.format(key, inner, whole.then_some(key).or(group));
            }
            Format::TypeName(name) => return self.container(key, name, group),
            other => return Err(format!("{key} has a type that no setting has: {other:?}")),
        }
        Ok(())
    }

    fn container(&mut self, key: &str, name: &str, group: Option<&str>) -> Result<(), String> {
        let registry = self.registry;
        match registry.get(name) {
            Some(ContainerFormat::Struct(fields)) => {
                self.schema.tables.insert(key.to_owned());
                self.fields(key, fields, group)
            }
            Some(ContainerFormat::Enum(variants)) => {
                let names = variants.values().map(|variant| variant.name.clone());
                self.leaf(key, Kind::Choice(names.collect()), group);
                for variant in variants.values() {
                    let VariantFormat::Struct(fields) = &variant.value else {
                        continue;
                    };
                    let from = self.schema.leaves.len();
                    let below = format!("{key}.{}", variant.name);
                    self.fields(&below, fields, group)?;
                    for leaf in &mut self.schema.leaves[from..] {
                        leaf.of = Some((key.to_owned(), variant.name.clone()));
                    }
                    self.schema.tables.insert(below);
                }
                Ok(())
            }
            other => Err(format!("{key} has a type that no setting has: {other:?}")),
        }
    }

    fn fields(
        &mut self,
        key: &str,
        fields: &[Named<Format>],
        group: Option<&str>,
    ) -> Result<(), String> {
        for field in fields {
            self.format(&format!("{key}.{}", field.name), &field.value, group)?;
        }
        Ok(())
    }

    fn leaf(&mut self, key: &str, kind: Kind, group: Option<&str>) {
        self.schema.leaves.push(Leaf {
            key: key.to_owned(),
            kind,
            bound: self.bounds.get(key).copied(),
            of: None,
            group: group.map(str::to_owned),
        });
    }
}
