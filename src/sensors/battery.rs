//! What the batteries have left.

use super::Sample;
use super::files::{Garbled, Root, number, text};

const SUPPLIES: &str = "/sys/class/power_supply";

/// The mean charge, %; 100 while nothing is drawn from any.
pub fn read(root: &Root) -> Sample {
    let mut sample = Sample::default();
    let (mut charges, mut drawn) = (Vec::new(), false);
    for name in root.names(SUPPLIES) {
        let folder = root.path(format!("{SUPPLIES}/{name}"));
        let is = |file: &str, what: &str| matches!(text(&folder.join(file)), Ok(Some(text)) if text.trim() == what);
        // The battery of a mouse is none of the machine's.
        if !is("type", "Battery") || is("scope", "Device") || is("present", "0") {
            continue;
        }
        let path = folder.join("capacity");
        let read = number::<f64>(&path, "0 to 100").and_then(|found| match found {
            Some(charge) if !(0.0..=100.0).contains(&charge) => {
                Err(Garbled::text(&path, &charge.to_string(), "0 to 100"))
            }
            found => Ok(found),
        });
        let Some(charge) = sample.keep(read) else {
            continue;
        };
        let status = sample
            .keep(text(&folder.join("status")))
            .unwrap_or_default();
        let status = status.trim();
        // A status that is unknown, missing or garbled is taken for the worse.
        drawn |= !matches!(status, "Charging" | "Full" | "Not charging");
        charges.push(charge);
        sample
            .from
            .push(format!("{} ({charge} %, {status})", path.display()));
    }
    if !charges.is_empty() {
        let mean = charges.iter().sum::<f64>() / charges.len() as f64;
        sample.value = Some(if drawn { mean } else { 100.0 });
    }
    sample
}
