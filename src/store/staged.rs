//! Extraction in steps, while the shards of a checkpoint arrive one after the other.
//!
//! The checkpoint has all its headers from the beginning, so that it is known what is to be written and where it comes from;
//! its fingerprint, which samples weights of every shard, is known last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::extract::Extraction;
use super::manifest::{MANIFEST, Manifest};
use super::{StoreError, fingerprint};
use crate::checkpoint::{Checkpoint, StoredPart};

/// What a record is made of.
pub struct RecordReads {
    /// Where its tensors lie.
    pub parts: Vec<StoredPart>,
    /// Bytes of its file.
    pub file_bytes: u64,
}

/// What the fingerprint of a checkpoint reads of its shards.
pub fn fingerprint_reads(checkpoint: &Checkpoint) -> Vec<StoredPart> {
    let samples = fingerprint::samples(checkpoint);
    let part = |(shard, bytes): (usize, Range<u64>)| StoredPart { shard, bytes };
    samples.into_iter().map(part).collect()
}

impl Extraction<'_> {
    /// What the selected records are made of, by their files.
    pub fn reads(&self) -> BTreeMap<String, RecordReads> {
        let record = |file: &String| {
            let record = self.plan.records.get(file)?;
            let tensors = record.tensors.iter();
            let infos = tensors.filter_map(|tensor| self.checkpoint.tensor(&tensor.name));
            let reads = RecordReads {
                parts: infos.flat_map(|info| info.stored_parts()).collect(),
                file_bytes: record.file_bytes,
            };
            Some((file.clone(), reads))
        };
        self.plan.selected.iter().filter_map(record).collect()
    }

    /// Only those of the selected records.
    pub fn only(mut self, files: &BTreeSet<String>) -> Self {
        self.plan.selected.retain(|file| files.contains(file));
        self
    }

    /// Under another name than the fingerprint, as long as that is not known.
    pub fn under(mut self, name: &str) -> Self {
        name.clone_into(&mut self.fingerprint);
        self
    }

    /// Gives the store that was written under `name` its fingerprint.
    ///
    /// # Errors
    /// If there is no manifest of that name or of the fingerprint, or it cannot be written.
    pub fn adopt(&self, name: &str) -> Result<(), StoreError> {
        let mut manifest = Manifest::read(&self.store)?;
        if manifest.fingerprint == self.fingerprint {
            return Ok(());
        }
        if manifest.fingerprint != name {
            return Err(StoreError::OtherModel {
                path: self.store.join(MANIFEST),
                found: manifest.fingerprint,
                expected: name.to_owned(),
            });
        }
        self.fingerprint.clone_into(&mut manifest.fingerprint);
        manifest.write(&self.store, self.checkpoint.config())
    }
}
