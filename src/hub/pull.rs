//! A pull from beginning to end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::arriving::{Arriving, hex};
use super::event::{PullEvent, PullListener};
use super::plan::PlannedShard;
use super::provenance::{PROVENANCE, Provenance, PulledShard};
use super::small::SmallFiles;
use super::staging::{Identity, Staging, already_there};
use super::{Hub, HubError, Listing, ModelName, PullPlan, download};
use crate::checkpoint::{Checkpoint, Component};
use crate::store::assemble::free_bytes;
use crate::store::{ExtractReport, ExtractSelection, Extraction, FormatRule, write_file};

/// What is to be pulled, and where to.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The model.
    pub name: ModelName,
    /// Folder of the store; must not be there.
    pub store: PathBuf,
    /// Only these parts of the model.
    pub components: Option<BTreeSet<Component>>,
    /// Formats as they were asked for, to be recognised by; and what they mean.
    pub formats: Vec<(String, Vec<FormatRule>)>,
}

/// A pull whose extent is known.
pub struct Pull<'a> {
    hub: &'a Hub,
    options: PullOptions,
    listing: Listing,
    plan: PullPlan,
    staging: Staging,
    /// Where headers are, where nothing is to be left.
    _scratch: Option<tempfile::TempDir>,
}

impl<'a> Pull<'a> {
    /// Asks the hub what the model is, and fetches what is small: configuration, tokenizer, the headers of the shards. With
    /// `is_dry_run` into a folder that goes with the pull.
    ///
    /// # Errors
    /// If the hub refuses, is not reached or tells what cannot be, the model is none of ours, or the folder is occupied.
    pub fn prepare(
        hub: &'a Hub,
        options: PullOptions,
        is_dry_run: bool,
        listener: PullListener<'_>,
    ) -> Result<Self, HubError> {
        if options.store.exists() {
            return Err(already_there(&options.store));
        }
        let listing = Listing::fetch(hub, &options.name, listener)?;
        let identity = Identity {
            endpoint: hub.endpoint().to_owned(),
            repo: options.name.repo.clone(),
            commit: listing.commit.clone(),
            components: options
                .components
                .as_ref()
                .map(|of| of.iter().map(|c| c.name().to_owned()).collect()),
            formats: options
                .formats
                .iter()
                .map(|(text, _)| text.clone())
                .collect(),
        };
        let (folder, scratch) = match is_dry_run {
            false => (Staging::folder_of(&options.store), None),
            true => {
                let scratch = tempfile::tempdir()
                    .map_err(HubError::io("create a folder in", &std::env::temp_dir()))?;
                (scratch.path().join("trial"), Some(scratch))
            }
        };
        let staging = Staging::open(folder, &identity)?;
        let small = SmallFiles {
            hub,
            name: &options.name,
            listing: &listing,
            staging: &staging,
        };
        let headers = small.fetch(listener)?;
        let checkpoint = Checkpoint::open(staging.shards())?;
        let extraction = extraction(&checkpoint, &options, &staging)?;
        let plan = PullPlan::new(&checkpoint, &extraction, &headers, &listing);
        Ok(Self {
            hub,
            options,
            listing,
            plan,
            staging,
            _scratch: scratch,
        })
    }

    /// What is fetched, and what it takes.
    pub fn plan(&self) -> &PullPlan {
        &self.plan
    }

    /// The commit that is pulled.
    pub fn commit(&self) -> &str {
        &self.listing.commit
    }

    /// Bytes that an earlier run left, of those that the plan fetches.
    pub fn fetched_bytes(&self) -> u64 {
        let of = |shard: &PlannedShard| {
            let found = self.staging.progress(&shard.name);
            match found.done {
                true => shard.fetched_bytes(),
                false => {
                    let whole = shard.ranges.iter().take(found.ranges);
                    whole.map(|range| range.end - range.start).sum::<u64>() + found.bytes
                }
            }
        };
        self.plan.shards.iter().map(of).sum()
    }

    /// Bytes of disk that are still needed, and those that are free.
    ///
    /// # Errors
    /// If the file system cannot be asked.
    pub fn disk(&self) -> Result<(u64, u64), HubError> {
        let needed = self
            .plan
            .most_disk_bytes
            .saturating_sub(self.staging.disk_bytes());
        let folder = self
            .options
            .store
            .ancestors()
            .skip(1)
            .find(|folder| folder.exists());
        let folder = folder
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Ok((needed, free_bytes(folder)?))
    }

