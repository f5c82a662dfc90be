//! A value that holds from step to step, drawn as a stair.

use serde::Serialize;

use super::scale::{RIGHT, Scale, tenth};

/// A value between two bounds, over time.
#[derive(Serialize)]
pub struct Lane {
    pub name: &'static str,
    pub about: &'static str,
    pub top: f64,
    pub height: f64,
    pub line: String,
    pub area: String,
    pub low: &'static str,
    pub high: &'static str,
    /// What most of the line is, for those who hear the drawing.
    pub least: f64,
    pub most: f64,
}

/// The outline of `values`, from left to right.
pub fn stair(values: impl Iterator<Item = f64>, scale: &Scale, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut before = None;
    for (index, value) in values.enumerate() {
        let place = y(value);
        if before == Some(place) {
            continue;
        }
        let x = scale.bin(index);
        path.push_str(&match before {
            None => format!("M{x} {place}"),
            Some(_) => format!("H{x}V{place}"),
        });
        before = Some(place);
    }
    if before.is_some() {
        path.push_str(&format!("H{RIGHT}"));
    }
    path
}

/// What lies under an outline.
pub fn below(line: &str, base: f64) -> String {
    if line.is_empty() {
        String::new()
    } else {
        format!("{line}V{base}H{}Z", super::scale::LEFT)
    }
}

impl Lane {
    pub fn new(
        (name, about): (&'static str, &'static str),
        values: &[f32],
        (low, high): (f64, &'static str),
        (top, height): (f64, f64),
        scale: &Scale,
    ) -> Self {
        let most: f64 = high.parse().unwrap_or(1.0);
        let y = |value: f64| {
            let share = ((value - low) / (most - low)).clamp(0.0, 1.0);
            tenth(top + height * (1.0 - share))
        };
        let values = &values[..scale.bins(values.len())];
        let line = stair(values.iter().map(|value| f64::from(*value)), scale, y);
        let all = || values.iter().map(|value| f64::from(*value));
        Self {
            name,
            about,
            top,
            height,
            area: below(&line, tenth(top + height)),
            line,
            low: "0",
            high,
            least: all().reduce(f64::min).unwrap_or(low),
            most: all().reduce(f64::max).unwrap_or(low),
        }
    }
}
