//! Reading and checking a scenario: every mistake is found in one go, whichever part of the file it is in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sage_actors::protocol::State;
use toml::de::{DeTable, DeValue};

use super::fields::{At, Fields, Report, number, pair, text, whole};
use super::language::{EXPECT, KINDS, MOST_TICKS, MOST_TOKENS, OBSERVE, SCENARIO, SENSOR, STATES};
use super::script::{
    Expectation, Scenario, Scripted, ScriptedKind, SensorDeclaration, state_named,
};
use crate::input::{Problem, Size, Source, known, read_text, short};

/// Longest answer, context and chunk unless the scenario says otherwise, tokens.
const ANSWER_TOKENS: usize = 32;
const CONTEXT_TOKENS: usize = 512;
const CHUNK_TOKENS: usize = 32;

/// The scenario that stands in `source`.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn read(source: Source<'_>) -> Result<Scenario, Vec<Problem>> {
    let table = source.toml()?;
    let mut report = Report {
        source,
        problems: Vec::new(),
    };
    let scenario = scenario(table.get_ref(), &mut report);
    let mut problems = report.problems;
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => {
            problems.sort_by(|a, b| a.place.cmp(&b.place));
            Err(problems)
        }
    }
}

fn scenario(table: &DeTable<'_>, report: &mut Report<'_>) -> Option<Scenario> {
    let fields = Fields::new(table, &SCENARIO, 0..0, String::new(), report);
    let name = fields.required("name", report, text);
    let description = fields.optional("description", report, text);
    let limit = fields.optional("limit", report, size);
    let ticks = fields.required("ticks", report, whole(0, MOST_TICKS));
    let mut tokens = |name: &str, least: u64, default: usize| {
        let read = fields.optional(name, report, whole(least, MOST_TOKENS));
        read.map_or(default, |tokens| tokens.value as usize)
    };
    let context_tokens = tokens("context_tokens", 2, CONTEXT_TOKENS);
    let chunk_tokens = tokens("chunk_tokens", 1, CHUNK_TOKENS);
    let answer_tokens = tokens("answer_tokens", 1, ANSWER_TOKENS);
    let sensors = sensors(&fields, report);
    let last = ticks.as_ref().map(|ticks| ticks.value);
    let observe = Observations::read(&fields, &sensors, last, report);
    let expect = expectations(&fields, report);
    let sensors = sensors
        .into_iter()
        .filter_map(|(name, sensor)| Some((name, sensor?)));
    Some(Scenario {
        name: name?.value,
        description: description.map_or(String::new(), |text| text.value),
        limit: limit.map(|limit| limit.value),
        ticks: ticks?.value,
        context_tokens,
        chunk_tokens,
        answer_tokens,
        sensors: sensors.collect(),
        observe,
        expect,
    })
}

fn size(value: &DeValue<'_>) -> Option<Size> {
    value.as_str().and_then(|size| size.parse().ok())
}

/// The tables of an array, each with its place.
fn tables<'t, 'i>(
    fields: &Fields<'t, 'i>,
    name: &str,
    report: &mut Report<'_>,
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

/// The declared sensors; one that is declared wrongly is known all the same.
fn sensors(
    fields: &Fields<'_, '_>,
    report: &mut Report<'_>,
) -> BTreeMap<String, Option<SensorDeclaration>> {
    let mut sensors = BTreeMap::new();
    let Some(value) = fields.raw("sensors") else {
        return sensors;
    };
    let Some(declared) = value.get_ref().as_table() else {
        fields.refuse("sensors", value.get_ref(), &value.span(), report);
        return sensors;
    };
    for (name, value) in declared {
        let sensor = match value.get_ref().as_table() {
            Some(table) => sensor(table, value.span(), name.get_ref(), report),
            None => {
                fields.refuse("sensors", value.get_ref(), &value.span(), report);
                None
            }
        };
        sensors.insert(name.get_ref().to_string(), sensor);
    }
    sensors
}

fn sensor(
    table: &DeTable<'_>,
    span: Range<usize>,
    name: &str,
    report: &mut Report<'_>,
) -> Option<SensorDeclaration> {
    let fields = Fields::new(
        table,
        &SENSOR,
        span,
        format!("sensors.{}", short(name)),
        report,
    );
    let resolution = fields.required("resolution", report, |value| {
        number(value).filter(|resolution| *resolution > 0.0)
    });
    let range = fields.optional("range", report, |value| {
        pair(value).filter(|(low, high)| low <= high)
    });
    let reserve = fields.optional("reserve", report, |value| {
        pair(value).filter(|(empty, full)| empty != full)
    });
    Some(SensorDeclaration {
        resolution: resolution?.value,
        range: range.map(|range| range.value),
        reserve: reserve.map(|reserve| reserve.value),
    })
}

/// What reading the observations needs to know.
struct Observations<'a> {
    sensors: &'a BTreeMap<String, Option<SensorDeclaration>>,
    ticks: Option<u64>,
    folder: PathBuf,
}

