//! Extraction: from a checkpoint to a store, cumulative and resumable.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use super::assemble::{Assembly, Progress, State};
use super::conversion::{self, Conversion, FormatRule};
use super::manifest::{Manifest, SourceShard};
use super::plan::{ExtractPlan, ExtractSelection, PlannedRecord};
use super::record::TensorSpec;
use super::source::TensorSource;
use super::{StoreError, fingerprint};
use crate::checkpoint::Checkpoint;

/// Files that a model needs beside its weights.
pub const COPIED_FILES: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/default.jinja",
    "additional_chat_templates/tool_use.jinja",
];

/// What an extraction did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Records written.
    pub written: usize,
    /// Bytes of their files.
    pub written_bytes: u64,
    /// Records asked for that were there already.
    pub kept: usize,
    /// Bytes of their files.
    pub kept_bytes: u64,
    /// Tensors of the whole model that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Whether the store holds the whole model.
    pub complete: bool,
}

/// An extraction whose extent is known.
pub struct Extraction<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) store: PathBuf,
    pub(super) plan: ExtractPlan,
    pub(super) fingerprint: String,
    converted: Option<Conversion>,
}

impl<'a> Extraction<'a> {
    /// Works out what `selection` means for this checkpoint. Writes nothing.
    ///
    /// # Errors
    /// If a tensor is misshapen, or missing and not `allow_missing`, or the selection does not fit the model.
    pub fn prepare(
        checkpoint: &'a Checkpoint,
        store: impl Into<PathBuf>,
        selection: &ExtractSelection,
        allow_missing: bool,
    ) -> Result<Self, StoreError> {
        let store = store.into();
        let same = |out| fs::canonicalize(checkpoint.folder()).is_ok_and(|from| from == out);
        if fs::canonicalize(&store).is_ok_and(same) {
            let problem = "is the checkpoint itself; extract into another folder".to_owned();
            return Err(StoreError::NotAModel {
                path: store,
                problem,
            });
        }
        let plan = ExtractPlan::new(checkpoint, selection)?;
        if let Some((first, count)) = plan.selected_missing.clone().filter(|_| !allow_missing) {
            return Err(StoreError::TensorsMissing { count, first });
        }
        let fingerprint = fingerprint::fingerprint(checkpoint)?;
        Ok(Self {
            checkpoint,
            store,
            plan,
            fingerprint,
            converted: None,
        })
    }

    /// The same, with tensors stored in other formats: of several rules that cover a tensor the last one counts, and rows
    /// that are not whole blocks get what [`WeightFormat::fitting`](crate::formats::WeightFormat::fitting) says. The store is
    /// another model then, with a fingerprint of its own, unless every tensor is in the format asked for already.
    ///
    /// A packed matrix that no rule covers is stored in the smallest format that keeps what the packing left of its numbers;
    /// without a call of this, as F32, which holds them exactly.
    ///
    /// # Errors
    /// If a rule covers no tensor of the model.
    pub fn in_formats(mut self, rules: &[FormatRule]) -> Result<Self, StoreError> {
        let config = self.checkpoint.config();
        let kept = |name: &str| {
            let packed = self.checkpoint.tensor(name)?.packed.as_ref();
            packed.map(|packed| packed.kept_format())
        };
        let tensors = conversion::apply(rules, config, &kept, &mut self.plan.records)?;
        let of = std::mem::take(&mut self.fingerprint);
        self.fingerprint = fingerprint::of_converted(&of, &tensors);
        self.converted = (!tensors.is_empty()).then_some(Conversion { of, tensors });
        Ok(self)
    }

    /// What is converted; none where everything is stored as in the checkpoint.
    pub fn converted(&self) -> Option<&Conversion> {
        self.converted.as_ref()
    }

    /// The fingerprint of the model.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What would be written now, in order. Writes nothing.
    ///
    /// # Errors
    /// If the folder holds another model's store or a damaged manifest.
    pub fn pending(&self) -> Result<Vec<&PlannedRecord>, StoreError> {
        let state = self.assembly().state()?;
        Ok(state
            .todo
            .iter()
            .filter_map(|file| self.plan.records.get(file))
            .collect())
    }

    /// What the store holds now and [`Extraction::run`] would add. Writes nothing.
    ///
    /// # Errors
    /// As [`Extraction::pending`].
    pub fn preview(&self) -> Result<ExtractReport, StoreError> {
        let assembly = self.assembly();
        let state = assembly.state()?;
        let manifest = assembly.manifest(state.done.clone(), Vec::new());
        Ok(self.report(&state, &manifest))
    }

    /// Extracts what is not there yet and writes the manifest.
    ///
    /// # Errors
    /// If the store is busy or another model's, the disk too small, or reading or writing fails; what was finished
    /// stays and is kept by the next run.
    pub fn run(&self, progress: Progress) -> Result<ExtractReport, StoreError> {
        let mut files = Vec::new();
        for name in COPIED_FILES {
            if let Some(bytes) = self.checkpoint.file_bytes(name)? {
                files.push((name, bytes));
            }
        }
        let source = TensorSource::new(self.checkpoint);
        let fill = |tensor: &TensorSpec, at, piece: &mut [u8]| source.fill(tensor, at, piece);
        let (state, manifest) = self.assembly().run(&files, &fill, progress)?;
        Ok(self.report(&state, &manifest))
    }

    fn assembly(&self) -> Assembly<'_> {
        let shard = |(name, bytes): (&str, u64)| SourceShard {
            name: name.to_owned(),
            bytes,
        };
        Assembly {
            store: &self.store,
            config: self.checkpoint.config(),
            fingerprint: &self.fingerprint,
            converted: self.converted.as_ref(),
            source: self.checkpoint.shards().map(shard).collect(),
            missing: &self.plan.missing,
            records: &self.plan.records,
            selected: &self.plan.selected,
        }
    }

    fn report(&self, state: &State, manifest: &Manifest) -> ExtractReport {
        let todo: HashSet<&String> = state.todo.iter().collect();
        let kept: Vec<&String> = self
            .plan
            .selected
            .iter()
            .filter(|file| !todo.contains(file))
            .collect();
        let bytes = |file: &String| self.plan.records[file].file_bytes;
        ExtractReport {
            written: state.todo.len(),
            written_bytes: state.todo.iter().map(bytes).sum(),
            kept: kept.len(),
            kept_bytes: kept.into_iter().map(bytes).sum(),
            missing: self.plan.missing.iter().cloned().collect(),
            complete: manifest.is_complete(self.checkpoint.config()),
        }
    }
}
