//! Where two events differ.

use serde::Serialize;
use serde_json::Value;

use crate::trace::TraceLine;

/// The first line that came out otherwise, and both sides of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayDifference {
    /// In the recording, counted from 1.
    pub line: u64,
    /// The tick, where the event says it.
    pub tick: Option<u64>,
    /// What kind of event was recorded.
    pub recorded_type: String,
    /// What kind came instead.
    pub replayed_type: String,
    /// The first value that differs, as a path within the event; empty where the kinds differ.
    pub at: String,
    /// That value as it was recorded; null where it is missing.
    pub recorded: Value,
    /// As it came now.
    pub replayed: Value,
}

impl ReplayDifference {
    pub(super) fn of(line: &TraceLine, name: &str, replayed: &str) -> Self {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (recorded, replayed) = (parsed(&line.body), parsed(replayed));
        let kind = recorded["type"].as_str().unwrap_or_default().to_owned();
        let tick = [
            &recorded["tick"],
            &recorded["asked"]["tick"],
            &recorded["event"]["tick"],
        ];
        let tick = tick.iter().find_map(|tick| tick.as_u64());
        let (at, recorded, replayed) = if kind == name {
            first(String::new(), &recorded, &replayed).unwrap_or((
                String::new(),
                recorded,
                replayed,
            ))
        } else {
            (String::new(), recorded, replayed)
        };
        Self {
            line: line.number,
            tick,
            recorded_type: kind,
            replayed_type: name.to_owned(),
            at,
            recorded,
            replayed,
        }
    }
}

/// The first place where two values differ, depth first.
fn first(at: String, a: &Value, b: &Value) -> Option<(String, Value, Value)> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.find_map(|key| {
                let dot = if at.is_empty() { "" } else { "." };
                let none = &Value::Null;
                let (a, b) = (a.get(key).unwrap_or(none), b.get(key).unwrap_or(none));
                first(format!("{at}{dot}{key}"), a, b)
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs
                .into_iter()
                .find_map(|(n, (a, b))| first(format!("{at}[{n}]"), a, b))
        }
        _ if a == b => None,
        _ => Some((at, a.clone(), b.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &str) -> TraceLine {
        TraceLine {
            number: 7,
            body: body.to_owned(),
            digest: String::new(),
        }
    }

    #[test]
    fn the_first_value_that_differs_is_named() {
        let recorded =
            line(r#"{"type":"state","asked":{"tick":4},"answer":{"drive":0.5,"k":[1,2,3]}}"#);
        let replayed = r#"{"type":"state","asked":{"tick":4},"answer":{"drive":0.5,"k":[1,9,3]}}"#;
        let found = ReplayDifference::of(&recorded, "state", replayed);
        assert_eq!(
            (found.line, found.tick, found.at.as_str()),
            (7, Some(4), "answer.k[1]")
        );
        assert_eq!(
            (found.recorded, found.replayed),
            (Value::from(2), Value::from(9))
        );
    }

    #[test]
    fn an_event_of_another_kind_is_shown_whole() {
        let recorded = line(r#"{"type":"end","tick":9}"#);
        let found = ReplayDifference::of(&recorded, "route", r#"{"type":"route","layer":1}"#);
        assert_eq!(
            (found.recorded_type.as_str(), found.replayed_type.as_str()),
            ("end", "route")
        );
        assert_eq!(found.replayed["layer"], 1);
        assert_eq!(found.at, "");
    }
}
