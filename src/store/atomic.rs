//! Files that appear under their name only when they are whole and on disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StoreError;

/// What partial files have in their names, before the number of the process that writes them.
const MARK: &str = ".partial-";

/// A file written beside its final name; dropped without [`AtomicFile::commit`], it is removed.
pub(super) struct AtomicFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{MARK}{}", std::process::id()));
        let partial = PathBuf::from(name);
        let file = File::create(&partial).map_err(StoreError::io("create", &partial))?;
        Ok(Self {
            file,
            partial,
            path: path.to_owned(),
            committed: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(StoreError::io("write", &self.partial))
    }

    /// Lengthens the file to `bytes` without writing: what is added reads as zeros and takes no room.
    pub(super) fn extend_to(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.file
            .set_len(bytes)
            .map_err(StoreError::io("extend", &self.partial))
    }

    /// Puts the bytes on disk, then gives the file its name. The name itself is durable once the folder is synced.
    pub(super) fn commit(mut self) -> Result<(), StoreError> {
        self.file
            .sync_data()
            .map_err(StoreError::io("sync", &self.partial))?;
        fs::rename(&self.partial, &self.path).map_err(StoreError::io("rename", &self.partial))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here, and the next run removes what is left.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Writes a whole small file and syncs its folder.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    file.commit()?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", folder))
}

/// Removes what processes that were killed left behind. Call only while holding the store's lock.
pub(super) fn remove_partials(folder: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains(MARK))
        {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}
