//! Records: the files of a store, each a valid safetensors file whose data section begins at a multiple of 4096.
//!
//! The alignment is what a direct read needs; an expert's record (gate, up, down without gaps) is then one read of its
//! length rounded up to 4096, straight into the memory it is used from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::atomic::{Blocks, DirectFile};
use crate::checkpoint::Component;
use crate::formats::WeightFormat;

/// What the data section is aligned to.
pub const ALIGNMENT_BYTES: u64 = 4096;

/// Folders of a store.
pub(crate) const FOLDERS: [&str; 3] = ["components", "experts", "routers"];

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum RecordKind {
    /// Everything of a component but routers and routed experts, in module order.
    Rest,
    /// The router of one layer.
    Router {
        /// Number of the decoder layer, from 0.
        layer: usize,
    },
    /// One routed expert: gate, up, down.
    Expert {
        /// Number of the decoder layer, from 0.
        layer: usize,
        /// Expert of the layer.
        expert: usize,
    },
}

impl RecordKind {
    /// The file of this record, relative to the store.
    pub fn file(self, component: Component) -> String {
        match self {
            Self::Rest => format!("components/{component}.safetensors"),
            Self::Router { layer } => {
                format!("routers/{component}_router_layer_{layer:02}.safetensors")
            }
            Self::Expert { layer, expert } => {
                format!("experts/{component}_expert_{expert:03}_layer_{layer:02}.safetensors")
            }
        }
    }
}

/// One tensor of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordTensor {
    /// Full name, as in the checkpoint.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: WeightFormat,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Length in the file.
    pub bytes: u64,
    /// CRC-32 of the bytes.
    pub crc32: u32,
}

/// One file of a store, as the manifest describes it. The two hashes together cover every byte of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// File, relative to the store.
    pub file: String,
    /// Part of the model that it belongs to.
    pub component: Component,
    /// What it holds.
    #[serde(flatten)]
    pub kind: RecordKind,
    /// First byte of the data section, a multiple of [`ALIGNMENT_BYTES`].
    pub offset: u64,
    /// Bytes of the data section.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// BLAKE3 of everything before the data section, in hexadecimal.
    pub header_blake3: String,
    /// BLAKE3 of the data section, in hexadecimal.
    pub data_blake3: String,
    /// CRC-32 of the data section.
    pub crc32: u32,
    /// Its tensors by ascending offset.
    pub tensors: Vec<RecordTensor>,
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Full name.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: WeightFormat,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes; must be what shape and type take.
    pub bytes: u64,
}

/// What a header calls a tensor of blocks, for which safetensors has no word: rows of bytes.
pub(super) const BLOCKS_DTYPE: &str = "U8";

/// Type and shape of a tensor as its header has them.
fn in_header(tensor: &TensorSpec) -> (&'static str, Vec<usize>) {
    let mut shape = tensor.shape.clone();
    if tensor.dtype.is_plain() {
        return (tensor.dtype.name(), shape);
    }
    if let Some(cols) = shape.last_mut() {
        *cols = tensor.dtype.row_bytes(*cols).unwrap_or(0);
    }
    (BLOCKS_DTYPE, shape)
}

