//! An opened store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::checks::check_bounds;
use super::manifest::{MANIFEST, Manifest};
use super::record::{BLOCKS_DTYPE, RecordKind, RecordTensor, StoreRecord};
use super::{ExpertLocation, FileSegment, StoreError, TensorMeta, TensorRows, WeightSource};
use crate::checkpoint::{
    CONFIG, CheckpointError, Component, ExpertMatrix, HEAD, ModelConfig, expected_tensors,
    expert_tensor_name, read_no_further,
};
use crate::formats::{GatedFormats, WeightFormat};
use crate::reads::{ReadCounter, ReadPurpose};

/// A store: its manifest in memory, its records on disk.
pub struct Store {
    folder: PathBuf,
    config: ModelConfig,
    manifest: Manifest,
    /// Tensor name to record file and place in that record.
    tensors: BTreeMap<String, (String, usize)>,
    paths: HashMap<(Component, usize, usize), Arc<Path>>,
    /// Files whose header was found sound.
    sound: Mutex<BTreeSet<PathBuf>>,
    notes: Vec<String>,
    reads: Arc<ReadCounter>,
}

impl Store {
    /// Opens the store in `folder`: reads and checks manifest and configuration, no weights.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        let folder = folder.as_ref().to_owned();
        let manifest = Manifest::read(&folder)?;
        let mut config = read_config(&folder, &manifest)?;
        let reads = Arc::new(ReadCounter::default());
        for file in [MANIFEST, CONFIG] {
            let bytes = fs::metadata(folder.join(file)).map_or(0, |found| found.len());
            reads.add(ReadPurpose::Other, bytes);
        }
        let damaged = |problem| StoreError::Manifest {
            path: folder.join(MANIFEST),
            problem,
        };
        let records = manifest.records.values();
        let mut stored = records.flat_map(|record| &record.tensors);
        let note = config.settle_head(stored.any(|tensor| tensor.name == HEAD));
        check_tensors(&manifest, &config).map_err(damaged)?;
        let (mut tensors, mut paths) = (BTreeMap::new(), HashMap::new());
        for record in manifest.records.values() {
            for (index, tensor) in record.tensors.iter().enumerate() {
                if tensors
                    .insert(tensor.name.clone(), (record.file.clone(), index))
                    .is_some()
                {
                    return Err(damaged(format!(
                        "tensor `{}` is in two records",
                        tensor.name
                    )));
                }
            }
            if let RecordKind::Expert { layer, expert } = record.kind {
                paths.insert(
                    (record.component, layer, expert),
                    folder.join(&record.file).into(),
                );
            }
        }
        Ok(Self {
            folder,
            config,
            manifest,
            tensors,
            paths,
            sound: Mutex::default(),
            notes: note.into_iter().map(str::to_owned).collect(),
            reads,
        })
    }

    /// Folder that it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What config.json says of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the store holds, file by file.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// That the files beside the weights (`tokenizer.json`, …) are the ones that were extracted.
    ///
    /// # Errors
    /// Names the file that is not.
    pub fn check_files(&self) -> Result<(), StoreError> {
        for file in &self.manifest.files {
            let path = self.folder.join(&file.file);
            let bytes = StoreError::read(&path)?;
            if file.file != CONFIG {
                // The configuration was read when the store was opened.
                self.reads.add(ReadPurpose::Other, bytes.len() as u64);
            }
            if file.blake3 != blake3::hash(&bytes).to_hex().as_str() {
                let problem = "is not the file that was extracted; extract again".to_owned();
                return Err(StoreError::Manifest { path, problem });
            }
        }
        Ok(())
    }

    /// That everything before the data of a record is as it was written; looked at once a process.
    fn check_header(&self, path: &Path, bytes: u64, blake3: &str) -> Result<(), StoreError> {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if sound.contains(path) {
            return Ok(());
        }
        let file = StoreError::open(path)?;
        // Behind it lies the record, which is read past the page cache.
        read_no_further(&file);
        let mut header = vec![0; bytes as usize];
        file.read_exact_at(&mut header, 0)
            .map_err(StoreError::io("read", path))?;
        self.reads.add(ReadPurpose::Other, bytes);
        if blake3 != blake3::hash(&header).to_hex().as_str() {
            return Err(StoreError::CorruptHeader {
                path: path.to_owned(),
            });
        }
        self.check_formats(path, &header)?;
        sound.insert(path.to_owned());
        Ok(())
    }

    /// That a record's own header calls its tensors by the formats that the manifest says they have.
    fn check_formats(&self, path: &Path, header: &[u8]) -> Result<(), StoreError> {
        let name = path.strip_prefix(&self.folder).ok().and_then(Path::to_str);
        let Some(record) = name.and_then(|name| self.manifest.records.get(name)) else {
            return Ok(());
        };
        let damaged = |problem: String| StoreError::Manifest {
            path: path.to_owned(),
            problem,
        };
        let json: serde_json::Value =
            serde_json::from_slice(header.get(8..).unwrap_or_default())
                .map_err(|error| damaged(format!("its header is not JSON: {error}")))?;
        for tensor in &record.tensors {
            let header = json[&tensor.name]["dtype"].as_str().unwrap_or("nothing");
            // Blocks are bytes to other readers; what they are stands in the notes.
            let note = json["__metadata__"][&tensor.name].as_str();
            let found = match note.and_then(|note| note.split(' ').next()) {
                Some(noted) if header == BLOCKS_DTYPE => noted,
                _ => header,
            };
            if found != tensor.dtype.name() {
                return Err(damaged(format!(
                    "its header calls `{}` {found}, the manifest {}: delete the store and extract again",
                    tensor.name, tensor.dtype
                )));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<(&StoreRecord, &RecordTensor), StoreError> {
        let found = self.tensors.get(name).and_then(|(file, index)| {
            let record = self.manifest.records.get(file)?;
            Some((record, record.tensors.get(*index)?))
        });
        let hint = if self.manifest.missing.contains(name) {
            ": the checkpoint did not have it"
        } else {
            "; if this store is a partial one, extract the rest into it"
        };
        found.ok_or_else(|| StoreError::NoTensor {
            path: self.folder.clone(),
            tensor: name.to_owned(),
            hint,
        })
    }
}

fn read_config(folder: &Path, manifest: &Manifest) -> Result<ModelConfig, StoreError> {
    let path = folder.join(CONFIG);
    let bytes = StoreError::read(&path)?;
    let recorded = manifest.files.iter().find(|file| file.file == CONFIG);
    if recorded.is_none_or(|file| file.blake3 != blake3::hash(&bytes).to_hex().as_str()) {
        let problem = "is not the file that was extracted; extract again".to_owned();
        return Err(StoreError::Manifest { path, problem });
    }
    ModelConfig::from_json(&bytes).map_err(|source| {
        CheckpointError::Config {
            folder: folder.to_owned(),
            source,
        }
        .into()
    })
}

/// That every record holds tensors of the model, in their shapes, where their names say.
fn check_tensors(manifest: &Manifest, config: &ModelConfig) -> Result<(), String> {
    let expected = expected_tensors(config);
    let expected: HashMap<&str, _> = expected
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    for record in manifest.records.values() {
        for tensor in &record.tensors {
            let found = expected.get(tensor.name.as_str()).filter(|found| {
                found.shape == tensor.shape
                    && found.component == record.component
                    && RecordKind::of(found.role) == record.kind
            });
            if found.is_none() {
                return Err(format!(
                    "record {:?} holds `{}`, which config.json does not call for",
                    record.file, tensor.name
                ));
            }
        }
        let RecordKind::Expert { layer, expert } = record.kind else {
            continue;
        };
        let names =
            ExpertMatrix::ALL.map(|part| expert_tensor_name(record.component, layer, expert, part));
        let ordered = record
            .tensors
            .iter()
            .map(|tensor| Some(&tensor.name))
            .eq(names.iter().map(Option::as_ref));
        if !ordered {
            return Err(format!(
                "record {:?} is not gate, up and down of its expert",
                record.file
            ));
        }
    }
    Ok(())
}

/// How the matrices of an expert's record are stored: it was seen that it has all three.
fn formats_of(record: &StoreRecord) -> GatedFormats {
    let format = |at: usize| {
        record
            .tensors
            .get(at)
            .map_or(WeightFormat::F32, |tensor| tensor.dtype)
    };
    GatedFormats {
        gate: format(0),
        up: format(1),
        down: format(2),
    }
}

impl WeightSource for Store {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn fingerprint(&self) -> Result<String, StoreError> {
        Ok(self.manifest.fingerprint.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorMeta, StoreError> {
        let (_, tensor) = self.find(name)?;
        Ok(TensorMeta {
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: tensor.bytes,
        })
    }

    fn read_tensor_for(
        &self,
        purpose: ReadPurpose,
        name: &str,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let (record, tensor) = self.find(name)?;
        if buffer.len() as u64 != tensor.bytes {
            let (tensor, bytes, buffer) = (name.to_owned(), tensor.bytes, buffer.len());
            return Err(StoreError::BufferSize {
                tensor,
                bytes,
                buffer,
            });
        }
        let path = self.folder.join(&record.file);
        self.check_header(&path, record.offset, &record.header_blake3)?;
        let file = StoreError::open(&path)?;
        file.read_exact_at(buffer, tensor.offset)
            .map_err(StoreError::io("read", &path))?;
        self.reads.add(purpose, tensor.bytes);
        let (found, expected) = (crc32fast::hash(buffer), tensor.crc32);
        if found != expected {
            return Err(StoreError::Corrupt {
                path,
                tensor: name.to_owned(),
                found,
                expected,
            });
        }
        Ok(())
    }

    fn rows(&self, name: &str) -> Result<Option<TensorRows>, StoreError> {
        let (record, tensor) = self.find(name)?;
        let [_, cols] = tensor.shape[..] else {
            return Ok(None);
        };
        let path = self.folder.join(&record.file);
        self.check_header(&path, record.offset, &record.header_blake3)?;
        TensorRows::open(path, tensor.offset, tensor.dtype, cols, &self.reads)
    }

    fn reads(&self) -> &Arc<ReadCounter> {
        &self.reads
    }

    fn expert(
        &self,
        component: Component,
        layer: usize,
        expert: usize,
    ) -> Result<ExpertLocation, StoreError> {
        check_bounds(&self.config, component, layer, expert)?;
        let file = RecordKind::Expert { layer, expert }.file(component);
        let record = self.manifest.records.get(&file);
        let path = self.paths.get(&(component, layer, expert));
        let (Some(record), Some(path), Some(text)) =
            (record, path, component.text_config(&self.config))
        else {
            let names =
                ExpertMatrix::ALL.map(|part| expert_tensor_name(component, layer, expert, part));
            let missing = names
                .into_iter()
                .flatten()
                .find(|name| self.manifest.missing.contains(name));
            return Err(match missing {
                Some(tensor) => StoreError::ExpertMissing {
                    component,
                    layer,
                    expert,
                    tensor,
                },
                None => StoreError::ExpertNotStored {
                    component,
                    layer,
                    expert,
                    path: self.folder.clone(),
                },
            });
        };
        let len_bytes = record.bytes as usize;
        Ok(ExpertLocation {
            formats: formats_of(record),
            hidden: text.hidden_size,
            intermediate: text.moe_intermediate_size,
            len_bytes,
            segments: vec![FileSegment {
                path: path.clone(),
                offset: record.offset,
                len_bytes,
                at: 0,
            }],
            crc32: Some(record.crc32),
            header: Some(record.header_blake3.as_str().into()),
        })
    }

    fn check_expert(&self, record: &ExpertLocation) -> Result<(), StoreError> {
        match (record.segments.first(), &record.header) {
            (Some(segment), Some(blake3)) => {
                self.check_header(&segment.path, segment.offset, blake3)
            }
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        // Only what was extracted with the model counts, not whatever else lies in the folder.
        let listed = self.manifest.files.iter().any(|file| file.file == name);
        Some(self.folder.join(name)).filter(|path| listed && path.is_file())
    }

    fn tensor_names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}
