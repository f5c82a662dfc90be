//! The one interface by which the model gets its weights, whether they lie in a checkpoint or in a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::{check_bounds, refuse_packed};
use super::{StoreError, TensorRows, fingerprint};
use crate::checkpoint::{
    Checkpoint, CheckpointError, Component, ExpertMatrix, ModelConfig, expert_tensor_name,
};
use crate::formats::{GatedFormats, WeightFormat};
use crate::reads::{ReadCounter, ReadPurpose};

/// What a stored tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMeta {
    /// How its numbers are stored.
    pub dtype: WeightFormat,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Length in the file.
    pub bytes: u64,
}

/// A piece of an expert on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSegment {
    /// The file.
    pub path: Arc<Path>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub len_bytes: usize,
    /// Where the piece begins in the record in memory.
    pub at: usize,
}

/// Where an expert lies. In memory its record is gate | up | down, `len_bytes` long, without padding: gate and up are
/// `[intermediate, hidden]`, down is `[hidden, intermediate]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertLocation {
    /// How its matrices are stored.
    pub formats: GatedFormats,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the expert.
    pub intermediate: usize,
    /// Bytes of the record in memory.
    pub len_bytes: usize,
    /// The pieces, by ascending `at`: one from a store (its offset a multiple of 4096), three from a checkpoint.
    pub segments: Vec<FileSegment>,
    /// CRC-32 of the record, to be checked by whoever reads it; only stores know it.
    pub crc32: Option<u32>,
    /// BLAKE3, in hexadecimal, of what stands in the file before the record; only stores know it.
    pub header: Option<Arc<str>>,
}

/// A model's weights and configuration.
pub trait WeightSource: Send + Sync {
    /// The folder of the checkpoint or store.
    fn folder(&self) -> &Path;

    /// What config.json says of the model.
    fn config(&self) -> &ModelConfig;

    /// Which model this is, 64 hexadecimal digits; the same for a checkpoint and the stores extracted from it. See
    /// [`super::fingerprint`].
    ///
    /// # Errors
    /// If the weights cannot be read.
    fn fingerprint(&self) -> Result<String, StoreError>;

    /// Type, shape and size of a tensor.
    ///
    /// # Errors
    /// Names the tensor if it is not there.
    fn tensor(&self, name: &str) -> Result<TensorMeta, StoreError>;

    /// Reads a tensor into `buffer`, which must have its size in bytes. A store checks its CRC-32.
    ///
    /// # Errors
    /// Names the tensor and file if it is not there, unreadable or damaged.
    fn read_tensor(&self, name: &str, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.read_tensor_for(ReadPurpose::Other, name, buffer)
    }

    /// As [`Self::read_tensor`], counted for `purpose`.
    ///
    /// # Errors
    /// As [`Self::read_tensor`].
    fn read_tensor_for(
        &self,
        purpose: ReadPurpose,
        name: &str,
        buffer: &mut [u8],
    ) -> Result<(), StoreError>;

    /// A matrix of which single rows are read; none where it is not stored row by row.
    ///
    /// # Errors
    /// Names the tensor if it is not there, and the file if it cannot be opened.
    fn rows(&self, _name: &str) -> Result<Option<TensorRows>, StoreError> {
        Ok(None)
    }

    /// What was read of it, by whomever.
    fn reads(&self) -> &Arc<ReadCounter>;

    /// Where an expert lies.
    ///
    /// # Errors
    /// Names component, layer and expert if it is beyond the model's bounds, missing, or outside a partial store.
    fn expert(
        &self,
        component: Component,
        layer: usize,
        expert: usize,
    ) -> Result<ExpertLocation, StoreError>;

    /// That what surrounds an expert's record on disk is sound; a checkpoint has nothing to compare with.
    ///
    /// # Errors
    /// Names the damaged file.
    fn check_expert(&self, _record: &ExpertLocation) -> Result<(), StoreError> {
        Ok(())
    }