impl Observations<'_> {
    fn read(
        fields: &Fields<'_, '_>,
        sensors: &BTreeMap<String, Option<SensorDeclaration>>,
        ticks: Option<u64>,
        report: &mut Report<'_>,
    ) -> Vec<Scripted> {
        let folder = report.source.path.parent().unwrap_or(Path::new(""));
        let observations = Observations {
            sensors,
            ticks,
            folder: folder.to_owned(),
        };
        let mut before = None;
        let mut read = Vec::new();
        for (index, (table, span)) in tables(fields, "observe", report).into_iter().enumerate() {
            read.extend(observations.entry(index, table, span, &mut before, report));
        }
        read
    }

    fn entry(
        &self,
        index: usize,
        table: &DeTable<'_>,
        span: Range<usize>,
        before: &mut Option<u64>,
        report: &mut Report<'_>,
    ) -> Option<Scripted> {
        let entry = entry_name(index, table);
        let fields = Fields::new(table, &OBSERVE, span, entry, report);
        let at = fields.required("at", report, whole(0, MOST_TICKS));
        if let Some(at) = &at {
            self.time(&fields, at, before, report);
        }
        let kind = kind(&fields, report);
        let source = fields.optional("source", report, text);
        let urgency = fields.optional("urgency", report, |value| {
            number(value).filter(|urgency| (0.0..=1.0).contains(urgency))
        });
        let value = fields.optional("value", report, number);
        let sensor = fields.optional("sensor", report, text);
        let limit = fields.optional("limit", report, size);
        let expect = fields.optional("expect", report, text);
        let text = self.text(&fields, report);
        let kind = kind?;
        // What is missing or does not belong depends on the kind.
        unused(&fields, kind, report);
        match kind {
            ScriptedKind::Text | ScriptedKind::Question | ScriptedKind::Alarm => {
                if !fields.has("text") && !fields.has("file") {
                    report.note(
                        &fields.span,
                        &fields.entry,
                        "needs a `text` or a `file`",
                        None,
                    );
                }
            }
            ScriptedKind::Sensor => {
                self.sensor(&fields, sensor.as_ref(), report);
                if !fields.has("value") {
                    report.note(
                        &fields.span,
                        &fields.entry,
                        "needs a `value`: a number",
                        None,
                    );
                }
            }
            ScriptedKind::Feedback => feedback(&fields, value.as_ref(), report),
            ScriptedKind::Limit => {
                if !fields.has("limit") {
                    let message = "needs a `limit`: a size such as \"96slots\"";
                    report.note(&fields.span, &fields.entry, message, None);
                }
            }
        }
        Some(Scripted {
            at: at?.value,
            kind,
            source: source.map_or(String::new(), |source| source.value),
            urgency: urgency.map_or(0.0, |urgency| urgency.value as f32),
            text,
            sensor: sensor.map(|sensor| sensor.value),
            value: value.map(|value| value.value),
            limit: limit.map(|limit| limit.value),
            expect: expect.map(|expect| expect.value),
        })
    }

    fn time(
        &self,
        fields: &Fields<'_, '_>,
        at: &At<u64>,
        before: &mut Option<u64>,
        report: &mut Report<'_>,
    ) {
        if let Some(before) = before.filter(|before| at.value < *before) {
            let message = format!(
                "`at` is {}, earlier than the entry before it (at = {before})",
                at.value
            );
            let hint = "keep the entries in order of time".to_owned();
            report.note(&at.span, &fields.entry, message, Some(hint));
        }
        *before = Some(at.value.max(before.unwrap_or(0)));
        if let Some(ticks) = self.ticks.filter(|ticks| at.value > *ticks) {
            let message = format!(
                "`at` is {}, later than the scenario's `ticks` = {ticks}",
                at.value
            );
            report.note(&at.span, &fields.entry, message, None);
        }
    }

    /// The text of an entry, from itself or its file.
    fn text(&self, fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<String> {
        let written = fields.optional("text", report, |value| {
            text(value).filter(|text| !text.trim().is_empty())
        });
        let Some(file) = fields.optional("file", report, text) else {
            return written.map(|text| text.value);
        };
        if fields.has("text") {
            let message = "has both `text` and `file`: keep one";
            report.note(&fields.key_span("file"), &fields.entry, message, None);
            return None;
        }
        match read_text(&self.folder.join(&file.value)) {
            Ok(text) if text.trim().is_empty() => {
                let message = format!("the file {} is empty", file.value);
                report.note(&file.span, &fields.entry, message, None);
            }
            Ok(text) => return Some(text),
            Err(error) => {
                let hint = "a path is relative to the scenario's folder".to_owned();
                let message = format!("`file` cannot be read: {error}");
                report.note(&file.span, &fields.entry, message, Some(hint));
            }
        }
        None
    }

    fn sensor(
        &self,
        fields: &Fields<'_, '_>,
        sensor: Option<&At<String>>,
        report: &mut Report<'_>,
    ) {
        let Some(sensor) = sensor else {
            if !fields.has("sensor") {
                let message = "needs a `sensor` that is declared under [sensors]";
                report.note(&fields.span, &fields.entry, message, None);
            }
            return;
        };
        if !self.sensors.contains_key(&sensor.value) {
            let name = &sensor.value;
            let declared: Vec<&str> = self.sensors.keys().map(String::as_str).collect();
            let hint = match declared.is_empty() {
                true => format!("declare it: [sensors.{}] with a resolution", short(name)),
                false => known(name, &declared),
            };
            let message = format!("the sensor `{}` is not declared", short(name));
            report.note(&sensor.span, &fields.entry, message, Some(hint));
        }
    }
}

