//! The header of a GGUF file: metadata and where each tensor lies. Nothing of it is believed before it was held against
//! the file's length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::formats::WeightFormat;
use crate::input::open_file;

/// A header of more bytes is no model's: 152,000 tokens and as many merges take about 10 MB.
const MOST_HEADER_BYTES: u64 = 512 << 20;

/// More keys or tensors are no model's.
const MOST_ENTRIES: u64 = 1 << 20;

/// The first four bytes.
pub(in crate::checkpoint) const MAGIC: &[u8; 4] = b"GGUF";

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GgufValue {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    List(Vec<GgufValue>),
}

/// A tensor, as the header describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GgufTensor {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub format: WeightFormat,
    /// First byte, counted from the beginning of the file.
    pub offset: u64,
    pub bytes: u64,
}

/// A header.
#[derive(Debug)]
pub(super) struct GgufHeader {
    pub metadata: BTreeMap<String, GgufValue>,
    pub tensors: Vec<GgufTensor>,
    pub header_bytes: u64,
    pub file_bytes: u64,
}

/// Formats of tensors by their number in a file, with those that exist and are not read.
const TYPES: [(u32, &str, Option<WeightFormat>); 20] = [
    (0, "F32", Some(WeightFormat::F32)),
    (1, "F16", Some(WeightFormat::F16)),
    (2, "Q4_0", Some(WeightFormat::Q4_0)),
    (3, "Q4_1", None),
    (6, "Q5_0", None),
    (7, "Q5_1", None),
    (8, "Q8_0", Some(WeightFormat::Q8_0)),
    (10, "Q2_K", Some(WeightFormat::Q2_K)),
    (11, "Q3_K", None),
    (12, "Q4_K", Some(WeightFormat::Q4_K)),
    (13, "Q5_K", None),
    (14, "Q6_K", Some(WeightFormat::Q6_K)),
    (16, "IQ2_XXS", None),
    (17, "IQ2_XS", None),
    (18, "IQ3_XXS", None),
    (19, "IQ1_S", None),
    (20, "IQ4_NL", None),
    (23, "IQ4_XS", None),
    (30, "BF16", Some(WeightFormat::BF16)),
    (39, "MXFP4", None),
];

/// A file that is read from its beginning on, and how much of it.
struct Cursor {
    file: BufReader<File>,
    at: u64,
    end: u64,
}

