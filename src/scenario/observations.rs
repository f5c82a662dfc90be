//! Reading and checking a scenario's observations.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::fields::{At, Fields, ScenarioProblems, number, size, tables, text, whole};
use super::language::{KINDS, MOST_TICKS, OBSERVE};
use super::media_files::MediaFiles;
use super::script::{Scripted, ScriptedKind, SensorDeclaration, Speak};
use crate::input::{known, read_text, short};

/// What reading the observations needs to know.
pub(super) struct Observations<'a> {
    sensors: &'a BTreeMap<String, Option<SensorDeclaration>>,
    ticks: Option<u64>,
    folder: PathBuf,
    media: MediaFiles,
}

impl Observations<'_> {
    pub(super) fn read(
        fields: &Fields<'_, '_>,
        sensors: &BTreeMap<String, Option<SensorDeclaration>>,
        ticks: Option<u64>,
        media: MediaFiles,
        report: &mut ScenarioProblems<'_>,
    ) -> Vec<Scripted> {
        let folder = report.source.path.parent().unwrap_or(Path::new(""));
        let mut observations = Observations {
            sensors,
            ticks,
            folder: folder.to_owned(),
            media,
        };
        let mut before = None;
        let mut read = Vec::new();
        for (index, (table, span)) in tables(fields, "observe", report).into_iter().enumerate() {
            read.extend(observations.entry(index, table, span, &mut before, report));
        }
        read
    }

    fn entry(
        &mut self,
        index: usize,
        table: &DeTable<'_>,
        span: Range<usize>,
        before: &mut Option<u64>,
        report: &mut ScenarioProblems<'_>,
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
        let conversation = fields.optional("conversation", report, DeValue::as_bool);
        let expect = fields.optional("expect", report, text);
        let speak = fields.optional("speak", report, voice);
        let text = self.text(&fields, report);
        let media = self.media.of(&fields, report);
        let kind = kind?;
        // What is missing or does not belong depends on the kind.
        unused(&fields, kind, report);
        let conversation = conversation.is_some_and(|conversation| conversation.value);
        if conversation && !media.is_empty() {
            let message = "a question about a sound or a picture stands for itself";
            let hint = Some("leave `conversation` out".to_owned());
            let span = fields.key_span("conversation");
            report.note(&span, &fields.entry, message, hint);
        }
        self.check_needs(&fields, kind, sensor.as_ref(), value.as_ref(), report);
        Some(Scripted {
            at: at?.value,
            kind,
            source: source.map_or(String::new(), |source| source.value),
            urgency: urgency.map_or(0.0, |urgency| urgency.value as f32),
            text,
            media,
            sensor: sensor.map(|sensor| sensor.value),
            value: value.map(|value| value.value),
            limit: limit.map(|limit| limit.value),
            conversation,
            expect: expect.map(|expect| expect.value),
            speak: speak.and_then(|speak| speak.value),
        })
    }

    /// Notes what an entry of this kind needs and lacks.
    fn check_needs(
        &self,
        fields: &Fields<'_, '_>,
        kind: ScriptedKind,
        sensor: Option<&At<String>>,
        value: Option<&At<f64>>,
        report: &mut ScenarioProblems<'_>,
    ) {
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
                self.sensor(fields, sensor, report);
                if !fields.has("value") {
                    report.note(
                        &fields.span,
                        &fields.entry,
                        "needs a `value`: a number",
                        None,
                    );
                }
            }
            ScriptedKind::Sound | ScriptedKind::Picture => {
                let key = match kind {
                    ScriptedKind::Sound => "sound",
                    _ => "picture",
                };
                if !fields.has(key) {
                    let message = format!("needs a `{key}`: the path of a file");
                    report.note(&fields.span, &fields.entry, message, None);
                }
            }
            ScriptedKind::Feedback => feedback(fields, value, report),
            ScriptedKind::Limit => {
                if !fields.has("limit") {
                    let message = "needs a `limit`: a size such as \"96slots\"";
                    report.note(&fields.span, &fields.entry, message, None);
                }
            }
        }
    }

    fn time(
        &self,
        fields: &Fields<'_, '_>,
        at: &At<u64>,
        before: &mut Option<u64>,
        report: &mut ScenarioProblems<'_>,
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
    fn text(&self, fields: &Fields<'_, '_>, report: &mut ScenarioProblems<'_>) -> Option<String> {
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
        report: &mut ScenarioProblems<'_>,
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

/// Whether an answer is spoken, and in which voice.
fn voice(value: &DeValue<'_>) -> Option<Option<Speak>> {
    match value {
        DeValue::Boolean(false) => Some(None),
        DeValue::Boolean(true) => Some(Some(Speak::Default)),
        DeValue::String(name) if !name.trim().is_empty() => {
            Some(Some(Speak::As(name.trim().to_owned())))
        }
        _ => None,
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

fn kind(fields: &Fields<'_, '_>, report: &mut ScenarioProblems<'_>) -> Option<ScriptedKind> {
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
fn unused(fields: &Fields<'_, '_>, kind: ScriptedKind, report: &mut ScenarioProblems<'_>) {
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

fn feedback(fields: &Fields<'_, '_>, value: Option<&At<f64>>, report: &mut ScenarioProblems<'_>) {
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
