//! Memory pressure as Linux counts it (PSI).

use std::path::Path;

use super::files::{Garbled, Root, text};
use super::{Sample, cgroup};

/// Of the whole machine.
pub fn of_machine(root: &Root) -> Sample {
    let mut sample = Sample::default();
    file(&root.path("/proc/pressure/memory"), &mut sample);
    sample
}

/// Of the process's own cgroup, v2.
pub fn of_cgroup(root: &Root) -> Sample {
    let mut sample = Sample::default();
    if let Some(own) = cgroup::unified(root, "memory.pressure").first() {
        file(&own.join("memory.pressure"), &mut sample);
    }
    sample
}

fn file(path: &Path, sample: &mut Sample) {
    let read = text(path).and_then(|found| {
        let Some(found) = found else { return Ok(None) };
        match full_avg10(&found) {
            Some(share) => Ok(Some(share)),
            None => Err(Garbled::text(
                path,
                &found,
                "a line `full avg10=…` from 0 to 100",
            )),
        }
    });
    if let Some(share) = sample.keep(read) {
        sample.value = Some(share);
        sample
            .from
            .push(format!("{} (full avg10={share})", path.display()));
    }
}

fn full_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let value = line
        .split_whitespace()
        .find_map(|part| part.strip_prefix("avg10="))?;
    let share = value.parse().ok()?;
    (0.0..=100.0).contains(&share).then_some(share)
}