/// How messages call an entry: its number, and what it says of itself.
fn entry_name(index: usize, table: &DeTable<'_>) -> String {
    let said = |key: &str| table.get(key).map(|value| value.get_ref());
    let number = index + 1;
    let kind = said("kind").and_then(DeValue::as_str).map(short);
    match (said("at").and_then(DeValue::as_integer), kind) {
        (Some(at), Some(kind)) => format!("observe number {number} (at = {at}, {kind})"),
        (Some(at), None) => format!("observe number {number} (at = {at})"),
        (None, Some(kind)) => format!("observe number {number} ({kind})"),
        (None, None) => format!("observe number {number}"),
    }
}

fn kind(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<ScriptedKind> {
    let name = fields.required("kind", report, text)?;
    let kind = ScriptedKind::named(&name.value);
    if kind.is_none() {
        let names = KINDS.map(|(name, _)| name);
        let message = format!(
            "`kind` is \"{}\"; there is no such kind",
            short(&name.value)
        );
        let hint = known(&name.value, &names);
        report.note(&name.span, &fields.entry, message, Some(hint));
    }
    kind
}

/// Notes keys that mean nothing to this kind: what is written is meant.
fn unused(fields: &Fields<'_, '_>, kind: ScriptedKind, report: &mut Report<'_>) {
    let (name, used) = KINDS[kind as usize];
    let general = ["at", "kind", "source"];
    let written = OBSERVE.iter().map(|key| key.name);
    for key in written.filter(|key| fields.has(key) && !general.contains(key)) {
        if used.contains(&key) {
            continue;
        }
        let message = match (key, kind) {
            ("expect", ScriptedKind::Text) => {
                "a text is not answered: `expect` belongs to a question or alarm".to_owned()
            }
            _ => format!("`{key}` means nothing to the kind {name}"),
        };
        let users = KINDS.iter().filter(|(_, used)| used.contains(&key));
        let users: Vec<&str> = users.map(|(name, _)| *name).collect();
        let hint = format!("`{key}` belongs to: {}", users.join(", "));
        report.note(&fields.key_span(key), &fields.entry, message, Some(hint));
    }
}

fn feedback(fields: &Fields<'_, '_>, value: Option<&At<f64>>, report: &mut Report<'_>) {
    match value {
        Some(value) if !(-1.0..=1.0).contains(&value.value) => {
            let message = format!(
                "`value` is {}; feedback is a number from -1 to 1",
                value.value
            );
            report.note(&value.span, &fields.entry, message, None);
        }
        None if !fields.has("value") => {
            let message = "needs a `value`: a number from -1 to 1";
            report.note(&fields.span, &fields.entry, message, None);
        }
        _ => {}
    }
}

fn expectations(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Vec<Expectation> {
    let mut read = Vec::new();
    let mut never: Vec<State> = Vec::new();
    let mut entered: Vec<At<String>> = Vec::new();
    for (index, (table, span)) in tables(fields, "expect", report).into_iter().enumerate() {
        let entry = format!("expect number {}", index + 1);
        let fields = Fields::new(table, &EXPECT, span, entry, report);
        let written: Vec<&str> = EXPECT.iter().map(|key| key.name).collect();
        let written: Vec<&str> = written.into_iter().filter(|key| fields.has(key)).collect();
        if table.is_empty() {
            let names = EXPECT.map(|key| key.name).join(", ");
            let message = format!("is empty; expected one of {names}");
            report.note(&fields.span, &fields.entry, message, None);
        }
        if let [_, second, ..] = written.as_slice() {
            let message = format!("has {}: keep one an entry", written.join(" and "));
            report.note(&fields.key_span(second), &fields.entry, message, None);
        }
        if let Some(states) = states(&fields, "states", report) {
            entered.extend(states.iter().cloned());
            read.push(Expectation::States(names(states)));
        }
        if let Some(states) = states(&fields, "never", report) {
            let of = |state: &At<String>| state_named(&state.value).unwrap_or_default();
            never.extend(states.iter().flat_map(of));
            read.push(Expectation::Never(names(states)));
        }
        let within = fields.optional("within_limit", report, DeValue::as_bool);
        read.extend(within.map(|within| Expectation::WithinLimit(within.value)));
        let loss = fields.optional("mean_loss_below", report, |value| {
            number(value).filter(|loss| *loss > 0.0)
        });
        read.extend(loss.map(|loss| Expectation::MeanLossBelow(loss.value)));
    }
    for state in entered {
        let stands_for = state_named(&state.value).unwrap_or_default();
        if !stands_for.is_empty() && stands_for.iter().all(|state| never.contains(state)) {
            let message = format!(
                "`{}` is expected, and expected never to come: both cannot be",
                state.value
            );
            report.note(&state.span, "expect", message, None);
        }
    }
    read
}

fn names(states: Vec<At<String>>) -> Vec<String> {
    states.into_iter().map(|state| state.value).collect()
}

/// A list of states; unknown ones are noted each at its place.
fn states(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<Vec<At<String>>> {
    let value = fields.raw(name)?;
    let Some(list) = value.get_ref().as_array() else {
        fields.refuse(name, value.get_ref(), &value.span(), report);
        return None;
    };
    if list.is_empty() {
        let message = format!("`{name}` names no state, so that it says nothing");
        report.note(&value.span(), &fields.entry, message, None);
    }
    let mut states = Vec::new();
    for item in list {
        match item.get_ref().as_str() {
            Some(state) if state_named(state).is_some() => states.push(At {
                value: state.to_owned(),
                span: item.span(),
            }),
            Some(state) => {
                let message = format!("`{}` is no state", short(state));
                let hint = known(state, &STATES);
                report.note(&item.span(), &fields.entry, message, Some(hint));
            }
            None => fields.refuse(name, item.get_ref(), &item.span(), report),
        }
    }
    Some(states)
}