impl Cursor {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.at += bytes.len() as u64;
        if self.at > self.end {
            return Err(format!("the header goes on behind byte {}", self.end));
        }
        let read = self.file.read_exact(bytes);
        read.map_err(|error| format!("cannot be read: {error}"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A count of things of which each takes at least `bytes` bytes.
    fn count(&mut self, bytes: u64, what: &str) -> Result<u64, String> {
        let count = self.u64()?;
        let room = (self.end - self.at) / bytes;
        match count <= room {
            true => Ok(count),
            false => Err(format!(
                "says that it has {count} {what}; there is room for {room}"
            )),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let bytes = self.count(1, "bytes of text")?;
        let mut text = vec![0; bytes as usize];
        self.fill(&mut text)?;
        String::from_utf8(text).map_err(|error| format!("has text that is not UTF-8: {error}"))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<GgufValue, String> {
        Ok(match kind {
            0 => GgufValue::Unsigned(u8::from_le_bytes(self.take()?).into()),
            1 => GgufValue::Signed(i8::from_le_bytes(self.take()?).into()),
            2 => GgufValue::Unsigned(u16::from_le_bytes(self.take()?).into()),
            3 => GgufValue::Signed(i16::from_le_bytes(self.take()?).into()),
            4 => GgufValue::Unsigned(self.u32()?.into()),
            5 => GgufValue::Signed(i32::from_le_bytes(self.take()?).into()),
            6 => GgufValue::Float(f32::from_le_bytes(self.take()?).into()),
            7 => GgufValue::Flag(self.take::<1>()? != [0]),
            8 => GgufValue::Text(self.text()?),
            9 if depth == 0 => {
                let kind = self.u32()?;
                let count = self.count(1, "values in a list")?;
                let values = (0..count).map(|_| self.value(kind, depth + 1));
                GgufValue::List(values.collect::<Result<_, _>>()?)
            }
            10 => GgufValue::Unsigned(self.u64()?),
            11 => GgufValue::Signed(i64::from_le_bytes(self.take()?)),
            12 => GgufValue::Float(f64::from_le_bytes(self.take()?)),
            _ => return Err(format!("has a value of unknown type {kind}")),
        })
    }

    fn tensor(&mut self) -> Result<GgufTensor, String> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > 4 {
            return Err(format!(
                "tensor `{name}` has {dimensions} dimensions; expected at most 4"
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = usize::try_from(self.u64()?);
            shape.push(size.map_err(|_| format!("tensor `{name}` has an impossible size"))?);
        }
        // The innermost stands first in the file.
        shape.reverse();
        let kind = self.u32()?;
        let format = format_of(&name, kind)?;
        let bytes = format.tensor_bytes(&shape).ok_or_else(|| {
            format!("tensor `{name}` {shape:?} has rows that are no whole blocks of {format}, or is too large")
        })?;
        Ok(GgufTensor {
            name,
            shape,
            format,
            offset: self.u64()?,
            bytes,
        })
    }
}

fn format_of(name: &str, kind: u32) -> Result<WeightFormat, String> {
    let known = TYPES.iter().find(|(number, ..)| *number == kind);
    if let Some((_, _, Some(format))) = known {
        return Ok(*format);
    }
    let called = known.map_or_else(|| format!("type {kind}"), |(_, name, _)| (*name).to_owned());
    let read: Vec<&str> = TYPES
        .iter()
        .filter(|kind| kind.2.is_some())
        .map(|kind| kind.1)
        .collect();
    Err(format!(
        "tensor `{name}` is {called}, which is not read; take a file of {}, such as Q8_0, Q6_K or Q4_K_M",
        read.join(", ")
    ))
}

impl GgufHeader {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let file = open_file(path).map_err(|error| error.to_string())?;
        let length = |file: &File| -> io::Result<u64> { Ok(file.metadata()?.len()) };
        let file_bytes = length(&file).map_err(|error| error.to_string())?;
        let mut cursor = Cursor {
            file: BufReader::with_capacity(1 << 20, file),
            at: 0,
            end: file_bytes.min(MOST_HEADER_BYTES),
        };
        if &cursor.take::<4>()? != MAGIC {
            return Err("does not begin with GGUF".to_owned());
        }
        let version = cursor.u32()?;
        if ![2, 3].contains(&version) {
            return Err(format!("is of GGUF version {version}, expected 2 or 3"));
        }
        let tensors = cursor.count(1, "tensors")?.min(MOST_ENTRIES + 1);
        let keys = cursor.count(1, "keys")?.min(MOST_ENTRIES + 1);
        if tensors.max(keys) > MOST_ENTRIES {
            return Err(format!("has more than {MOST_ENTRIES} tensors or keys"));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            let value = cursor.value(kind, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("has the key {key} twice"));
            }
        }
        let tensors: Result<Vec<_>, _> = (0..tensors).map(|_| cursor.tensor()).collect();
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(GgufValue::Unsigned(bytes @ 1..=65_536)) => *bytes,
            Some(other) => {
                return Err(format!(
                    "general.alignment is {other:?}, expected 1 to 65536"
                ));
            }
        };
        let mut header = Self {
            metadata,
            tensors: tensors?,
            header_bytes: cursor.at,
            file_bytes,
        };
        header.place(cursor.at.next_multiple_of(alignment))?;
        Ok(header)
    }

    /// Counts offsets from the beginning of the file, and holds them against its length.
    fn place(&mut self, data: u64) -> Result<(), String> {
        for tensor in &mut self.tensors {
            let place = data.checked_add(tensor.offset);
            let end = place.and_then(|place| place.checked_add(tensor.bytes));
            match (place, end) {
                (Some(place), Some(end)) if end <= self.file_bytes => tensor.offset = place,
                _ => {
                    return Err(format!(
                        "tensor `{}` ends behind the file, which has {} bytes: it is cut off; download it again",
                        tensor.name, self.file_bytes
                    ));
                }
            }
        }
        Ok(())
    }
}
