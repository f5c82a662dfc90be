//! Reading and checking a scenario: every mistake is found in one go, whichever part of the file it is in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use sage_actors::protocol::State;
use toml::de::{DeTable, DeValue};

use super::fields::{At, Fields, ScenarioProblems, number, pair, size, tables, text, whole};
use super::language::{EXPECT, MOST_TICKS, MOST_TOKENS, SCENARIO, SENSOR, STATES};
use super::media_files::{Media, MediaFiles};
use super::observations::Observations;
use super::script::{Expectation, Scenario, ScenarioError, SensorDeclaration, state_named};
use crate::input::{Problem, Source, known, read_text, short};

/// Longest answer, context and chunk unless the scenario says otherwise, tokens.
const ANSWER_TOKENS: usize = 32;
const CONTEXT_TOKENS: usize = 512;
const CHUNK_TOKENS: usize = 32;
/// Longest sound or picture: ten seconds, or a square of 362 pixels.
const MEDIA_TOKENS: usize = 128;

impl Scenario {
    /// Reads and checks a scenario; the texts of `file` entries are read too.
    ///
    /// # Errors
    /// When the file cannot be read; else every mistake in it, with line and column.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        Self::parse(path, &read_text(path)?)
    }

    /// As [`Self::read`], and every sound and picture is decoded, which a run does as they come.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check(path: &Path) -> Result<Self, ScenarioError> {
        let text = &read_text(path)?;
        read(Source { path, text }, Media::Decoded).map_err(ScenarioError::Wrong)
    }

    /// As [`Self::read`], from text; `path` is for messages and for files named in it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        read(Source { path, text }, Media::Read).map_err(ScenarioError::Wrong)
    }
}

/// The scenario that stands in `source`.
///
/// # Errors
/// Every mistake, in the order of the text.
fn read(source: Source<'_>, media: Media) -> Result<Scenario, Vec<Problem>> {
    let table = source.toml()?;
    let mut report = ScenarioProblems {
        source,
        problems: Vec::new(),
    };
    let scenario = scenario(table.get_ref(), media, &mut report);
    let mut problems = report.problems;
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => {
            problems.sort_by(|a, b| a.place.cmp(&b.place));
            Err(problems)
        }
    }
}

fn scenario(
    table: &DeTable<'_>,
    media: Media,
    report: &mut ScenarioProblems<'_>,
) -> Option<Scenario> {
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
    let media_tokens = tokens("media_tokens", 1, MEDIA_TOKENS);
    let sensors = sensors(&fields, report);
    let last = ticks.as_ref().map(|ticks| ticks.value);
    let folder = report.source.path.parent().unwrap_or(Path::new(""));
    let media = MediaFiles::new(folder, media, media_tokens, context_tokens);
    let observe = Observations::read(&fields, &sensors, last, media, report);
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
        media_tokens,
        places: fields.places(report.source),
        sensors: sensors.collect(),
        observe,
        expect,
    })
}

/// The declared sensors; one that is declared wrongly is known all the same.
fn sensors(
    fields: &Fields<'_, '_>,
    report: &mut ScenarioProblems<'_>,
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
    report: &mut ScenarioProblems<'_>,
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

fn expectations(fields: &Fields<'_, '_>, report: &mut ScenarioProblems<'_>) -> Vec<Expectation> {
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
fn states(
    fields: &Fields<'_, '_>,
    name: &str,
    report: &mut ScenarioProblems<'_>,
) -> Option<Vec<At<String>>> {
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
