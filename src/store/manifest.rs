//! `extraction_manifest.json`: what a store holds, byte for byte.
//!
//! One record a line, so that the file can be read by eye and by `grep`. Its last line is the BLAKE3 of everything
//! before that line, so that no byte of it can change unnoticed. It holds no times and is sorted: the same checkpoint
//! and selection give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::conversion::Conversion;
use super::record::{ALIGNMENT_BYTES, RecordKind, StoreRecord};
use super::{StoreError, atomic};
use crate::checkpoint::{Component, ExpertMatrix, ModelConfig, Role, expected_tensors};

/// The file name.
pub const MANIFEST: &str = "extraction_manifest.json";
const FORMAT: &str = "sage-store";
const VERSION: u32 = 1;
/// Begins the last line.
const SEAL: &str = "\"blake3\":\"";

/// A shard the store was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceShard {
    /// File name.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
}

/// A file copied beside the records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopiedFile {
    /// File name.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
}

/// How much of a component is in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Whether everything but routers and experts is in.
    pub rest: bool,
    /// Routers in the store.
    pub routers: usize,
    /// Routers of the model.
    pub routers_of: usize,
    /// Experts in the store.
    pub experts: usize,
    /// Experts of the model.
    pub experts_of: usize,
}

/// Everything the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Identity of the model; see [`super::fingerprint`].
    pub fingerprint: String,
    /// What experts were converted, and of which model; none where everything is as in the checkpoint.
    pub converted: Option<Conversion>,
    /// What the store was made from: a checkpoint's shards, or nothing if it was synthesised.
    pub source: Vec<SourceShard>,
    /// Tensors that the configuration calls for and the checkpoint did not have.
    pub missing: BTreeSet<String>,
    /// Files copied from the checkpoint, by name.
    pub files: Vec<CopiedFile>,
    /// The records, by file name.
    pub records: BTreeMap<String, StoreRecord>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    converted: Option<Conversion>,
    complete: bool,
    contents: BTreeMap<Component, Contents>,
    source: Vec<SourceShard>,
    missing: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    head: Head,
    files: Vec<CopiedFile>,
    records: Vec<StoreRecord>,
}

impl Manifest {
    /// How much of each component is in the store.
    pub fn contents(&self, config: &ModelConfig) -> BTreeMap<Component, Contents> {
        let mut table: BTreeMap<Component, Contents> = BTreeMap::new();
        for tensor in expected_tensors(config) {
            let contents = table.entry(tensor.component).or_default();
            match tensor.role {
                Role::Router { .. } => contents.routers_of += 1,
                Role::Expert {
                    part: ExpertMatrix::Gate,
                    ..
                } => contents.experts_of += 1,
                _ => {}
            }
        }
        for record in self.records.values() {
            let contents = table.entry(record.component).or_default();
            match record.kind {
                RecordKind::Rest => contents.rest = true,
                RecordKind::Router { .. } => contents.routers += 1,
                RecordKind::Expert { .. } => contents.experts += 1,
            }
        }
        table
    }

    /// Whether nothing of the model is absent.
    pub fn is_complete(&self, config: &ModelConfig) -> bool {
        let all = |c: &Contents| c.rest && c.routers == c.routers_of && c.experts == c.experts_of;
        self.missing.is_empty() && self.contents(config).values().all(all)
    }

    /// The text of the file.
    fn to_text(&self, config: &ModelConfig) -> Result<String, serde_json::Error> {
        let head = Head {
            format: FORMAT.to_owned(),
            version: VERSION,
            fingerprint: self.fingerprint.clone(),
            converted: self.converted.clone(),
            complete: self.is_complete(config),
            contents: self.contents(config),
            source: self.source.clone(),
            missing: self.missing.clone(),
        };
        let mut text = serde_json::to_string(&head)?;
        text.pop(); // The closing brace, which comes with the seal.
        text.push_str(",\n\"files\":[");
        push_lines(&mut text, self.files.iter())?;
        text.push_str("],\n\"records\":[");
        push_lines(&mut text, self.records.values())?;
        text.push_str("],\n");
        text.push_str(&seal(&text));
        Ok(text)
    }

