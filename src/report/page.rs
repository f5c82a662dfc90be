//! The page: one file, nothing loaded from anywhere, readable without a script.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context};
use sage_actors::protocol::{State, Tick};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::charts::Charts;
use super::data::{ObservationEntry, StateChange};
use super::{RunReport, words};
use crate::input::human_bytes;

/// The name ends in `.html`: everything that is not markup of ours is escaped.
const NAME: &str = "page.html";
const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Something that happened, in the order of the events.
#[derive(Serialize)]
struct PageEntry<'a> {
    entry: Option<&'a ObservationEntry>,
    change: Option<&'a StateChange>,
}

/// A change with how long the state that it led to lasted.
#[derive(Serialize)]
struct Stay<'a> {
    change: &'a StateChange,
    ticks: Tick,
}

/// The page of a report.
///
/// # Errors
/// When the template does not fit the report, which is a fault of the program.
pub fn page(report: &RunReport) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.add_filter("bytes", |bytes: f64| human_bytes(bytes.round() as u64));
    environment.add_filter("percent", |share: f64| format!("{:.1} %", share * 100.0));
    environment.add_filter("fixed", |value: f64, digits: usize| {
        format!("{value:.digits$}")
    });
    environment.add_filter("count", count);
    environment.add_filter("because", |cause: String| {
        named(&cause).map_or("", words::because)
    });
    environment.add_template(NAME, TEMPLATE)?;
    let charts = Charts::new(report);
    let states = State::ALL.map(|state| (words::state_name(state), words::meaning(state)));
    environment.get_template(NAME)?.render(context! {
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        data => Value::from_safe_string(data(report, &charts)),
        report => Value::from(Serde(report)),
        charts => Value::from(Serde(&charts)),
        story => Value::from(Serde(story(report))),
        stays => Value::from(Serde(stays(report))),
        states => Value::from(Serde(states)),
    })
}

/// The value that JSON calls by this name.
fn named<T: for<'de> Deserialize<'de>>(name: &str) -> Option<T> {
    serde_json::from_value(json!(name)).ok()
}

/// 1,234,567.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Observations, answers and changes of state in their order.
fn story(report: &RunReport) -> Vec<PageEntry<'_>> {
    let entries = report.timeline.iter().map(|entry| {
        let told = PageEntry {
            entry: Some(entry),
            change: None,
        };
        (entry.event, told)
    });
    let changes = report.changes.iter().map(|change| {
        let told = PageEntry {
            entry: None,
            change: Some(change),
        };
        (change.event, told)
    });
    let mut all: Vec<_> = entries.chain(changes).collect();
    all.sort_by_key(|(event, _)| *event);
    all.into_iter().map(|(_, told)| told).collect()
}

fn stays(report: &RunReport) -> Vec<Stay<'_>> {
    let ends = report.changes.iter().skip(1).map(|next| next.tick);
    let ends = ends.chain([report.ticks]);
    let stays = report.changes.iter().zip(ends);
    stays
        .map(|(change, end)| Stay {
            change,
            ticks: end.saturating_sub(change.tick),
        })
        .collect()
}

/// What the script shows where a reader points: JSON that no text can break out of.
fn data(report: &RunReport, charts: &Charts) -> String {
    let series = &report.series;
    let short = |values: &[f32]| -> Vec<f64> {
        let rounded = values.iter().map(|v| (f64::from(*v) * 1e3).round() / 1e3);
        rounded.collect()
    };
    let mass: Vec<f32> = series.denied_mass.iter().map(|mass| *mass as f32).collect();
    let experts = report.experts.as_ref().map(|experts| {
        let tokens: Vec<u64> = experts.domains.iter().map(|d| d.tokens).collect();
        let worked: Vec<_> = experts.domains.iter().map(|d| &d.worked).collect();
        json!({ "layers": experts.layers, "tokens": tokens, "worked": worked })
    });
    let data = json!({
        "ticks": report.ticks,
        "bin_ticks": report.resolution.bin_ticks,
        "width": charts.width,
        "left": charts.left,
        "right": charts.right,
        "cell": charts.experts.as_ref().map(|experts| experts.cell),
        "series": {
            "state": series.state,
            "energy": short(&series.atp),
            "drive": short(&series.drive),
            "surprise": short(&series.surprise),
            "novelty": short(&series.novelty),
            "arousal": short(&series.arousal),
            "reward": short(&series.reward),
            "conflict": short(&series.conflict),
            "resident": series.resident_bytes,
            "capacity": series.capacity_bytes,
            "hits": series.hits,
            "misses": series.misses,
            "read": series.bytes_read,
            "denied": short(&mass),
        },
        "experts": experts,
    });
    data.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sage_actors::protocol::Cause;

    #[test]
    fn numbers_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, shown) in cases {
            assert_eq!(count(number), shown);
        }
    }

    #[test]
    fn causes_are_found_by_the_names_that_events_use() {
        for (name, cause) in [
            ("threat_over", Cause::ThreatOver),
            ("request", Cause::Request),
        ] {
            assert_eq!(named::<Cause>(name), Some(cause));
        }
    }
}
