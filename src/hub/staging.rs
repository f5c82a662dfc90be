//! The folder in which a pull works, beside the store that is to be: `STORE.partial`.
//!
//! `shards/` is a checkpoint whose files have their true length and headers, and holes where nothing was fetched yet or where
//! nothing is needed any more; `store/` is the store so far; `progress/` says how far every shard is.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::HubError;
use super::progress::ShardProgress;
use crate::store::assemble::lock;
use crate::store::write_file;

/// What is pulled: a folder holds one pull only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub endpoint: String,
    pub repo: String,
    pub commit: String,
    /// As they were asked for; none: all.
    pub components: Option<Vec<String>>,
    /// As `--quant` has them.
    pub formats: Vec<String>,
}

/// The folder of a pull, held for this process until dropped.
pub(super) struct Staging {
    folder: PathBuf,
    _lock: File,
}

impl Staging {
    /// Where a pull into `store` works.
    pub fn folder_of(store: &Path) -> PathBuf {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        store.with_file_name(name)
    }

    /// Begins a pull in `folder`, or goes on with it.
    ///
    /// # Errors
    /// If another process or another pull is there, or the folder cannot be written.
    pub fn open(folder: PathBuf, identity: &Identity) -> Result<Self, HubError> {
        for part in ["shards", "store", "progress"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(HubError::io("create", &part))?;
        }
        let lock = lock(&folder)?;
        let occupied = |problem: String| HubError::Occupied {
            path: folder.clone(),
            problem,
        };
        let path = folder.join("pull.json");
        match fs::read(&path) {
            Ok(text) => {
                let found: Option<Identity> = serde_json::from_slice(&text).ok();
                if found.as_ref() != Some(identity) {
                    let what = found.map_or("something else".to_owned(), |found| {
                        format!(
                            "{} at commit {} from {} ({})",
                            found.repo,
                            found.commit,
                            found.endpoint,
                            found.asked()
                        )
                    });
                    let problem = format!(
                        "holds an unfinished pull of {what}, not of {} at commit {} from {} ({}): finish that one, choose another --out, or remove the folder",
                        identity.repo,
                        identity.commit,
                        identity.endpoint,
                        identity.asked()
                    );
                    return Err(occupied(problem));
                }
            }
            Err(_) => {
                let text = serde_json::to_vec_pretty(identity).unwrap_or_default();
                write_file(&path, &text)?;
            }
        }
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The checkpoint.
    pub fn shards(&self) -> PathBuf {
        self.folder.join("shards")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// How far a shard is.
    pub fn progress(&self, shard: &str) -> ShardProgress {
        ShardProgress::read(&self.folder.join("progress"), shard)
    }

    /// Notes how far a shard is.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn note(&self, shard: &str, progress: ShardProgress) -> Result<(), HubError> {
        progress.write(&self.folder.join("progress"), shard)
    }

    /// Throws a shard away, its header too.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self, shard: &str) -> Result<(), HubError> {
        self.note(shard, ShardProgress::default())?;
        let path = self.shards().join(shard);
        fs::remove_file(&path).map_err(HubError::io("remove", &path))
    }

    /// The file of a shard.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn shard(&self, shard: &str) -> Result<File, HubError> {
        let path = self.shards().join(shard);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.map_err(HubError::io("open", &path))
    }

    /// Makes the file of a shard that has its header and holes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_header(&self, shard: &str, file_bytes: u64, header: &[u8]) -> Result<(), HubError> {
        self.put_sparse(shard, |file| {
            file.set_len(file_bytes)?;
            file.write_all_at(header, 0)
        })
    }

    /// Gives the room of a shard back, but for what is kept.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn release(&self, shard: &str, kept: &[Range<u64>]) -> Result<(), HubError> {
        let old = self.shard(shard)?;
        // A new file: not every file system makes holes in one that is there.
        self.put_sparse(shard, |file| {
            file.set_len(old.metadata()?.len())?;
            let mut piece = vec![0; 4 << 20];
            for range in kept {
                let mut at = range.start;
                while at < range.end {
                    let bytes = (range.end - at).min(piece.len() as u64) as usize;
                    old.read_exact_at(&mut piece[..bytes], at)?;
                    file.write_all_at(&piece[..bytes], at)?;
                    at += bytes as u64;
                }
            }
            Ok(())
        })
    }

    /// Writes a shard anew, beside the old one until it is on disk.
    fn put_sparse(
        &self,
        shard: &str,
        write: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<(), HubError> {
        let path = self.shards().join(shard);
        let beside = self.folder.join("progress").join(format!("{shard}.new"));
        let written = File::create(&beside).and_then(|file| {
            write(&file)?;
            file.sync_data()?;
            fs::rename(&beside, &path)
        });
        written.map_err(HubError::io("write", &path))
    }

    /// Bytes of the disk that the folder takes now.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.folder)
    }

    /// The store is whole: it gets its name, and everything else goes.
    ///
    /// # Errors
    /// If there is something of that name, or the folder cannot be changed.
    pub fn finish(self, store: &Path) -> Result<(), HubError> {
        if store.exists() {
            return Err(already_there(store));
        }
        fs::rename(self.store(), store).map_err(HubError::io("rename", &self.store()))?;
        fs::remove_dir_all(&self.folder).map_err(HubError::io("remove", &self.folder))
    }
}

/// The error about a store that is there already.
pub(super) fn already_there(store: &Path) -> HubError {
    HubError::Occupied {
        path: store.to_owned(),
        problem: "is there already: choose another --out, or remove it".to_owned(),
    }
}

impl Identity {
    fn asked(&self) -> String {
        let components = self.components.as_ref().map(|of| of.join(", "));
        let formats = match self.formats.is_empty() {
            true => "formats as they are".to_owned(),
            false => format!("--quant {}", self.formats.join(" --quant ")),
        };
        format!(
            "{}; {formats}",
            components.unwrap_or("all components".to_owned())
        )
    }
}

/// Bytes of the disk that everything in a folder takes: a file may have holes.
pub fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
