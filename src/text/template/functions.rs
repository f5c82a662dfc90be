//! The functions, filters and globals of chat templates, as transformers has them.

use jiff::civil::DateTime;
use minijinja::value::{Kwargs, Rest, Value, ValueOrKwargs};
use minijinja::{Environment, Error, State, filters, functions};

use super::value::{Dict, keep, keep_inside, refused};
use super::{json, methods};

/// By which a rewritten template asks [`keep`].
pub(super) const KEEP: &str = "__keep";
/// By which it asks [`keep_inside`].
pub(super) const KEEP_INSIDE: &str = "__keep_inside";

/// A longer format of a date is no format.
const MAX_FORMAT_BYTES: usize = 256;

/// Puts everything into `environment` that a chat template may call. `now` is what `strftime_now` tells.
pub(super) fn install(environment: &mut Environment<'static>, now: Option<DateTime>) {
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::tojson);
    // No templates of Jinja's have these; they would make lists that nobody counts.
    for name in ["chain", "zip", "pprint"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    environment.add_function(KEEP, keep);
    environment.add_function(KEEP_INSIDE, keep_inside);
    environment.add_function(
        "raise_exception",
        |message: Value| -> Result<Value, Error> { Err(refused(message.to_string())) },
    );
    environment.add_function("strftime_now", move |format: &str| strftime(now, format));
    environment.add_function("namespace", namespace);
    environment.add_function("dict", dict);
    environment.add_function("range", kept(Value::from_function(functions::range)));
    for (name, filter) in listing_filters() {
        environment.add_filter(name, kept(filter));
    }
}

/// The engine's filters that answer lists.
fn listing_filters() -> [(&'static str, Value); 16] {
    [
        ("batch", Value::from_function(filters::batch)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("groupby", Value::from_function(filters::groupby)),
        ("items", Value::from_function(filters::items)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("map", Value::from_function(filters::map)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("reverse", Value::from_function(filters::reverse)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("slice", Value::from_function(filters::slice)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("unique", Value::from_function(filters::unique)),
    ]
}

/// A function of the engine whose answer passes the gate.
fn kept(
    function: Value,
) -> impl Fn(&mut State, Rest<ValueOrKwargs>) -> Result<Value, Error> + Send + Sync + 'static {
    move |state: &mut State, args: Rest<ValueOrKwargs>| {
        keep(function.call(state, &args.into_values())?)
    }
}

/// The entries of `dict(mapping, key=value)`.
fn entries(mapping: Option<Value>, named: &Kwargs) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    if let Some(mapping) = mapping.filter(|value| !value.is_undefined()) {
        let of = mapping
            .as_object()
            .and_then(|object| object.try_iter_pairs());
        let of = of.ok_or_else(|| refused(format!("a {} is no mapping", mapping.kind())))?;
        for (key, value) in of {
            pairs.push((key, keep_inside(value)?));
        }
    }
    let names: Vec<String> = named.args().map(str::to_owned).collect();
    for name in names {
        let value: Value = named.get(&name)?;
        pairs.push((Value::from(name), keep_inside(value)?));
    }
    Ok(pairs)
}

fn dict(mapping: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    Dict::of(entries(mapping, &named)?)
}

fn namespace(state: &mut State, mapping: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let values = Dict::of(entries(mapping, &named)?)?;
    Value::from_function(functions::namespace).call(state, &[values])
}

fn strftime(now: Option<DateTime>, format: &str) -> Result<String, Error> {
    let now = now.ok_or_else(|| refused("strftime_now has no time to tell"))?;
    let width = |pair: &[u8]| pair[0] == b'%' && pair[1].is_ascii_digit();
    if format.len() > MAX_FORMAT_BYTES || format.as_bytes().windows(2).any(width) {
        return Err(refused(format!(
            "strftime_now takes a format of {MAX_FORMAT_BYTES} bytes at most, without widths"
        )));
    }
    jiff::fmt::strtime::format(format, now)
        .map_err(|error| refused(format!("strftime_now cannot write {format:?}: {error}")))
}
