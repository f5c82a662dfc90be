//! Models without training: runnable stores of random weights, and checkpoints of true headers without data.
//!
//! Weights follow from (seed, tensor name, element index) alone, so that a store is the same however many threads made
//! it, and scales are such that activations keep a size around one: what a kernel, a cache or a disk does with such a
//! model is what it does with a trained one.

mod headers;
mod recipe;
mod released;
mod released_config;
mod tokenizer;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use headers::write_headers;
pub use recipe::{MIN_VOCAB_SIZE, Recipe};
pub use released_config::RELEASED_CONFIG;

use crate::checkpoint::{ExpectedTensor, ModelConfig, expected_tensors};
use crate::formats::WeightFormat;
use crate::store::assemble::{Assembly, Progress};
use crate::store::plan::PlannedRecord;
use crate::store::record::{RecordKind, TensorSpec, file_bytes};
use crate::store::{StoreError, conversion, fingerprint, journal, manifest};

/// What [`write_store`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthReport {
    /// Fingerprint of the model.
    pub fingerprint: String,
    /// Records of the store.
    pub records: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Bytes of the records that [`write_store`] would write.
///
/// # Errors
/// If the recipe makes no valid configuration.
pub fn planned_bytes(recipe: &Recipe) -> Result<u64, StoreError> {
    let config = parse(&recipe.config_json())?;
    Ok(plan(&config, recipe)?
        .values()
        .map(|record| record.file_bytes)
        .sum())
}

/// Writes a store of random weights of the thinker at `store`. Resumable like an extraction.
///
/// # Errors
/// If weights are not made in the recipe's format, the recipe makes no valid configuration, the folder holds something else, or writing fails.
pub fn write_store(
    recipe: &Recipe,
    store: &Path,
    progress: Progress,
) -> Result<SynthReport, StoreError> {
    let config_json = recipe.config_json();
    let config = parse(&config_json)?;
    if !values::FORMATS.contains(&recipe.format) {
        return Err(StoreError::Selection(format!(
            "weights that no rule covers are made up as {}, not as {}",
            values::FORMATS.map(WeightFormat::option).join(" or "),
            recipe.format.option(),
        )));
    }
    refuse_foreign(store)?;
    let records = plan(&config, recipe)?;
    let selected: Vec<String> = records.keys().cloned().collect();
    let rules = recipe.rules.iter().map(|rule| format!(" {rule}"));
    let rules: String = rules.collect();
    let fingerprint = fingerprint::of_recipe(
        config_json.as_bytes(),
        &format!("{} seed {}{rules}", recipe.format.option(), recipe.seed),
    );
    let assembly = Assembly {
        store,
        config: &config,
        fingerprint: &fingerprint,
        converted: None,
        source: Vec::new(),
        missing: &BTreeSet::new(),
        records: &records,
        selected: &selected,
    };
    let files = [
        ("config.json", config_json.clone().into_bytes()),
        (
            "generation_config.json",
            recipe.generation_config_json().into_bytes(),
        ),
        (
            "tokenizer.json",
            tokenizer::tokenizer_json(recipe).into_bytes(),
        ),
        (
            "tokenizer_config.json",
            tokenizer::tokenizer_config_json().into_bytes(),
        ),
        (
            "chat_template.json",
            tokenizer::chat_template_json().into_bytes(),
        ),
    ];
    let fill = |tensor: &TensorSpec, at: u64, piece: &mut [u8]| {
        let values = values::Values::new(recipe.seed, &tensor.name, &tensor.shape, tensor.dtype);
        let values = values.map_err(|source| StoreError::Convert {
            tensor: tensor.name.clone(),
            source,
        })?;
        values.fill(at, piece);
        Ok(())
    };
    assembly.run(&files, &fill, progress)?;
    let bytes = records.values().map(|record| record.file_bytes).sum();
    Ok(SynthReport {
        fingerprint,
        records: records.len(),
        bytes,
    })
}

fn parse(config_json: &str) -> Result<ModelConfig, StoreError> {
    ModelConfig::from_json(config_json.as_bytes())
        .map_err(|error| StoreError::Selection(format!("these dimensions make no model: {error}")))
}

/// Only an empty folder, or one of ours, is written to.
fn refuse_foreign(store: &Path) -> Result<(), StoreError> {
    let ours = store.join(manifest::MANIFEST).exists() || store.join(journal::JOURNAL).exists();
    let empty = std::fs::read_dir(store).map_or(true, |mut entries| entries.next().is_none());
    if ours || empty {
        return Ok(());
    }
    let problem = "is not empty and not a store; choose another folder".to_owned();
    Err(StoreError::NotAModel {
        path: store.to_owned(),
        problem,
    })
}

fn plan(
    config: &ModelConfig,
    recipe: &Recipe,
) -> Result<BTreeMap<String, PlannedRecord>, StoreError> {
    let mut records: BTreeMap<String, PlannedRecord> = BTreeMap::new();
    for tensor in expected_tensors(config) {
        let kind = RecordKind::of(tensor.role);
        let component = tensor.component;
        let spec = spec(tensor, recipe.format)?;
        let record = records
            .entry(kind.file(component))
            .or_insert_with(|| PlannedRecord {
                component,
                kind,
                tensors: Vec::new(),
                file_bytes: 0,
            });
        record.tensors.push(spec);
    }
    for record in records.values_mut() {
        record.file_bytes = file_bytes(&record.tensors);
    }
    conversion::apply(&recipe.rules, config, &|_| None, &mut records)?;
    Ok(records)
}

/// What a tensor takes when stored in `dtype`.
fn spec(tensor: ExpectedTensor, dtype: WeightFormat) -> Result<TensorSpec, StoreError> {
    let ExpectedTensor { name, shape, .. } = tensor;
    match dtype.tensor_bytes(&shape) {
        Some(bytes) => Ok(TensorSpec {
            name,
            dtype,
            shape,
            bytes,
        }),
        None => Err(StoreError::Selection(format!(
            "tensor `{name}` of shape {shape:?} is too large"
        ))),
    }
}
