//! Whether a model's experts are there, and how fast this machine reads them and works with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::Serialize;

use super::Printer;
use super::findings::Finding;
use crate::checkpoint::{Component, ExpertMatrix, expert_tensor_name};
use crate::cpu::probe::{WorkRates, work_rates};
use crate::store::{FileSegment, StoreError, WeightSource};

/// Experts that are read again to find the one that could not be: as many bytes at most.
const READ_AGAIN_BYTES: u64 = 512 << 20;

/// How many experts are of some kind, and what was said of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    experts: usize,
    first: String,
}

impl Counted {
    fn add(&mut self, said: String) {
        if self.experts == 0 {
            self.first = said;
        }
        self.experts += 1;
    }
}

/// What a look at every expert's place on disk says; none of them is read.
#[derive(Debug, Default)]
pub(super) struct ExpertSurvey {
    experts: usize,
    missing: Counted,
    /// Too short, of a wrong shape, or not to be opened.
    damaged: Counted,
    /// Nothing was ever written where they are to be.
    holes: Counted,
    files: BTreeMap<Arc<Path>, Result<FileExtent, (ErrorKind, String)>>,
}

/// Of a file.
#[derive(Clone, Copy, Debug)]
struct FileExtent {
    len_bytes: u64,
    /// Whether parts of it may be holes.
    sparse: bool,
}

impl ExpertSurvey {
    /// Of the thinker, and of the talker where answers are spoken.
    pub fn of(source: &dyn WeightSource, speaks: bool) -> Self {
        let mut survey = Self::default();
        let components = [(true, Component::Thinker), (speaks, Component::Talker)];
        for component in components
            .into_iter()
            .filter_map(|(on, of)| on.then_some(of))
        {
            let config = source.config();
            let Some(text) = component.text_config(config) else {
                continue;
            };
            let layers = 0..text.num_hidden_layers;
            for layer in layers.filter(|layer| component.is_sparse(config, *layer)) {
                for expert in 0..text.num_experts {
                    survey.look(source, component, layer, expert);
                }
            }
        }
        survey
    }

    fn look(&mut self, source: &dyn WeightSource, of: Component, layer: usize, expert: usize) {
        self.experts += 1;
        let location = match source.expert(of, layer, expert) {
            Ok(location) => location,
            Err(
                error @ (StoreError::ExpertMissing { .. } | StoreError::ExpertNotStored { .. }),
            ) => return self.missing.add(error.to_string()),
            Err(error) => return self.damaged.add(error.to_string()),
        };
        for segment in &location.segments {
            let end = segment.offset + segment.len_bytes as u64;
            let path = segment.path.display();
            match self.extent(&segment.path) {
                Err((ErrorKind::NotFound, said)) => return self.missing.add(said),
                Err((_, said)) => return self.damaged.add(said),
                Ok(extent) if extent.len_bytes < end => {
                    let has = extent.len_bytes;
                    return self.damaged.add(format!(
                        "{path} has {has} bytes; {of} layer {layer} expert {expert} ends at byte {end}"
                    ));
                }
                Ok(extent) if extent.sparse && is_hole(segment) => {
                    return self.holes.add(path.to_string());
                }
                Ok(_) => {}
            }
        }
    }

    fn extent(&mut self, path: &Arc<Path>) -> Result<FileExtent, (ErrorKind, String)> {
        let look = || match std::fs::metadata(path) {
            Ok(found) => Ok(FileExtent {
                len_bytes: found.len(),
                sparse: found.blocks() * 512 < found.len(),
            }),
            Err(error) => Err((error.kind(), format!("{}: {error}", path.display()))),
        };
        let known = self.files.entry(Arc::clone(path));
        known.or_insert_with(look).clone()
    }

    /// Whether weights were never written.
    pub fn has_holes(&self) -> bool {
        self.holes.experts > 0
    }

    /// Of what is missing, and of what cannot be used.
    pub fn findings(&self) -> Vec<Finding> {
        let of = |name, what: &str, counted: &Counted| {
            let (some, all) = (counted.experts, self.experts);
            Finding::fine(
                name,
                format!("{some} of {all} {what}, first: {}", counted.first),
            )
        };
        let mut findings = Vec::new();
        if self.missing.experts > 0 {
            findings.push(of("experts", "are missing", &self.missing).limits(
                "a run refuses such a model; extract them into the store, or do without them with --degrade (never exactly)",
            ));
        }
        if self.damaged.experts > 0 {
            findings.push(of("damaged experts", "cannot be used", &self.damaged).limits(
                "a run ends where it needs one: fetch or extract them again; `sage extract --verify STORE` names every file of a store that is not as it was written",
            ));
        }
        if findings.is_empty() {
            findings.push(Finding::fine(
                "experts",
                match self.experts {
                    0 => "the model has none".to_owned(),
                    all => format!("all {all} are there, in files of their length"),
                },
            ));
        }
        findings
    }
}

