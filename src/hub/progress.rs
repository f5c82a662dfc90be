//! How far a shard is, kept beside it so that a killed pull goes on inside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::HubError;
use crate::store::write_file;

/// How far a shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardProgress {
    /// Ranges that are there as a whole.
    pub ranges: usize,
    /// Bytes of the next one that are on disk.
    pub bytes: u64,
    /// Whether all of it is there, and is what the hub lists where that can be known.
    pub done: bool,
    /// Whether nothing needs it any more and its room was given back.
    pub released: bool,
}

impl ShardProgress {
    /// What is known of a shard in this folder; nothing where there is no file, or one that was cut.
    pub fn read(folder: &Path, shard: &str) -> Self {
        let text = fs::read(path(folder, shard)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it down. What it speaks of must be on disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path, shard: &str) -> Result<(), HubError> {
        let path = path(folder, shard);
        let text = serde_json::to_vec(self).map_err(|error| {
            HubError::io("write", &path)(std::io::Error::other(error.to_string()))
        })?;
        Ok(write_file(&path, &text)?)
    }
}

fn path(folder: &Path, shard: &str) -> PathBuf {
    folder.join(format!("{shard}.json"))
}
