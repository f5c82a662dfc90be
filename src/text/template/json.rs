//! `tojson` as transformers has it: Python's `json.dumps`, without HTML's escapes.

use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::fuel::room;
use super::value::{refused, spend};

/// The filter: `tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(given) => given,
        None => options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
    };
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(value) if !value.is_none() => Some(indentation(state, &value)?),
        _ => None,
    };
    let separators: Option<Value> = options.get("separators")?;
    let (between, behind_key) = match separators.filter(|value| !value.is_none()) {
        Some(pair) => {
            let part = |n: usize| {
                let part = pair.get_item(&Value::from(n)).ok();
                let part = part.and_then(|part| part.as_str().map(str::to_owned));
                part.ok_or_else(|| refused("separators of tojson are a pair of texts"))
            };
            (part(0)?, part(1)?)
        }
        // Python leaves out the blank behind a comma that ends a line.
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut writer = Writer {
        out: String::new(),
        room: room(state),
        ensure_ascii,
        indent,
        between,
        behind_key,
        sort_keys,
    };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

/// Python takes a number of blanks, or the text to indent with.
fn indentation(state: &State, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let blanks = i64::try_from(value.clone()).map_err(|_| {
        refused("indent of tojson is a number of blanks, or the text to indent with")
    })?;
    let blanks = usize::try_from(blanks).unwrap_or(0);
    if blanks > room(state) {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    Ok(" ".repeat(blanks))
}

struct Writer {
    out: String,
    /// Bytes that may still be made.
    room: usize,
    ensure_ascii: bool,
    indent: Option<String>,
    between: String,
    behind_key: String,
    sort_keys: bool,
}

impl Writer {
    fn text(&mut self, text: &str) -> Result<(), Error> {
        if self.out.len() + text.len() > self.room {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn line(&mut self, level: usize) -> Result<(), Error> {
        let Some(indent) = self.indent.take() else {
            return Ok(());
        };
        self.text("\n")?;
        for _ in 0..level {
            self.text(&indent)?;
        }
        self.indent = Some(indent);
        Ok(())
    }

    fn separated(&mut self, n: usize, level: usize) -> Result<(), Error> {
        if n > 0 {
            let between = std::mem::take(&mut self.between);
            self.text(&between)?;
            self.between = between;
        }
        self.line(level)
    }

    fn value(&mut self, value: &Value, level: usize) -> Result<(), Error> {
        spend(1);
        match value.kind() {
            ValueKind::None => self.text("null"),
            ValueKind::Bool => self.text(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let number = number(value);
                self.text(&number)
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, level),
            ValueKind::Map => self.map(value, level),
            kind => Err(refused(format!("a {kind} value is not JSON serializable"))),
        }
    }

    fn list(&mut self, value: &Value, level: usize) -> Result<(), Error> {
        let mut n = 0;
        self.text("[")?;
        for item in value.try_iter()?.checked() {
            self.separated(n, level + 1)?;
            self.value(&item?, level + 1)?;
            n += 1;
        }
        if n > 0 {
            self.line(level)?;
        }
        self.text("]")
    }

    fn map(&mut self, value: &Value, level: usize) -> Result<(), Error> {
        let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
        let mut pairs: Vec<(Value, Value)> = pairs.into_iter().flatten().collect();
        if self.sort_keys {
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        self.text("{")?;
        for (n, (key, item)) in pairs.iter().enumerate() {
            self.separated(n, level + 1)?;
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default())?,
                ValueKind::None => self.string("null")?,
                ValueKind::Bool if key.is_true() => self.string("true")?,
                ValueKind::Bool => self.string("false")?,
                _ => self.string(&number(key))?,
            }
            let behind = std::mem::take(&mut self.behind_key);
            self.text(&behind)?;
            self.behind_key = behind;
            self.value(item, level + 1)?;
        }
        if !pairs.is_empty() {
            self.line(level)?;
        }
        self.text("}")
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.text("\"")?;
        let mut piece = String::new();
        let mut utf8 = [0; 4];
        for c in text.chars() {
            piece.clear();
            let escaped = match c {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\u{8}' => "\\b",
                '\u{c}' => "\\f",
                c if (c as u32) < 0x20 || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(piece, "\\u{unit:04x}");
                    }
                    piece.as_str()
                }
                c => c.encode_utf8(&mut utf8),
            };
            if self.out.len() + escaped.len() > self.room {
                return Err(Error::from(ErrorKind::OutOfFuel));
            }
            self.out.push_str(escaped);
        }
        self.text("\"")
    }
}

/// A number as Python writes it.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else {
        return value.to_string();
    };
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        // Python: two digits of exponent at least, and its sign.
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = float.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}