    /// Fetches and extracts what is not there yet; answers with what the store holds then.
    ///
    /// # Errors
    /// If the disk is too small, the hub cannot be reached or is not to be believed, or the store cannot be written. What was
    /// fetched and written stays, and the next run goes on from there.
    pub fn run(self, listener: PullListener<'_>) -> Result<(ExtractReport, Provenance), HubError> {
        let (needed_bytes, free_bytes) = self.disk()?;
        if free_bytes < needed_bytes {
            return Err(HubError::NoSpace {
                path: self.options.store.clone(),
                free_bytes,
                needed_bytes,
            });
        }
        let of = self.plan.shards.len();
        for (at, shard) in self.plan.shards.iter().enumerate() {
            listener(PullEvent::Shard {
                name: &shard.name,
                number: at + 1,
                of,
            });
            if self.staging.progress(&shard.name).released {
                continue;
            }
            self.fetch(shard, listener)?;
            let records = &self.plan.steps[at];
            if !records.is_empty() {
                listener(PullEvent::Extracting {
                    records: records.len(),
                });
                let checkpoint = Checkpoint::open(self.staging.shards())?;
                extraction(&checkpoint, &self.options, &self.staging)?
                    .only(records)
                    .under(&provisional(&self.listing))
                    .run(&|_| ())?;
            }
            self.release(shard)?;
        }
        let checkpoint = Checkpoint::open(self.staging.shards())?;
        let store = self.staging.store();
        let whole = extraction(&checkpoint, &self.options, &self.staging)?;
        whole.adopt(&provisional(&self.listing))?;
        let report = whole.run(&|_| ())?;
        let provenance = self.provenance();
        let text = serde_json::to_vec_pretty(&provenance).unwrap_or_default();
        write_file(&store.join(PROVENANCE), &text)?;
        self.staging.finish(&self.options.store)?;
        Ok((report, provenance))
    }

    fn provenance(&self) -> Provenance {
        let shard = |shard: &PlannedShard| PulledShard {
            name: shard.name.clone(),
            bytes: shard.fetched_bytes(),
            sha256: shard.sha256.clone(),
        };
        Provenance {
            endpoint: self.hub.endpoint().to_owned(),
            repo: self.options.name.repo.clone(),
            revision: self.options.name.revision.clone(),
            commit: self.listing.commit.clone(),
            formats: self
                .options
                .formats
                .iter()
                .map(|(text, _)| text.clone())
                .collect(),
            verified: self.plan.is_verifiable(),
            shards: self.plan.shards.iter().map(shard).collect(),
        }
    }

    /// Fetches what is not there yet of a shard, and compares its sum.
    fn fetch(&self, shard: &PlannedShard, listener: PullListener<'_>) -> Result<(), HubError> {
        let mut progress = self.staging.progress(&shard.name);
        if progress.done {
            return Ok(());
        }
        let file = self.staging.shard(&shard.name)?;
        let url = self.listing.url(self.hub, &self.options.name, &shard.name);
        let mut arriving = Arriving {
            file: &file,
            shard,
            staging: &self.staging,
            listener,
            at: 0,
            noted: 0,
            progress,
            sum: shard.sha256.as_ref().map(|_| Sha256::new()),
        };
        arriving.take_up()?;
        while let Some(range) = shard.ranges.get(arriving.progress.ranges) {
            let rest = range.start + arriving.progress.bytes..range.end;
            arriving.at = rest.start;
            let fetched = download::fetch(self.hub, &url, shard.file_bytes, rest, &mut arriving);
            if fetched.is_err() {
                // The first error counts; the next run goes on from here.
                let _ = arriving.note();
            }
            fetched?;
            arriving.range_done()?;
        }
        let found = arriving.sum.take().map(|sum| hex(&sum.finalize()));
        progress = arriving.progress;
        if let (Some(found), Some(expected)) = (found, &shard.sha256)
            && found != *expected
        {
            self.staging.forget(&shard.name)?;
            return Err(HubError::Checksum {
                file: shard.name.clone(),
                found,
                expected: expected.clone(),
            });
        }
        progress.done = true;
        self.staging.note(&shard.name, progress)
    }

    fn release(&self, shard: &PlannedShard) -> Result<(), HubError> {
        let mut progress = self.staging.progress(&shard.name);
        self.staging.release(&shard.name, &shard.kept)?;
        progress.released = true;
        self.staging.note(&shard.name, progress)
    }
}

/// What the store is called until the whole checkpoint went by and its fingerprint is known.
fn provisional(listing: &Listing) -> String {
    format!("being pulled from commit {}", listing.commit)
}

fn extraction<'c>(
    checkpoint: &'c Checkpoint,
    options: &PullOptions,
    staging: &Staging,
) -> Result<Extraction<'c>, HubError> {
    let mut selection = ExtractSelection::all();
    if let Some(components) = &options.components {
        selection.components = components.clone();
    }
    let rules: Vec<FormatRule> = options
        .formats
        .iter()
        .flat_map(|(_, rules)| rules.clone())
        .collect();
    let extraction = Extraction::prepare(checkpoint, staging.store(), &selection, false)?;
    Ok(extraction.in_formats(&rules)?)
}
