//! Methods of Python's texts, lists and mappings that templates call.
//!
//! The engine's companion knows most of them, but not what a rendering may cost: what can grow is asked for first.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::fuel::demand;
use super::value::{keep, list, refused, spend};

/// Bytes of a list's place for one short text, roughly.
const PIECE_BYTES: usize = 64;

/// Calls `method` of `value`.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        if let Some(answer) = own(state, text, method, args)? {
            return Ok(answer);
        }
        allow(state, text, method, args)?;
    }
    keep(unknown_method_callback(state, value, method, args)?)
}

/// Refuses a call whose result there is no room for.
fn allow(state: &State, text: &str, method: &str, args: &[Value]) -> Result<(), Error> {
    let first = args.first().and_then(Value::as_str);
    let bytes = match method {
        // Some characters have capitals of three.
        "upper" | "lower" | "title" | "capitalize" => text.len().saturating_mul(3),
        "replace" => {
            let new = args.get(1).and_then(Value::as_str).unwrap_or_default();
            let all = first.map_or(0, |old| text.matches(old).count());
            let most = args
                .get(2)
                .and_then(|count| i64::try_from(count.clone()).ok());
            let most = most.and_then(|most| usize::try_from(most).ok());
            let times = all.min(most.unwrap_or(usize::MAX));
            text.len().saturating_add(times.saturating_mul(new.len()))
        }
        "split" => {
            let pieces = match first {
                Some("") => text.len(),
                Some(separator) => text.matches(separator).count(),
                None => text.split_whitespace().count(),
            };
            text.len() + (pieces + 1).saturating_mul(PIECE_BYTES)
        }
        "splitlines" => text.len() + (text.lines().count() + 1).saturating_mul(PIECE_BYTES),
        "format" => formatted_bytes(text, args),
        _ => 0,
    };
    demand(state, bytes)
}

/// What `text.format(…)` can make at most: every width and precision that it names, and every field the longest text.
fn formatted_bytes(text: &str, args: &[Value]) -> usize {
    let length = |arg: &Value| arg.as_str().map_or_else(|| arg.to_string().len(), str::len);
    let longest = args.iter().map(length).max();
    let fields = text.matches('{').count();
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let numbers = numbers.filter(|digits| !digits.is_empty());
    let widths = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX));
    let widths = widths.fold(0, usize::saturating_add);
    (text.len().saturating_add(widths))
        .saturating_add(fields.saturating_mul(longest.unwrap_or(0).max(PIECE_BYTES)))
}

/// The methods that the companion lacks, or that grow in a way of their own.
fn own(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "join" => join(state, text, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let last = method == "rpartition";
            let found = if last {
                text.rsplit_once(separator)
            } else {
                text.split_once(separator)
            };
            let parts = match found {
                Some((before, behind)) => [before, separator, behind],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            list(parts.map(Value::from).to_vec())?
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(state, text, separator, most)?
        }
        "ljust" | "rjust" | "center" | "zfill" => padded(state, text, method, args)?,
        _ => return Ok(None),
    }))
}

fn join(state: &State, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let (items,): (&Value,) = from_args(args)?;
    let mut joined = String::new();
    for (n, item) in items.try_iter()?.checked().enumerate() {
        spend(1);
        let item = item?;
        let text = item
            .as_str()
            .ok_or_else(|| refused(format!("join takes texts, item {n} is a {}", item.kind())))?;
        let separator = if n > 0 { separator } else { "" };
        demand(state, joined.len() + separator.len() + text.len())?;
        joined.push_str(separator);
        joined.push_str(text);
    }
    Ok(Value::from(joined))
}

fn rsplit(
    state: &State,
    text: &str,
    separator: Option<&str>,
    most: Option<i64>,
) -> Result<Value, Error> {
    let most = most.and_then(|most| usize::try_from(most).ok());
    let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut pieces: Vec<&str> = Vec::new();
    let mut rest = Some(match separator {
        Some(_) => text,
        None => text.trim(),
    });
    while let Some(left) = rest.take() {
        demand(state, (pieces.len() + 1).saturating_mul(PIECE_BYTES))?;
        let split = match separator {
            Some("") => return Err(refused("rsplit takes a separator that is not empty")),
            Some(separator) => left.rsplit_once(separator),
            None => left
                .rsplit_once(char::is_whitespace)
                .map(|(before, behind)| (before.trim_end(), behind)),
        };
        match split.filter(|_| pieces.len() + 1 < most) {
            Some((before, behind)) => {
                pieces.push(behind);
                rest = Some(before);
            }
            None if separator.is_none() && left.is_empty() => {}
            None => pieces.push(left),
        }
    }
    list(pieces.into_iter().rev().map(Value::from).collect())
}

fn padded(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let missing = usize::try_from(width)
        .unwrap_or(0)
        .saturating_sub(text.chars().count());
    let fill = match method {
        "zfill" => "0",
        _ => fill.unwrap_or(" "),
    };
    demand(
        state,
        missing
            .saturating_mul(fill.len())
            .saturating_add(text.len()),
    )?;
    let (before, behind) = match method {
        "ljust" => (0, missing),
        // Python puts the odd one before a text of odd length.
        "center" => {
            let before = missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1);
            (before, missing - before)
        }
        _ => (missing, 0),
    };
    let (sign, text) = match text.strip_prefix(['-', '+']) {
        Some(digits) if method == "zfill" => text.split_at(text.len() - digits.len()),
        _ => ("", text),
    };
    Ok(Value::from(format!(
        "{sign}{}{text}{}",
        fill.repeat(before),
        fill.repeat(behind)
    )))
}