    /// A file beside the weights (`tokenizer.json`, …), if it is there.
    fn file(&self, name: &str) -> Option<PathBuf>;

    /// Names of all tensors that are there, ascending.
    fn tensor_names(&self) -> Vec<&str>;

    /// What whoever opens the model should know of how it is stored: whole sentences.
    fn notes(&self) -> &[String] {
        &[]
    }
}

impl WeightSource for Checkpoint {
    fn folder(&self) -> &Path {
        self.folder()
    }

    fn config(&self) -> &ModelConfig {
        self.config()
    }

    fn fingerprint(&self) -> Result<String, StoreError> {
        fingerprint::fingerprint(self)
    }

    fn tensor(&self, name: &str) -> Result<TensorMeta, StoreError> {
        let info = self.tensor(name).ok_or_else(|| CheckpointError::NoTensor {
            folder: self.folder().to_owned(),
            tensor: name.to_owned(),
        })?;
        Ok(TensorMeta {
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: info.bytes,
        })
    }

    fn read_tensor_for(
        &self,
        purpose: ReadPurpose,
        name: &str,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        Ok(self.read_into_for(purpose, name, buffer)?)
    }

    fn rows(&self, name: &str) -> Result<Option<TensorRows>, StoreError> {
        let info = self.tensor(name).ok_or_else(|| CheckpointError::NoTensor {
            folder: self.folder().to_owned(),
            tensor: name.to_owned(),
        })?;
        let [_, cols] = info.shape[..] else {
            return Ok(None);
        };
        if info.packed.is_some() {
            return Ok(None);
        }
        let path = self.shard_path(info.shard).to_path_buf();
        TensorRows::open(path, info.offset, info.dtype, cols, self.reads())
    }

    fn reads(&self) -> &Arc<ReadCounter> {
        self.reads()
    }

    fn expert(
        &self,
        component: Component,
        layer: usize,
        expert: usize,
    ) -> Result<ExpertLocation, StoreError> {
        check_bounds(self.config(), component, layer, expert)?;
        let no_experts = || StoreError::Selection(format!("{component} has no experts"));
        let text = component
            .text_config(self.config())
            .ok_or_else(no_experts)?;
        let (hidden, intermediate) = (text.hidden_size, text.moe_intermediate_size);
        let (mut segments, mut at, mut format) = (Vec::with_capacity(3), 0, None);
        for part in ExpertMatrix::ALL {
            let tensor =
                expert_tensor_name(component, layer, expert, part).ok_or_else(no_experts)?;
            let Some(info) = self.tensor(&tensor) else {
                return Err(StoreError::ExpertMissing {
                    component,
                    layer,
                    expert,
                    tensor,
                });
            };
            if info.packed.is_some() {
                refuse_packed(self)?;
            }
            let expected = part.shape(hidden, intermediate);
            if info.shape != expected {
                let (found, expected) = (info.shape.clone(), expected.to_vec());
                return Err(StoreError::Misshapen {
                    tensor,
                    found,
                    expected,
                });
            }
            let gate = *format.get_or_insert(info.dtype);
            if gate != info.dtype {
                return Err(StoreError::UnlikeGate {
                    component,
                    layer,
                    expert,
                    tensor,
                    format: info.dtype,
                    gate,
                });
            }
            let (path, len_bytes) = (self.shard_path(info.shard).clone(), info.bytes as usize);
            segments.push(FileSegment {
                path,
                offset: info.offset,
                len_bytes,
                at,
            });
            at += len_bytes;
        }
        let format = format.ok_or_else(no_experts)?;
        Ok(ExpertLocation {
            formats: GatedFormats::all(format),
            hidden,
            intermediate,
            len_bytes: at,
            segments,
            crc32: None,
            header: None,
        })
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.file(name)
    }

    fn tensor_names(&self) -> Vec<&str> {
        self.tensors().map(|tensor| tensor.name.as_str()).collect()
    }

    fn notes(&self) -> &[String] {
        self.notes()
    }
}
