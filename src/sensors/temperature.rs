//! How far the hottest part is from its limit.

use std::path::Path;

use super::Sample;
use super::files::{Garbled, Root, number, text};

const ZONES: &str = "/sys/class/thermal";
const CHIPS: &str = "/sys/class/hwmon";

/// Trip points of a zone that are looked at.
const MOST_TRIPS: usize = 64;

/// What a limit can be, °C: drivers write 0 or thousands where they know none.
const LIMITS: std::ops::RangeInclusive<f64> = 1.0..=200.0;

/// What a temperature can be, °C.
const TEMPERATURES: std::ops::RangeInclusive<f64> = -100.0..=300.0;

/// Degrees below the nearest limit. A sensor whose limit is unknown says nothing of a reserve.
pub fn read(root: &Root) -> Sample {
    let mut sample = Sample::default();
    for zone in root.names(ZONES) {
        if zone.starts_with("thermal_zone") {
            let folder = root.path(format!("{ZONES}/{zone}"));
            let limit = trip(&folder, &mut sample);
            margin(&folder.join("temp"), limit, &mut sample);
        }
    }
    for chip in root.names(CHIPS) {
        let folder = format!("{CHIPS}/{chip}");
        let inputs = root.names(&folder);
        let inputs = inputs.iter().filter_map(|name| name.strip_suffix("_input"));
        for input in inputs.filter(|name| name.starts_with("temp")) {
            let path = root.path(&folder).join(input);
            let file = |end: &str| path.with_file_name(format!("{input}_{end}"));
            let limit = limit(&file("crit"), &mut sample);
            let limit = limit.or_else(|| self::limit(&file("max"), &mut sample));
            margin(&file("input"), limit, &mut sample);
        }
    }
    sample
}

/// The lowest critical or hot trip point of a zone.
fn trip(zone: &Path, sample: &mut Sample) -> Option<f64> {
    let mut lowest: Option<f64> = None;
    for index in 0..MOST_TRIPS {
        let kind = sample.keep(text(&zone.join(format!("trip_point_{index}_type"))));
        let Some(kind) = kind else { break };
        if matches!(kind.trim(), "critical" | "hot") {
            let limit = limit(&zone.join(format!("trip_point_{index}_temp")), sample);
            lowest = [lowest, limit].into_iter().flatten().reduce(f64::min);
        }
    }
    lowest
}

/// A limit in °C; none where there is none or it is none that a part could have.
fn limit(path: &Path, sample: &mut Sample) -> Option<f64> {
    let read = number::<f64>(path, "thousandths of a degree");
    sample
        .keep(read)
        .map(|thousandths| thousandths / 1000.0)
        .filter(|limit| LIMITS.contains(limit))
}

fn margin(path: &Path, limit: Option<f64>, sample: &mut Sample) {
    let Some(limit) = limit else { return };
    let expected = "thousandths of a degree";
    let read = number::<f64>(path, expected).and_then(|found| match found {
        Some(thousandths) if !TEMPERATURES.contains(&(thousandths / 1000.0)) => {
            Err(Garbled::text(path, &thousandths.to_string(), expected))
        }
        found => Ok(found),
    });
    if let Some(thousandths) = sample.keep(read) {
        let now = thousandths / 1000.0;
        sample.least(limit - now);
        sample
            .from
            .push(format!("{} ({now} of {limit} °C)", path.display()));
    }
}
