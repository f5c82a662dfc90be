//! The header of a safetensors file: eight bytes of little-endian length, then that many bytes of JSON, then data.
//!
//! Nothing in the file is trusted. Lengths are checked against the file before anything is allocated, names may occur
//! once, every tensor must fill exactly the bytes its shape and type ask for, and the tensors together must cover the
//! data section without gap or overlap.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::foreign;
use crate::formats::WeightFormat;
use crate::input::{Attributed, Fault, open_file};

/// A header of 28,010 tensors takes about 4 MB; the safetensors library draws the same line.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// What is wrong with a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File that was to be read.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file as a whole cannot be a safetensors file.
    #[error("{}: {problem}; the file is damaged or was not downloaded completely", path.display())]
    File {
        /// File that is damaged.
        path: PathBuf,
        /// What was found and expected.
        problem: String,
    },
    /// The weights are another program's.
    #[error("{}: {problem}", path.display())]
    Foreign {
        /// File of the other program.
        path: PathBuf,
        /// Whose, and what to do.
        problem: String,
    },
    /// One tensor's entry is wrong.
    #[error("{}: tensor `{tensor}` {problem}", path.display())]
    Tensor {
        /// File whose header is wrong.
        path: PathBuf,
        /// Full name of the tensor.
        tensor: String,
        /// What was found and expected.
        problem: String,
    },
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Name in the file.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: WeightFormat,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Length in the file.
    pub bytes: u64,
}

/// A tensor of 32-bit integers, which stands for weights only together with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderIntegers {
    /// Name in the file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Length in the file.
    pub bytes: u64,
}

/// A checked header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetensorsHeader {
    /// First byte of the data section, counted from the start of the file.
    pub data_offset: u64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// The tensors by ascending offset.
    pub tensors: Vec<HeaderTensor>,
    /// Tensors of integers, in the order of the file; always empty where they were not asked for.
    pub integers: Vec<HeaderIntegers>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// All entries in file order, repeated names included, so that repetition can be refused.
struct RawHeader(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensor names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map
                        .next_value()
                        .map_err(|error| de::Error::custom(format!("tensor `{name}`: {error}")))?;
                    entries.push((name, entry));
                }
                Ok(RawHeader(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl SafetensorsHeader {
    /// Reads and checks the header of the file at `path`.
    ///
    /// # Errors
    /// Names the file, and the tensor if one entry is wrong.
    pub fn read(path: &Path) -> Result<Self, HeaderError> {
        Self::read_with(path, false)
    }

    /// As [`SafetensorsHeader::read`], where a file may hold packed integers.
    ///
    /// # Errors
    /// As [`SafetensorsHeader::read`].
    pub fn read_packed(path: &Path) -> Result<Self, HeaderError> {
        Self::read_with(path, true)
    }

    fn read_with(path: &Path, is_packed: bool) -> Result<Self, HeaderError> {
        let io = |source| HeaderError::Io {
            path: path.to_owned(),
            source,
        };
        let damaged = |problem| HeaderError::File {
            path: path.to_owned(),
            problem,
        };
        let file = open_file(path).map_err(|error| io(error.into_io()))?;
        read_no_further(&file);
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(damaged("not a regular file".to_owned()));
        }
        let file_bytes = metadata.len();
        if file_bytes < 8 {
            return Err(damaged(format!(
                "{file_bytes} bytes long, too short for a safetensors header"
            )));
        }
        let mut prefix = [0_u8; 8];
        file.read_exact_at(&mut prefix, 0).map_err(io)?;
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes - 8 {
            return Err(damaged(format!(
                "states a header of {header_bytes} bytes in a file of {file_bytes} bytes"
            )));
        }
        let mut text = vec![0_u8; header_bytes as usize];
        file.read_exact_at(&mut text, 8).map_err(io)?;
        Self::parse_with(path, &text, file_bytes, is_packed)
    }

    /// Checks the JSON `text` of a header of a file of `file_bytes` bytes; `path` is for messages.
    ///
    /// # Errors
    /// As [`SafetensorsHeader::read`].
    pub fn parse(path: &Path, text: &[u8], file_bytes: u64) -> Result<Self, HeaderError> {
        Self::parse_with(path, text, file_bytes, false)
    }

    fn parse_with(
        path: &Path,
        text: &[u8],
        file_bytes: u64,
        is_packed: bool,
    ) -> Result<Self, HeaderError> {
        let damaged = |problem| HeaderError::File {
            path: path.to_owned(),
            problem,
        };
        let text = std::str::from_utf8(text)
            .map_err(|error| damaged(format!("its header is not UTF-8: {error}")))?;
        let raw: RawHeader = serde_json::from_str(text)
            .map_err(|error| damaged(format!("its header is not valid: {error}")))?;
        let data_offset = 8 + text.len() as u64;
        if data_offset > file_bytes {
            return Err(damaged(format!(
                "{file_bytes} bytes long, but its data would begin at byte {data_offset}"
            )));
        }
        let named = raw
            .0
            .iter()
            .map(|(name, entry)| (name.as_str(), entry.dtype.as_str()));
        if let Some(problem) = foreign::of_tensors(named).filter(|_| !is_packed) {
            let path = path.to_owned();
            return Err(HeaderError::Foreign { path, problem });
        }
        let (mut tensors, mut integers) = (Vec::with_capacity(raw.0.len()), Vec::new());
        for (name, entry) in raw.0 {
            let checked = match is_packed && entry.dtype == INTEGERS {
                true => check_integers(name, &entry, data_offset, file_bytes)
                    .map(|checked| integers.push(checked)),
                false => check_entry(name, &entry, data_offset, file_bytes)
                    .map(|checked| tensors.push(checked)),
            };
            checked.map_err(|(tensor, problem)| HeaderError::Tensor {
                path: path.to_owned(),
                tensor,
                problem,
            })?;
        }
        let floats = tensors.iter().map(HeaderTensor::span);
        let mut spans: Vec<Span<'_>> = floats
            .chain(integers.iter().map(HeaderIntegers::span))
            .collect();
        check_names(&spans)
            .and_then(|()| check_coverage(&mut spans, data_offset, file_bytes))
            .map_err(damaged)?;
        tensors.sort_by(|a, b| (a.offset, a.bytes, &a.name).cmp(&(b.offset, b.bytes, &b.name)));
        Ok(Self {
            data_offset,
            file_bytes,
            tensors,
            integers,
        })
    }
}

/// Has the system fetch nothing of a file but what is asked for: what lies behind a header or a tensor is mostly of experts that nobody
/// wants now, and read-ahead of 8 MiB a time fetches more of them than of the tensors. It is advice: a file system that has
/// none reads as it does.
pub(crate) fn read_no_further(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random);
}

