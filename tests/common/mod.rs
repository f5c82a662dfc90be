//! What several integration tests need.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod embedding;
pub mod hub;
pub mod layouts;
pub mod runs;
pub mod scramble;
pub mod sessions;
pub mod sounds;
pub mod speaking;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sage::checkpoint::Checkpoint;
use sage::store::{ExtractSelection, Extraction};

/// The checkpoints in `tests/fixtures`.
pub const FIXTURES: [&str; 8] = [
    "tiny-thinker",
    "tiny-omni",
    "edge-bf16",
    "edge-tied",
    "edge-dense-layers",
    "edge-all-experts",
    "edge-no-norm-topk",
    "edge-top1",
];

/// A path in `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A copy of a fixture's files that may be damaged.
pub fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// Extracts `selection` of a fixture into `store`.
pub fn extract(checkpoint: &Path, store: &Path, selection: &ExtractSelection) {
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    Extraction::prepare(&checkpoint, store, selection, false)
        .unwrap()
        .run(&|_| ())
        .unwrap();
}

/// Every file below `folder` with its bytes.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(
                    path.strip_prefix(folder).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

/// The configuration of the released model.
pub fn released_config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/synth/qwen3-omni-30b-config.json")
}