/// Whether hardly anything was ever written where an expert is to be. Where the file system does not say, something was.
fn is_hole(segment: &FileSegment) -> bool {
    let Ok(file) = File::open(&segment.path) else {
        return false;
    };
    match seek(&file, SeekFrom::Data(segment.offset)) {
        Ok(data) => data >= segment.offset + segment.len_bytes as u64 / 2,
        Err(error) => error == Errno::NXIO,
    }
}

/// What was measured; none where it was left out, or could not be.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Measured {
    /// Of experts, read as a run reads them.
    pub disk_bytes_per_second: Option<f64>,
    /// At which all threads read memory.
    pub memory_bytes_per_second: Option<f64>,
    /// Of experts at work on one token.
    pub expert_bytes_per_second: Option<f64>,
    /// Why experts were not tried; none where they were.
    pub problem: Option<String>,
}

impl Measured {
    /// Nothing, for this reason.
    pub fn nothing(problem: impl Into<String>) -> Self {
        Self {
            problem: Some(problem.into()),
            ..Self::default()
        }
    }

    fn of(rates: WorkRates) -> Self {
        Self {
            disk_bytes_per_second: Some(rates.read),
            memory_bytes_per_second: Some(rates.memory),
            expert_bytes_per_second: Some(rates.experts),
            problem: None,
        }
    }
}

/// Tries the disk and the arithmetic on some of the experts that were looked at, for a second; what was found of that, where it
/// could not be.
pub(super) fn measure(
    source: &Arc<dyn WeightSource>,
    survey: &ExpertSurvey,
    printer: &Printer,
) -> (Option<WorkRates>, Measured, Option<Finding>) {
    let (problem, advice) = if survey.experts == 0 {
        return (None, Measured::nothing("the model has no experts"), None);
    } else if survey.has_holes() {
        let (some, all) = (survey.holes.experts, survey.experts);
        let first = &survey.holes.first;
        (
            format!(
                "{some} of {all} experts are holes in their files, where nothing was ever written, first in {first}"
            ),
            "a disk is not tried on what is not on it: take a model with its weights",
        )
    } else {
        let bar = printer.steps("trying disk and arithmetic", 1);
        let rates = work_rates(source);
        bar.finish_and_clear();
        if let Some(rates) = rates {
            return (Some(rates), Measured::of(rates), None);
        }
        let problem = unreadable(&**source).unwrap_or_else(|| {
            "an expert could not be read, or there is no memory to try it in".to_owned()
        });
        (
            problem,
            "no speed can be forecast; `sage extract --verify STORE` names every file of a store that is not as it was written",
        )
    };
    let finding = Finding::fine("measurement", format!("experts were not tried: {problem}"));
    (
        None,
        Measured::nothing(problem),
        Some(finding.limits(advice)),
    )
}

/// Why the first expert that cannot be read cannot be.
fn unreadable(source: &dyn WeightSource) -> Option<String> {
    let text = &source.config().thinker.text;
    let (mut buffer, mut read) = (Vec::new(), 0);
    for layer in text.sparse_layers() {
        for expert in 0..text.num_experts {
            let said = read_expert(source, layer, expert, &mut buffer).err();
            if said.is_some() || read > READ_AGAIN_BYTES {
                return said.map(|error| error.to_string());
            }
            read += buffer.len() as u64 * 3;
        }
    }
    None
}

/// Reads an expert of the thinker matrix by matrix, as it is checked then.
fn read_expert(
    source: &dyn WeightSource,
    layer: usize,
    expert: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let location = source.expert(Component::Thinker, layer, expert)?;
    source.check_expert(&location)?;
    for part in ExpertMatrix::ALL {
        if let Some(name) = expert_tensor_name(Component::Thinker, layer, expert, part) {
            buffer.resize(source.tensor(&name)?.bytes as usize, 0);
            source.read_tensor(&name, buffer)?;
        }
    }
    Ok(())
}