type Named = (String, String);

/// The type of packed integers.
const INTEGERS: &str = "I32";

/// Where a tensor lies: first byte, bytes, name.
type Span<'a> = (u64, u64, &'a str);

impl HeaderTensor {
    fn span(&self) -> Span<'_> {
        (self.offset, self.bytes, &self.name)
    }
}

impl HeaderIntegers {
    fn span(&self) -> Span<'_> {
        (self.offset, self.bytes, &self.name)
    }
}

/// Integers take as many bytes as 32-bit floats.
fn check_integers(
    name: String,
    entry: &RawEntry,
    data_offset: u64,
    file_bytes: u64,
) -> Result<HeaderIntegers, Named> {
    let checked = check_as(WeightFormat::F32, name, entry, data_offset, file_bytes)?;
    Ok(HeaderIntegers {
        name: checked.name,
        shape: checked.shape,
        offset: checked.offset,
        bytes: checked.bytes,
    })
}

fn check_entry(
    name: String,
    entry: &RawEntry,
    data_offset: u64,
    file_bytes: u64,
) -> Result<HeaderTensor, Named> {
    let Some(dtype) = WeightFormat::from_name(&entry.dtype) else {
        let problem = format!("has type {:?}; supported: F32, BF16, F16", entry.dtype);
        return Err((name, problem));
    };
    check_as(dtype, name, entry, data_offset, file_bytes)
}

fn check_as(
    dtype: WeightFormat,
    name: String,
    entry: &RawEntry,
    data_offset: u64,
    file_bytes: u64,
) -> Result<HeaderTensor, Named> {
    let shape: Option<Vec<usize>> = entry
        .shape
        .iter()
        .map(|&dimension| usize::try_from(dimension).ok())
        .collect();
    let Some((shape, bytes)) =
        shape.and_then(|shape| dtype.tensor_bytes(&shape).map(|bytes| (shape, bytes)))
    else {
        return Err((
            name,
            format!("has shape {:?}, whose size overflows", entry.shape),
        ));
    };
    let (begin, end) = entry.data_offsets;
    if begin > end || end > file_bytes - data_offset {
        let room = file_bytes - data_offset;
        return Err((
            name,
            format!("lies at bytes {begin}..{end} of a data section of {room} bytes"),
        ));
    }
    if end - begin != bytes {
        let problem = format!(
            "has {} bytes where shape {shape:?} of {} takes {bytes}",
            end - begin,
            entry.dtype
        );
        return Err((name, problem));
    }
    Ok(HeaderTensor {
        name,
        dtype,
        shape,
        offset: data_offset + begin,
        bytes,
    })
}

fn check_names(spans: &[Span<'_>]) -> Result<(), String> {
    let mut names: Vec<&str> = spans.iter().map(|span| span.2).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("tensor `{}` occurs twice", pair[0])),
        None => Ok(()),
    }
}

fn check_coverage(spans: &mut [Span<'_>], data_offset: u64, file_bytes: u64) -> Result<(), String> {
    spans.sort_unstable();
    let mut covered = data_offset;
    for &mut (offset, bytes, name) in spans {
        let begin = offset - data_offset;
        if offset < covered {
            return Err(format!(
                "tensor `{name}` at byte {begin} of the data overlaps the one before it"
            ));
        }
        if offset > covered {
            return Err(format!(
                "{} unused bytes precede tensor `{name}`",
                offset - covered
            ));
        }
        covered += bytes;
    }
    if covered != file_bytes {
        return Err(format!(
            "{file_bytes} bytes long, but its tensors end at byte {covered}"
        ));
    }
    Ok(())
}

impl Attributed for HeaderError {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { source, .. } => Fault::of_io(source),
            Self::File { .. } | Self::Foreign { .. } | Self::Tensor { .. } => Fault::Request,
        }
    }
}