/// Bytes of length prefix, JSON and padding, and the offset of each tensor behind them.
fn layout(tensors: &[TensorSpec]) -> (Vec<u8>, Vec<u64>) {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt""#);
    for tensor in tensors.iter().filter(|tensor| !tensor.dtype.is_plain()) {
        let name = serde_json::Value::from(tensor.name.as_str());
        let (dtype, shape) = (tensor.dtype, &tensor.shape);
        json.push_str(&format!(r#",{name}:"{dtype} {shape:?}""#));
    }
    json.push('}');
    let (mut end, mut begins) = (0, Vec::with_capacity(tensors.len()));
    for tensor in tensors {
        let begin = end;
        end += tensor.bytes;
        begins.push(begin);
        let name = serde_json::Value::from(tensor.name.as_str());
        let (dtype, shape) = in_header(tensor);
        let shape = shape
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(",");
        json.push_str(&format!(
            r#",{name}:{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}"#
        ));
    }
    json.push('}');
    let padded = (8 + json.len()).next_multiple_of(ALIGNMENT_BYTES as usize);
    let mut header = ((padded - 8) as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header.resize(padded, b' ');
    for begin in &mut begins {
        *begin += padded as u64;
    }
    (header, begins)
}

/// Bytes of the file that would hold `tensors`.
pub(crate) fn file_bytes(tensors: &[TensorSpec]) -> u64 {
    layout(tensors).0.len() as u64 + tensors.iter().map(|tensor| tensor.bytes).sum::<u64>()
}

/// Writes one record, hashing on the way. The tensors' bytes are handed over in order, in pieces of any size.
pub(crate) struct RecordWriter<'a> {
    out: DirectFile<'a>,
    record: StoreRecord,
    data: blake3::Hasher,
    crcs: Vec<crc32fast::Hasher>,
    tensor: usize,
    filled: u64,
}

impl<'a> RecordWriter<'a> {
    pub(crate) fn create(
        store: &Path,
        component: Component,
        kind: RecordKind,
        tensors: Vec<TensorSpec>,
        blocks: &'a mut Blocks,
    ) -> Result<Self, StoreError> {
        let (header, offsets) = layout(&tensors);
        let file = kind.file(component);
        let mut out = DirectFile::create(&store.join(&file), blocks)?;
        out.write(&header)?;
        let bytes: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        let crcs = tensors.iter().map(|_| crc32fast::Hasher::new()).collect();
        let tensors = tensors
            .into_iter()
            .zip(offsets)
            .map(|(spec, offset)| RecordTensor {
                name: spec.name,
                dtype: spec.dtype,
                shape: spec.shape,
                offset,
                bytes: spec.bytes,
                crc32: 0,
            });
        let record = StoreRecord {
            file,
            component,
            kind,
            offset: header.len() as u64,
            bytes,
            file_bytes: header.len() as u64 + bytes,
            header_blake3: blake3::hash(&header).to_hex().to_string(),
            data_blake3: String::new(),
            crc32: 0,
            tensors: tensors.collect(),
        };
        Ok(Self {
            out,
            record,
            data: blake3::Hasher::new(),
            crcs,
            tensor: 0,
            filled: 0,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.write(bytes)?;
        self.data.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(tensor) = self.record.tensors.get(self.tensor) else {
                return Err(self.wrong_length("more"));
            };
            let room = tensor.bytes - self.filled;
            let (taken, left) =
                rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.crcs[self.tensor].update(taken);
            self.filled += taken.len() as u64;
            rest = left;
            if self.filled == tensor.bytes {
                (self.tensor, self.filled) = (self.tensor + 1, 0);
            }
        }
        Ok(())
    }

    fn wrong_length(&self, than: &str) -> StoreError {
        let problem = format!(
            "{than} bytes than its {} tensors take",
            self.record.tensors.len()
        );
        StoreError::NotAModel {
            path: self.record.file.clone().into(),
            problem,
        }
    }

    /// Finishes the file; only now it has its name.
    pub(crate) fn finish(mut self) -> Result<StoreRecord, StoreError> {
        let written_all = self.record.tensors[self.tensor..]
            .iter()
            .all(|tensor| tensor.bytes == 0);
        if !written_all || self.filled != 0 {
            return Err(self.wrong_length("fewer"));
        }
        let mut whole = crc32fast::Hasher::new();
        for (tensor, crc) in self.record.tensors.iter_mut().zip(self.crcs) {
            whole.combine(&crc);
            tensor.crc32 = crc.finalize();
        }
        self.record.crc32 = whole.finalize();
        self.record.data_blake3 = self.data.finalize().to_hex().to_string();
        self.out.commit()?;
        Ok(self.record)
    }
}
