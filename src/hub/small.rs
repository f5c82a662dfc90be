//! What is small of a checkpoint: everything beside its weights, and the headers of its shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::arriving::hex;
use super::event::{PullEvent, PullListener};
use super::staging::Staging;
use super::{Hub, HubError, Listing, ModelName, download};
use crate::checkpoint::{CONFIG, INDEX, SINGLE, shards_of_index};
use crate::input::MOST_MODEL_FILE_BYTES;
use crate::store::{COPIED_FILES, write_file};

/// No header of a shard is longer: what the format allows.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// Fetches what is small.
pub(super) struct SmallFiles<'a> {
    pub hub: &'a Hub,
    pub name: &'a ModelName,
    pub listing: &'a Listing,
    pub staging: &'a Staging,
}

impl SmallFiles<'_> {
    /// Everything that a checkpoint has beside its weights, and its headers; the end of each header by shard.
    pub fn fetch(&self, listener: PullListener<'_>) -> Result<BTreeMap<String, u64>, HubError> {
        let no_checkpoint = |problem: &str| HubError::NotACheckpoint {
            repo: self.name.repo.clone(),
            commit: self.listing.commit.clone(),
            problem: problem.to_owned(),
        };
        if self.listing.file(CONFIG).is_none() {
            let problem = "has no config.json: expected a checkpoint in safetensors (a GGUF file is downloaded otherwise, and given to sage extract)";
            return Err(no_checkpoint(problem));
        }
        let files = COPIED_FILES.into_iter().chain([INDEX]);
        for path in files.filter(|path| self.listing.file(path).is_some()) {
            self.file(path, listener)?;
        }
        let names = match (self.listing.file(SINGLE), self.listing.file(INDEX)) {
            (Some(_), _) => BTreeSet::from([SINGLE.to_owned()]),
            (None, Some(_)) => {
                let path = self.staging.shards().join(INDEX);
                let text = fs::read(&path).map_err(HubError::io("read", &path))?;
                let problem = |problem: String| {
                    no_checkpoint(&format!("has a {INDEX} that cannot be read: {problem}"))
                };
                shards_of_index(&text).map_err(problem)?
            }
            (None, None) => {
                let problem = format!(
                    "has neither {SINGLE} nor {INDEX}: expected a checkpoint in safetensors"
                );
                return Err(no_checkpoint(&problem));
            }
        };
        let of = names.len();
        let mut ends = BTreeMap::new();
        for (at, name) in names.into_iter().enumerate() {
            let Some(listed) = self.listing.file(&name) else {
                return Err(no_checkpoint(&format!(
                    "has no {name}, which its {INDEX} names"
                )));
            };
            let end = self.header(&name, listed.bytes, listener)?;
            ends.insert(name, end);
            listener(PullEvent::Header { number: at + 1, of });
        }
        Ok(ends)
    }

    fn file(&self, path: &str, listener: PullListener<'_>) -> Result<(), HubError> {
        let target = self.staging.shards().join(path);
        let listed = self.listing.file(path);
        let bytes = listed.map_or(0, |file| file.bytes);
        if fs::metadata(&target).is_ok_and(|found| found.len() == bytes) {
            return Ok(());
        }
        let url = self.listing.url(self.hub, self.name, path);
        if bytes > MOST_MODEL_FILE_BYTES {
            let problem =
                format!("is {bytes} bytes long; expected at most {MOST_MODEL_FILE_BYTES}");
            return Err(HubError::Wrong { url, problem });
        }
        let found = download::part(self.hub, &url, bytes, 0..bytes, listener)?;
        if let Some(expected) = listed.and_then(|file| file.sha256.clone()) {
            let sum = hex(&Sha256::digest(&found));
            if sum != expected {
                return Err(HubError::Checksum {
                    file: path.to_owned(),
                    found: sum,
                    expected,
                });
            }
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(HubError::io("create", folder))?;
        }
        Ok(write_file(&target, &found)?)
    }

    /// Puts the header of a shard into a file of its length; answers where the header ends.
    fn header(
        &self,
        name: &str,
        file_bytes: u64,
        listener: PullListener<'_>,
    ) -> Result<u64, HubError> {
        let url = self.listing.url(self.hub, self.name, name);
        let wrong = |problem: String| HubError::Wrong {
            url: url.clone(),
            problem,
        };
        let length = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let is_sound =
            |length: &u64| *length <= MOST_HEADER_BYTES.min(file_bytes.saturating_sub(8));
        let target = self.staging.shards().join(name);
        if fs::metadata(&target).is_ok_and(|found| found.len() == file_bytes) {
            let mut bytes = [0; 8];
            let file = self.staging.shard(name)?;
            let read = file.read_exact_at(&mut bytes, 0);
            read.map_err(HubError::io("read", &target))?;
            if let Some(length) = length(&bytes).filter(is_sound).filter(|length| *length > 0) {
                return Ok(8 + length);
            }
        }
        let asked: Range<u64> = 0..8.min(file_bytes);
        let bytes = download::part(self.hub, &url, file_bytes, asked, listener)?;
        let length = length(&bytes).filter(is_sound).ok_or_else(|| {
            wrong(format!("begins with {bytes:02x?}, which is no length of a header: expected a file of safetensors"))
        })?;
        let mut header = bytes;
        header.extend(download::part(
            self.hub,
            &url,
            file_bytes,
            8..8 + length,
            listener,
        )?);
        self.staging.put_header(name, file_bytes, &header)?;
        Ok(8 + length)
    }
}
