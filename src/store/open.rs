//! Opening a model, whatever it lies in.

use std::path::Path;

use super::checks::{refuse_packed, refuse_unsound};
use super::journal::JOURNAL;
use super::manifest::MANIFEST;
use super::{Store, StoreError, WeightSource};
use crate::checkpoint::{Checkpoint, foreign};

/// Opens the model in a folder: a store if it has a manifest, otherwise a checkpoint.
///
/// # Errors
/// If it is neither, or damaged, or a checkpoint whose matrices are packed.
pub fn open_model(path: impl AsRef<Path>) -> Result<Box<dyn WeightSource>, StoreError> {
    let path = path.as_ref();
    match recognise(path)? {
        ModelKind::Store => {
            let store = Store::open(path)?;
            store.check_files()?;
            Ok(Box::new(store))
        }
        ModelKind::Checkpoint => {
            let checkpoint = Checkpoint::open(path)?;
            refuse_unsound(&checkpoint)?;
            refuse_packed(&checkpoint)?;
            Ok(Box::new(checkpoint))
        }
    }
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// An extracted or synthesised store.
    Store,
    /// A Hugging Face checkpoint.
    Checkpoint,
}

/// Tells a store from a checkpoint by the files in the folder.
///
/// # Errors
/// If the path is no folder or holds neither.
pub fn recognise(path: &Path) -> Result<ModelKind, StoreError> {
    let not = |problem: &str| {
        Err(StoreError::NotAModel {
            path: path.to_owned(),
            problem: problem.to_owned(),
        })
    };
    if !path.exists() {
        return not("no such folder; expected a checkpoint or an extracted store");
    }
    if !path.is_dir() {
        return not(&foreign::of_file(path));
    }
    if path.join(MANIFEST).exists() {
        Ok(ModelKind::Store)
    } else if path.join(JOURNAL).exists() {
        not("an unfinished extraction; run the same `sage extract` again to finish it")
    } else if let Some(problem) = foreign::of_folder(path) {
        not(&problem)
    } else if path.join("config.json").exists() {
        Ok(ModelKind::Checkpoint)
    } else {
        not(
            "neither config.json nor extraction_manifest.json is there; expected a checkpoint or an extracted store",
        )
    }
}
