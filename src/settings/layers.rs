//! Reading one layer: a file, a variable, an argument becomes assignments and mistakes.

use std::ffi::OsStr;
use std::ops::Range;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::kinds::{Rule, SettingKind, expected};
use super::said::SettingOverride;
use super::schema::{FOUND_AT_START, Leaf, Schema, in_order};
use super::session::{AUTO, SettingValue};
use super::{SettingOrigin, SettingProblem, SettingsError, Trouble};
use crate::input::{Limit, SizeError, Source, known, nearest, shown};

/// What variables that are settings begin with; two underscores stand between levels.
const PREFIX: &str = "SAGE_";
const LEVEL: &str = "__";

/// One value for one setting.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Key of the setting.
    pub key: String,
    /// The key under which it is merged.
    pub place: String,
    /// Of the setting's type, within its bounds.
    pub value: Value,
    /// Where it was written.
    pub origin: SettingOrigin,
}

/// Collects what the layers say.
pub struct SettingsReader<'a> {
    schema: &'a Schema,
    assignments: Vec<Assignment>,
    problems: Vec<SettingProblem>,
}

type At<'o> = &'o dyn Fn(&Range<usize>) -> SettingOrigin;

impl<'a> SettingsReader<'a> {
    /// Of nothing so far.
    pub fn new(schema: &'a Schema) -> Self {
        Self {
            schema,
            assignments: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// What was said, and what is wrong with it.
    pub fn into_parts(self) -> (Vec<Assignment>, Vec<SettingProblem>) {
        (self.assignments, self.problems)
    }

    /// What was said.
    ///
    /// # Errors
    /// When anything is wrong with it.
    pub fn finish(self) -> Result<Vec<Assignment>, SettingsError> {
        match self.problems.is_empty() {
            true => Ok(self.assignments),
            false => Err(SettingsError::Wrong(self.problems)),
        }
    }

    pub fn file(&mut self, source: &Source<'_>, at: impl Fn(&Range<usize>) -> SettingOrigin) {
        match source.toml() {
            Ok(table) => self.table("", table.get_ref(), &at),
            Err(problems) => {
                for problem in problems {
                    let origin = SettingOrigin::File(problem.place);
                    self.wrong(origin, "", Trouble::Syntax(problem.message), None);
                }
            }
        }
    }

    /// An environment variable; most are none of ours.
    pub fn variable(&mut self, name: &OsStr, value: &OsStr) {
        let variable = name.to_string_lossy().into_owned();
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            return;
        };
        let origin = SettingOrigin::Environment {
            variable: variable.clone(),
        };
        if !rest.contains(LEVEL) {
            // Not ours by its form, but who writes this means a setting.
            if let Some(key) = self.written_flat(rest) {
                let name = PREFIX.to_owned() + &key.replace('.', LEVEL).to_uppercase();
                let hint = format!("two underscores between levels: {name}");
                self.wrong(
                    origin,
                    &key,
                    Trouble::Syntax(format!("`{key}` is not set by this name")),
                    Some(hint),
                );
            }
            return;
        }
        let key = rest.to_lowercase().replace(LEVEL, ".");
        match value.to_str() {
            Some(text) => self.text(&key, text, origin),
            None => {
                let trouble = Trouble::Syntax("its value is not UTF-8 text".to_owned());
                self.wrong(origin, &key, trouble, None);
            }
        }
    }

    /// `KEY=VALUE`.
    pub fn argument(&mut self, argument: &str) {
        let origin = SettingOrigin::CommandLine {
            argument: argument.to_owned(),
        };
        match argument.split_once('=') {
            Some((key, value)) => self.text(key.trim(), value, origin),
            None => {
                let trouble = Trouble::Syntax("expected KEY=VALUE".to_owned());
                let hint = "for example --set mind.budgets.wake.f=0.75".to_owned();
                self.wrong(origin, argument, trouble, Some(hint));
            }
        }
    }

    /// What an option, a scenario or a program says.
    pub fn said(&mut self, said: &SettingOverride) {
        let at = |_: &Range<usize>| said.origin.clone();
        let text = said.value.to_string();
        match DeValue::parse(&text) {
            Ok(value) => self.entry(said.key, &(0..0), value.get_ref(), &(0..0), &at),
            Err(error) => {
                let trouble = Trouble::Syntax(error.message().to_owned());
                self.wrong(said.origin.clone(), said.key, trouble, None);
            }
        }
    }

    /// A value in text: TOML, or a bare word.
    fn text(&mut self, key: &str, text: &str, origin: SettingOrigin) {
        let at = |_: &Range<usize>| origin.clone();
        let none = 0..0;
        match DeValue::parse(text.trim()) {
            Ok(value) => self.entry(key, &none, value.get_ref(), &none, &at),
            Err(_) => {
                let word = DeValue::String(text.trim().into());
                self.entry(key, &none, &word, &none, &at);
            }
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, at: At<'_>) {
        for (key, value) in in_order(table) {
            let path = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            self.entry(&path, &key.span(), value.get_ref(), &value.span(), at);
        }
    }

    fn entry(
        &mut self,
        key: &str,
        key_span: &Range<usize>,
        value: &DeValue<'_>,
        value_span: &Range<usize>,
        at: At<'_>,
    ) {
        let schema = self.schema;
        if let Some(leaf) = schema.leaf(key) {
            match value {
                DeValue::Table(table) if matches!(leaf.kind, SettingKind::Choice(_)) => {
                    self.choice(leaf, table, value_span, at);
                }
                value => self.leaf(leaf, value, at(value_span)),
            }
        } else if schema.tables.contains(key) {
            match value {
                DeValue::Table(table) => self.table(key, table, at),
                value => {
                    let trouble = Trouble::Value {
                        value: shown(value),
                        expected: "a table of settings".to_owned(),
                    };
                    let hint = format!("settings in it: {}", schema.below(key).join(", "));
                    self.wrong(at(value_span), key, trouble, Some(hint));
                }
            }
        } else if let Some(found) = found_at_start(key) {
            let trouble = Trouble::Found { from: found };
            self.wrong(at(key_span), key, trouble, None);
        } else {
            let hint = self.hint_for(key);
            self.wrong(at(key_span), key, Trouble::Unknown, Some(hint));
        }
    }

    /// `{ horizon = { half_life_tokens = 12.0 } }`: a name with settings of its own.
    fn choice(&mut self, leaf: &Leaf, table: &DeTable<'_>, span: &Range<usize>, at: At<'_>) {
        let with_settings = |name: &str| self.schema.of_choice(&leaf.key, name).next().is_some();
        match table.iter().collect::<Vec<_>>().as_slice() {
            [(name, inner)] if with_settings(name.get_ref()) => {
                let key = format!("{}.{}", leaf.key, name.get_ref());
                self.assign(
                    leaf,
                    Value::String(name.get_ref().to_string()),
                    at(&name.span()),
                );
                self.entry(&key, &name.span(), inner.get_ref(), &inner.span(), at);
            }
            _ => {
                let trouble = Trouble::Value {
                    value: "a table".to_owned(),
                    expected: expected(&leaf.kind, Rule::Any),
                };
                self.wrong(at(span), &leaf.key, trouble, None);
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf, value: &DeValue<'_>, origin: SettingOrigin) {
        if let Some(value) = typed(leaf, value) {
            return self.assign(leaf, value, origin);
        }
        let hint = match (value, &leaf.kind) {
            (DeValue::String(text), SettingKind::Choice(names)) => {
                nearest(text, names.iter().copied()).map(|name| format!("did you mean `{name}`?"))
            }
            (_, SettingKind::Limit) => {
                limit(value)
                    .and_then(Result::err)
                    .and_then(|error| match error {
                        SizeError::NoUnit(_) => Some(error.to_string()),
                        _ => None,
                    })
            }
            (DeValue::String(text), _) => DeValue::parse(text.trim())
                .is_ok_and(|inner| typed(leaf, inner.get_ref()).is_some())
                .then(|| "write it without quotes".to_owned()),
            _ => None,
        };
        let trouble = Trouble::Value {
            value: shown(value),
            expected: match origin {
                // Its name says of what it is a number.
                SettingOrigin::Option { .. } | SettingOrigin::Program { .. }
                    if !leaf.rule.words().is_empty() =>
                {
                    leaf.rule.words().to_owned()
                }
                _ => expected(&leaf.kind, leaf.rule),
            },
        };
        self.wrong(origin, &leaf.key, trouble, hint);
    }

    fn assign(&mut self, leaf: &Leaf, value: Value, origin: SettingOrigin) {
        self.assignments.push(Assignment {
            key: leaf.key.clone(),
            place: leaf.place(),
            value,
            origin,
        });
    }

    fn wrong(&mut self, origin: SettingOrigin, key: &str, trouble: Trouble, hint: Option<String>) {
        self.problems.push(SettingProblem {
            origin,
            key: key.to_owned(),
            trouble,
            hint,
        });
    }

    /// What may have been meant by an unknown key: a neighbour of a like name, a like name elsewhere, or any neighbour.
    fn hint_for(&self, key: &str) -> String {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let siblings = self.schema.below(table);
        if !siblings.is_empty() && nearest(name, siblings.iter().copied()).is_some() {
            return known(name, &siblings);
        }
        let keys: Vec<&str> = self
            .schema
            .leaves
            .iter()
            .map(|leaf| leaf.key.as_str())
            .collect();
        let last = |key: &&str| key.rsplit('.').next() == Some(name);
        let elsewhere = keys.iter().copied().find(last);
        let found = elsewhere.or_else(|| nearest(key, keys.iter().copied()));
        match found {
            Some(key) => format!("did you mean `{key}`?"),
            None if siblings.is_empty() => "`sage config` lists every setting".to_owned(),
            None => known(name, &siblings),
        }
    }

    /// The key that a variable with single underscores spells.
    fn written_flat(&self, rest: &str) -> Option<String> {
        let flat = |text: &str| text.to_lowercase().replace(['_', '.'], "");
        let written = flat(rest);
        let mut keys = self.schema.leaves.iter().map(|leaf| &leaf.key);
        keys.find(|key| flat(key) == written).cloned()
    }
}

/// What a key below or at one that is found at start is found from.
fn found_at_start(key: &str) -> Option<&'static str> {
    let is = |found: &str| {
        key.strip_prefix(found)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    FOUND_AT_START
        .iter()
        .find(|found| is(found.key))
        .map(|found| found.from)
}

/// The value as the setting's type, if it is one and within its bounds.
fn typed(leaf: &Leaf, value: &DeValue<'_>) -> Option<Value> {
    let admitted = |number: &f64| leaf.rule.admits(*number);
    match &leaf.kind {
        SettingKind::Limit => match value.as_str() {
            Some(text) if text.trim() == AUTO => Some(Value::String(AUTO.to_owned())),
            _ => {
                let limit = limit(value)?.ok()?;
                Some(Value::String(limit.to_string()))
            }
        },
        SettingKind::WholeOrAuto if value.as_str() == Some(AUTO) => {
            Some(Value::String(AUTO.to_owned()))
        }
        SettingKind::Flag => value.as_bool().map(Value::Boolean),
        SettingKind::Whole | SettingKind::WholeOrAuto => match whole(value) {
            Some(whole) => admitted(&(whole as f64)).then_some(Value::Integer(whole)),
            None => {
                let large = large(value)?;
                admitted(&(large as f64)).then(|| large.written())
            }
        },
        SettingKind::Number => number(value).filter(admitted).map(Value::Float),
        SettingKind::Numbers(count) => {
            let items = value.as_array().filter(|items| items.len() == *count)?;
            let items = items
                .iter()
                .map(|item| number(item.get_ref()).filter(admitted).map(Value::Float));
            items.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        SettingKind::Choice(names) => {
            let name = value.as_str()?;
            names
                .contains(&name)
                .then(|| Value::String(name.to_owned()))
        }
    }
}

/// What a value says of a memory limit; none where it is neither text nor a number.
fn limit(value: &DeValue<'_>) -> Option<Result<Limit, SizeError>> {
    match value {
        DeValue::String(text) => Some(text.parse()),
        DeValue::Integer(_) => Some(whole(value)?.to_string().parse()),
        DeValue::Float(number) => Some(number.as_str().parse()),
        _ => None,
    }
}

/// A number beyond TOML's integers, which is kept as text.
fn large(value: &DeValue<'_>) -> Option<u64> {
    let number = match value {
        DeValue::String(text) => text.parse().ok()?,
        DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok()?,
        _ => return None,
    };
    (number > i64::MAX as u64).then_some(number)
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(_) => whole(value).map(|whole| whole as f64),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}