    /// Writes the manifest of the store at `store`.
    pub(crate) fn write(&self, store: &Path, config: &ModelConfig) -> Result<(), StoreError> {
        let path = store.join(MANIFEST);
        let text = self
            .to_text(config)
            .map_err(|error| damaged(&path, error.to_string()))?;
        atomic::write_file(&path, text.as_bytes())
    }

    /// Reads and checks the manifest of the store at `store`; the files it lists are not looked at.
    ///
    /// # Errors
    /// If it is not there, damaged, of another version, or says what cannot be.
    pub fn read(store: &Path) -> Result<Self, StoreError> {
        let path = store.join(MANIFEST);
        let bytes = StoreError::read(&path)?;
        Self::parse(&bytes).map_err(|problem| damaged(&path, problem))
    }

    /// Parses and checks the text of a manifest.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        let body = text
            .rfind(SEAL)
            .and_then(|at| text.get(..at))
            .ok_or("its last line is not a checksum")?;
        if text.get(body.len()..) != Some(seal(body).as_str()) {
            return Err(
                "its checksum is wrong: the file is damaged; delete it and extract again"
                    .to_owned(),
            );
        }
        let whole: Whole = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if whole.head.format != FORMAT || whole.head.version != VERSION {
            let (format, version) = (&whole.head.format, whole.head.version);
            return Err(format!(
                "format {format:?} version {version}; this program reads {FORMAT:?} version {VERSION}"
            ));
        }
        let mut records = BTreeMap::new();
        for record in whole.records {
            check_record(&record)?;
            if let Some(twice) = records.insert(record.file.clone(), record) {
                return Err(format!("record {} occurs twice", twice.file));
            }
        }
        let plain = |file: &CopiedFile| {
            !file.file.contains('/') && file.file != ".." && !file.file.is_empty()
        };
        if let Some(file) = whole.files.iter().find(|file| !plain(file)) {
            return Err(format!(
                "lists the file {:?}; expected a plain file name",
                file.file
            ));
        }
        let Head {
            fingerprint,
            converted,
            source,
            missing,
            ..
        } = whole.head;
        Ok(Self {
            fingerprint,
            converted,
            source,
            missing,
            files: whole.files,
            records,
        })
    }
}

fn push_lines<T: Serialize>(
    text: &mut String,
    items: impl Iterator<Item = T>,
) -> Result<(), serde_json::Error> {
    for (index, item) in items.enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&serde_json::to_string(&item)?);
    }
    Ok(())
}

fn seal(body: &str) -> String {
    format!("{SEAL}{}\"}}\n", blake3::hash(body.as_bytes()).to_hex())
}

fn damaged(path: &Path, problem: String) -> StoreError {
    StoreError::Manifest {
        path: PathBuf::from(path),
        problem,
    }
}

/// That a record is consistent in itself: later code relies on its sizes.
pub(crate) fn check_record(record: &StoreRecord) -> Result<(), String> {
    let wrong = |problem: &str| Err(format!("record {:?}: {problem}", record.file));
    if record.file != record.kind.file(record.component) {
        return wrong("its name is not what its component, layer and expert make it");
    }
    if record.offset == 0 || !record.offset.is_multiple_of(ALIGNMENT_BYTES) {
        return wrong("its data does not begin at a multiple of 4096");
    }
    if record.offset.checked_add(record.bytes) != Some(record.file_bytes) {
        return wrong("its sizes do not add up");
    }
    let mut end = record.offset;
    for tensor in &record.tensors {
        if tensor.offset != end || tensor.dtype.tensor_bytes(&tensor.shape) != Some(tensor.bytes) {
            return wrong(&format!(
                "tensor `{}` has an impossible place or size",
                tensor.name
            ));
        }
        end = end.saturating_add(tensor.bytes);
    }
    if end != record.file_bytes {
        return wrong("its tensors do not fill it");
    }
    Ok(())
}
