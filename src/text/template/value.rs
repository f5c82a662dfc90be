//! Lists and mappings as a template sees them, and what a rendering may cost.
//!
//! The engine's fuel counts instructions and the bytes of what operators make, but not how often one operator walks a
//! value: a list of two references to a list of two references … has few parts and no end of paths, and comparing, printing
//! or copying it takes for ever. So every list and mapping of a template is one of ours: each says how deep it is when it is
//! made, and each step through it is paid for. [`keep`] is the only gate by which a value gets into a variable, a list or
//! a mapping.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

/// Lists in lists at most; JSON that is read has 128.
const MAX_DEPTH: usize = 200;

/// Bytes that one unit pays for, as in the engine's fuel.
pub(super) const UNIT_BYTES: usize = 64;

thread_local! {
    /// Steps that are left to the rendering on this thread.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// What a rendering unwinds with when its steps are used up: an operator of the engine has no other way to end early.
pub(super) struct Exhausted;

/// Begins a rendering of so many steps on this thread.
pub(super) fn allow(steps: u64) {
    LEFT.set(steps);
}

/// Pays for steps; unwinds when there are none left.
pub(super) fn spend(steps: usize) {
    match LEFT.get().checked_sub(steps as u64) {
        Some(left) => LEFT.set(left),
        None => std::panic::resume_unwind(Box::new(Exhausted)),
    }
}

/// Pays for the bytes of a text.
fn spend_bytes(bytes: usize) {
    spend(1 + bytes / UNIT_BYTES);
}

/// A list or a tuple.
pub(super) struct List {
    items: Vec<Value>,
    depth: usize,
    tuple: bool,
}

impl List {
    fn of(items: Vec<Value>, tuple: bool) -> Result<Value, Error> {
        spend(1 + items.len());
        let depth = deeper(items.iter())?;
        Ok(Value::from_object(Self {
            items,
            depth,
            tuple,
        }))
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.items.len())
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        spend(1);
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        spend(1);
        Enumerator::Seq(self.items.len())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.items, self.tuple)
    }
}

/// A mapping in the order in which it was written.
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    depth: usize,
}

impl Dict {
    pub(super) fn of(pairs: Vec<(Value, Value)>) -> Result<Value, Error> {
        spend(1 + 2 * pairs.len());
        let depth = deeper(pairs.iter().map(|(_, value)| value))?;
        let mut entries: Vec<(Value, Value)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            if key.as_object().is_some() {
                return Err(refused("a list or a mapping is no key of a mapping"));
            }
            spend(1 + entries.len() / 8);
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some((_, old)) => *old = value,
                None => entries.push((key, value)),
            }
        }
        Ok(Value::from_object(Self { entries, depth }))
    }

    fn find(&self, is: impl Fn(&Value) -> bool) -> Option<Value> {
        spend(1 + self.entries.len() / 8);
        let found = self.entries.iter().find(|(key, _)| is(key));
        found.map(|(_, value)| value.clone())
    }
}

impl fmt::Debug for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping of {}", self.entries.len())
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.find(|known| known == key)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.find(|known| known.as_str() == Some(key))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        spend(1 + self.entries.len());
        self.mapped_key_value_enumerator(|dict| Box::new(dict.entries.iter().cloned()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (n, (key, value)) in self.entries.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            write_repr(f, key)?;
            f.write_str(": ")?;
            write_repr(f, value)?;
        }
        f.write_char('}')
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, items: &[Value], tuple: bool) -> fmt::Result {
    f.write_char(if tuple { '(' } else { '[' })?;
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            f.write_str(", ")?;
        }
        write_repr(f, item)?;
    }
    f.write_str(match (tuple, items.len()) {
        (true, 1) => ",)",
        (true, _) => ")",
        (false, _) => "]",
    })
}

/// A value inside a printed list, as Python's `repr` writes it.
fn write_repr(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    let Some(text) = value.as_str() else {
        spend(1);
        return write!(f, "{value}");
    };
    spend_bytes(text.len());
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                write!(f, "\\x{:02x}", c as u32)?;
            }
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}

pub(super) fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// How deep a list of these is.
fn deeper<'a>(items: impl Iterator<Item = &'a Value>) -> Result<usize, Error> {
    let depth = 1 + items.map(depth).max().unwrap_or(0);
    if depth > MAX_DEPTH {
        return Err(refused(format!(
            "lists and mappings are nested deeper than {MAX_DEPTH}"
        )));
    }
    Ok(depth)
}

fn depth(value: &Value) -> usize {
    if let Some(list) = value.downcast_object_ref::<List>() {
        list.depth
    } else if let Some(dict) = value.downcast_object_ref::<Dict>() {
        dict.depth
    } else {
        0
    }
}

/// The gate: a value that may stay in a variable.
///
/// Lists and mappings of the engine's own, and those that are only promised (slices, sums, filters), become ours.
pub(super) fn keep(value: Value) -> Result<Value, Error> {
    let Some(object) = value.as_object() else {
        return Ok(value);
    };
    let plain = object.repr() == ObjectRepr::Plain;
    if plain || is_namespace(&value) || has_type(&value, "::Loop") {
        return Ok(value);
    }
    inner(value, 0)
}

/// As [`keep`], for a value that stays inside another one: a namespace there could hold itself.
pub(super) fn keep_inside(value: Value) -> Result<Value, Error> {
    inner(value, 0)
}

fn inner(value: Value, level: usize) -> Result<Value, Error> {
    let Some(object) = value.as_object() else {
        return Ok(value);
    };
    if object.is::<List>() || object.is::<Dict>() {
        return Ok(value);
    }
    if level > MAX_DEPTH || is_namespace(&value) || is_callable(&value) {
        return Err(refused(
            "a macro cannot be kept, and a namespace or a function not in a list, a mapping or a namespace",
        ));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()?.checked() {
                spend(1);
                items.push(inner(item?, level + 1)?);
            }
            List::of(items, value.is_tuple())
        }
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                spend(1);
                pairs.push((key, inner(item, level + 1)?));
            }
            Dict::of(pairs)
        }
        _ => Err(refused(format!("a {} cannot be kept", value.kind()))),
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    let object = value.as_object();
    object.is_some_and(|object| object.type_name().ends_with(name))
}

fn is_namespace(value: &Value) -> bool {
    has_type(value, "::Namespace")
}

/// Macros and the variable `loop` look like mappings to the engine.
fn is_callable(value: &Value) -> bool {
    has_type(value, "::Macro") || has_type(value, "::Loop")
}

/// A list of values that were kept already, or are no lists.
pub(super) fn list(items: Vec<Value>) -> Result<Value, Error> {
    List::of(items, false)
}

/// JSON as a template sees it.
pub(super) fn from_json(json: &Json) -> Result<Value, Error> {
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => list(items.iter().map(from_json).collect::<Result<_, _>>()?)?,
        Json::Object(entries) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| Ok((Value::from(key.as_str()), from_json(value)?)));
            Dict::of(pairs.collect::<Result<_, Error>>()?)?
        }
    })
}

/// What a value weighs: bytes of its texts, and as much as a unit for every part.
pub(super) fn weight(json: &Json) -> u64 {
    let unit = UNIT_BYTES as u64;
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => unit,
        Json::String(text) => unit + text.len() as u64,
        Json::Array(items) => unit + items.iter().map(weight).sum::<u64>(),
        Json::Object(entries) => {
            let entries = entries.iter();
            let weigh = |(key, value): (&String, &Json)| unit + key.len() as u64 + weight(value);
            unit + entries.map(weigh).sum::<u64>()
        }
    }
}
