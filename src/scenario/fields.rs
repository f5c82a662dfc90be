//! Reading a table key by key: every value with its place, every mistake noted, none the last.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::language::ScenarioKey;
use crate::core::Limit;
use crate::input::{Place, Problem, Source, known, short, shown};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

/// What is wrong with one text so far.
pub struct ScenarioProblems<'a> {
    /// The text.
    pub source: Source<'a>,
    /// The mistakes, as they were found.
    pub problems: Vec<Problem>,
}

impl ScenarioProblems<'_> {
    /// Notes a mistake at a place.
    pub fn note(
        &mut self,
        span: &Range<usize>,
        entry: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let problem = self.source.problem(span, entry, message, hint);
        self.problems.push(problem);
    }
}

/// One table.
pub struct Fields<'t, 'i> {
    /// How messages call it.
    pub entry: String,
    /// Where it stands: its header, or itself where it is written in a line.
    pub span: Range<usize>,
    keys: &'static [ScenarioKey],
    values: BTreeMap<&'t str, (Range<usize>, &'t toml::Spanned<DeValue<'i>>)>,
}

impl<'t, 'i> Fields<'t, 'i> {
    /// Notes keys that `keys` does not have.
    pub fn new(
        table: &'t DeTable<'i>,
        keys: &'static [ScenarioKey],
        span: Range<usize>,
        entry: String,
        report: &mut ScenarioProblems<'_>,
    ) -> Self {
        let mut values = BTreeMap::new();
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        for (name, value) in table {
            let (name, span) = (name.get_ref().as_ref(), name.span());
            if names.contains(&name) {
                values.insert(name, (span, value));
            } else {
                let message = format!("there is no key `{}` here", short(name));
                report.note(&span, &entry, message, Some(known(name, &names)));
            }
        }
        Self {
            entry,
            span,
            keys,
            values,
        }
    }

    /// Whether the key is written, rightly or wrongly.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Where the key is written, else where the table is.
    pub fn key_span(&self, name: &str) -> Range<usize> {
        let written = self.values.get(name);
        written.map_or(self.span.clone(), |(span, _)| span.clone())
    }

    /// Where the value of each written key stands.
    pub fn places(&self, source: Source<'_>) -> BTreeMap<&'static str, Place> {
        let written = self.keys.iter().filter_map(|key| {
            let (_, value) = self.values.get(key.name)?;
            Some((key.name, source.place(value.span().start)))
        });
        written.collect()
    }

    /// The value as it stands.
    pub fn raw(&self, name: &str) -> Option<&'t toml::Spanned<DeValue<'i>>> {
        self.values.get(name).map(|(_, value)| *value)
    }

    /// The value of a key that may be left out; notes one that `read` does not take.
    pub fn optional<T>(
        &self,
        name: &str,
        report: &mut ScenarioProblems<'_>,
        read: impl Fn(&DeValue<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        let (_, value) = self.values.get(name)?;
        let span = value.span();
        match read(value.get_ref()) {
            Some(value) => Some(At { value, span }),
            None => {
                self.refuse(name, value.get_ref(), &span, report);
                None
            }
        }
    }

    /// The value of a key that must be there.
    pub fn required<T>(
        &self,
        name: &str,
        report: &mut ScenarioProblems<'_>,
        read: impl Fn(&DeValue<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        if !self.has(name) {
            let message = format!("needs `{name}`: {}", self.expected(name));
            report.note(&self.span, &self.entry, message, None);
        }
        self.optional(name, report, read)
    }

    /// Notes that a value is not what its key may be.
    pub fn refuse(
        &self,
        name: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        report: &mut ScenarioProblems<'_>,
    ) {
        let expected = self.expected(name);
        let message = format!("`{name}` is {}; expected {expected}", shown(value));
        report.note(span, &self.entry, message, None);
    }

    fn expected(&self, name: &str) -> &'static str {
        let key = self.keys.iter().find(|key| key.name == name);
        key.map_or("something else", |key| key.expected)
    }
}

/// A text.
pub fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A whole number in bounds.
pub fn whole(low: u64, high: u64) -> impl Fn(&DeValue<'_>) -> Option<u64> {
    move |value| {
        let integer = value.as_integer()?;
        let whole = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        (low..=high).contains(&whole).then_some(whole)
    }
}

/// A finite number.
pub fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()? as f64
        }
        DeValue::Float(float) => float.as_str().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// Two numbers.
pub fn pair(value: &DeValue<'_>) -> Option<(f64, f64)> {
    match value.as_array()?.iter().collect::<Vec<_>>().as_slice() {
        [first, second] => Some((number(first.get_ref())?, number(second.get_ref())?)),
        _ => None,
    }
}

pub(super) fn size(value: &DeValue<'_>) -> Option<Limit> {
    value.as_str().and_then(|size| size.parse().ok())
}

/// The tables of an array, each with its place.
pub(super) fn tables<'t, 'i>(
    fields: &Fields<'t, 'i>,
    name: &str,
    report: &mut ScenarioProblems<'_>,
) -> Vec<(&'t DeTable<'i>, Range<usize>)> {
    let Some(value) = fields.raw(name) else {
        return Vec::new();
    };
    let Some(list) = value.get_ref().as_array() else {
        fields.refuse(name, value.get_ref(), &value.span(), report);
        return Vec::new();
    };
    let mut tables = Vec::new();
    for item in list {
        match item.get_ref() {
            DeValue::Table(table) => tables.push((table, item.span())),
            other => fields.refuse(name, other, &item.span(), report),
        }
    }
    tables
}
