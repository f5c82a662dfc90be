//! Files that appear under their name only when they are whole and on disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::input::check_replaceable;

/// What partial files have in their names, before the number of the process that writes them.
const MARK: &str = ".partial-";

/// What direct reads and writes are aligned to, in memory, in the file and in length.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// A file written beside its final name; dropped without [`AtomicFile::commit`], it is removed.
pub(crate) struct AtomicFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        check_replaceable(path).map_err(StoreError::io("write", path))?;
        let partial = partial_path(path);
        let file = File::create(&partial).map_err(StoreError::io("create", &partial))?;
        Ok(Self {
            file,
            partial,
            path: path.to_owned(),
            committed: false,
        })
    }

    /// As [`AtomicFile::create`], for writes that bypass the page cache where the file system can do that.
    fn create_direct(path: &Path) -> Result<Self, StoreError> {
        check_replaceable(path).map_err(StoreError::io("write", path))?;
        let partial = partial_path(path);
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = options
            .clone()
            .custom_flags(direct)
            .open(&partial)
            .or_else(|_| options.open(&partial));
        let file = file.map_err(StoreError::io("create", &partial))?;
        Ok(Self {
            file,
            partial,
            path: path.to_owned(),
            committed: false,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(StoreError::io("write", &self.partial))
    }

    /// Makes the file this long without writing: what is added reads as zeros and takes no room.
    pub(crate) fn set_len(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.file
            .set_len(bytes)
            .map_err(StoreError::io("resize", &self.partial))
    }

    /// Puts the bytes on disk, then gives the file its name. The name itself is durable once the folder is synced.
    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
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

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{MARK}{}", std::process::id()));
    PathBuf::from(name)
}

/// Memory for direct reads and writes: whole blocks at a block's alignment. Kept from file to file, because fresh memory costs
/// more than what is copied into it.
pub(crate) struct Blocks {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Blocks {
    pub(crate) fn new(blocks: usize) -> Self {
        let len = blocks * BLOCK_BYTES;
        let memory = vec![0; len + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { memory, start, len }
    }

    /// Whether it is at least so many blocks long.
    pub(crate) fn holds(&self, blocks: usize) -> bool {
        blocks * BLOCK_BYTES <= self.len
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// A large file written past the page cache, several times faster than through it. Otherwise an [`AtomicFile`].
pub(crate) struct DirectFile<'a> {
    out: AtomicFile,
    blocks: &'a mut Blocks,
    filled: usize,
    written: u64,
}

impl<'a> DirectFile<'a> {
    pub(crate) fn create(path: &Path, blocks: &'a mut Blocks) -> Result<Self, StoreError> {
        Ok(Self {
            out: AtomicFile::create_direct(path)?,
            blocks,
            filled: 0,
            written: 0,
        })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let room = &mut self.blocks.bytes()[self.filled..];
            let (taken, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..taken.len()].copy_from_slice(taken);
            self.filled += taken.len();
            bytes = rest;
            if self.filled == self.blocks.len {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is in memory, the last block filled up with zeros.
    fn flush(&mut self) -> Result<(), StoreError> {
        let padded = self.filled.next_multiple_of(BLOCK_BYTES);
        let filled = self.filled;
        let blocks = &mut self.blocks.bytes()[..padded];
        blocks[filled..].fill(0);
        let file = &self.out.file;
        let mut result = file.write_all_at(blocks, self.written);
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidInput)
        {
            // Some disks ask for larger blocks than ours; they get what is left through the page cache.
            result = rustix::fs::fcntl_setfl(file, rustix::fs::OFlags::empty()).map_err(Into::into);
            result = result.and_then(|()| file.write_all_at(blocks, self.written));
        }
        result.map_err(StoreError::io("write", &self.out.partial))?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    /// Writes the rest, cuts off what fills up the last block, and commits.
    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
        self.flush()?;
        if !self.written.is_multiple_of(BLOCK_BYTES as u64) {
            self.out.set_len(self.written)?;
        }
        self.out.commit()
    }
}

/// Writes a whole small file and syncs its folder.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    file.commit()?;
    // The parent of a bare name is the empty path, which no system opens.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", folder))
}

/// Removes what processes that were killed left behind. Call only while holding the store's lock.
pub(crate) fn remove_partials(folder: &Path) -> Result<(), StoreError> {
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
