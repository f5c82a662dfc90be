//! A safetensors file of f32 tensors: the same tensors and notes give the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{StoreError, write_file};

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct FloatTensor<'a> {
    /// Full name of the tensor.
    pub name: &'a str,
    /// Dimensions, outermost first; their product is the number of values.
    pub shape: &'a [usize],
    /// Numbers in row-major order.
    pub values: &'a [f32],
}

/// Writes `tensors` in their order, with `notes` as the file's metadata; the file is there only once it is whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_floats(
    path: &Path,
    notes: &BTreeMap<String, String>,
    tensors: &[FloatTensor<'_>],
) -> Result<(), StoreError> {
    write_file(path, &bytes_of(notes, tensors))
}

fn bytes_of(notes: &BTreeMap<String, String>, tensors: &[FloatTensor<'_>]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(notes));
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += size_of_val(tensor.values);
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end] });
        header.insert(tensor.name.to_owned(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The data begins at a multiple of 8, as the format asks.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    for tensor in tensors {
        for value in tensor.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn what_is_written_is_read_by_the_crate() {
        let notes = BTreeMap::from([("file".to_owned(), "a \"b\"\n.wav".to_owned())]);
        let (first, second) = ([1.0, -2.5, 3.0, 4.0, 5.0, 6.0], [0.5]);
        let tensors = [
            FloatTensor {
                name: "z.0",
                shape: &[3, 2],
                values: &first,
            },
            FloatTensor {
                name: "a.0",
                shape: &[1, 1],
                values: &second,
            },
        ];
        let bytes = bytes_of(&notes, &tensors);
        assert_eq!(bytes, bytes_of(&notes, &tensors));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["file"], "a \"b\"\n.wav");
        let read = SafeTensors::deserialize(&bytes).unwrap();
        for tensor in tensors {
            let found = read.tensor(tensor.name).unwrap();
            assert_eq!(found.shape(), tensor.shape);
            let values: Vec<f32> = found
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            assert_eq!(values, tensor.values);
        }
        assert!(SafeTensors::deserialize(&bytes_of(&notes, &[])).is_ok());
    }
}
