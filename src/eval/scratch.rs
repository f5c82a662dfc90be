//! What the processes of a run share: the tokens of all documents and items, and the oracle's logits.
//!
//! One file without a name, given to every process as its standard input: whatever ends the run, nothing is left of it.
//! Layout: length of the header (u64), header (JSON), tokens (u32) of all documents, then of all items, then logits
//! (f32) `[vocabulary]` of every position of a document that has a successor, document by document; little-endian. A
//! process reads one document and one position at a time, so that its memory does not grow with the material.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::EvalError;
use super::material::Material;

#[derive(Serialize, Deserialize)]
struct ScratchHeader {
    vocabulary: usize,
    /// Tokens of every document.
    documents: Vec<usize>,
    /// Tokens of every item's prompt.
    items: Vec<usize>,
}

/// The shared file.
pub(super) struct Scratch {
    file: File,
    header: ScratchHeader,
    tokens_at: u64,
    logits_at: u64,
    buffer: Vec<u8>,
}

const TOKEN_BYTES: u64 = 4;
const LOGIT_BYTES: u64 = 4;

impl Scratch {
    /// A new file in `folder`, else where the system keeps temporary files, with the material in it.
    pub(super) fn create(
        folder: Option<&Path>,
        material: &Material,
        vocabulary: usize,
    ) -> Result<Self, EvalError> {
        let default = std::env::temp_dir();
        let folder = folder.unwrap_or(&default);
        let trouble = format!("a scratch file in {}", folder.display());
        let file = tempfile::tempfile_in(folder).map_err(EvalError::system(&trouble))?;
        let header = ScratchHeader {
            vocabulary,
            documents: lengths(material.documents.iter().map(|d| &d.tokens)),
            items: lengths(material.items.iter().map(|item| &item.tokens)),
        };
        let json = serde_json::to_vec(&header)
            .map_err(|error| EvalError::system(&trouble)(error.into()))?;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(&json);
        let sequences = material.documents.iter().map(|d| &d.tokens);
        for token in sequences
            .chain(material.items.iter().map(|item| &item.tokens))
            .flatten()
        {
            bytes.extend(token.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)
            .map_err(EvalError::system(&trouble))?;
        Ok(Self::new(file, header, json.len()))
    }

    /// The file that another process made.
    pub(super) fn open(file: File) -> Result<Self, EvalError> {
        let trouble = "the scratch file that an evaluation gives its processes as standard input";
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0)
            .map_err(EvalError::system(trouble))?;
        let end = file.metadata().map_err(EvalError::system(trouble))?.len();
        let length = u64::from_le_bytes(length).min(end) as usize;
        let mut json = vec![0; length];
        file.read_exact_at(&mut json, 8)
            .map_err(EvalError::system(trouble))?;
        let header = serde_json::from_slice(&json)
            .map_err(|error| EvalError::system(trouble)(error.into()))?;
        Ok(Self::new(file, header, length))
    }

    fn new(file: File, header: ScratchHeader, json_bytes: usize) -> Self {
        let tokens: usize = header.documents.iter().chain(&header.items).sum();
        let tokens_at = 8 + json_bytes as u64;
        Self {
            file,
            header,
            tokens_at,
            logits_at: tokens_at + tokens as u64 * TOKEN_BYTES,
            buffer: Vec::new(),
        }
    }

    /// The file again, for another process.
    pub(super) fn share(&self) -> Result<File, EvalError> {
        self.file
            .try_clone()
            .map_err(EvalError::system("the scratch file"))
    }

    /// How many documents there are.
    pub(super) fn documents(&self) -> usize {
        self.header.documents.len()
    }

    /// How many items there are.
    pub(super) fn items(&self) -> usize {
        self.header.items.len()
    }

    /// Tokens of a document.
    pub(super) fn document(&self, index: usize) -> Result<Vec<u32>, EvalError> {
        let before: usize = self.header.documents[..index].iter().sum();
        self.tokens(before, self.header.documents[index])
    }

    /// Tokens of an item's prompt.
    pub(super) fn item(&self, index: usize) -> Result<Vec<u32>, EvalError> {
        let documents: usize = self.header.documents.iter().sum();
        let before: usize = self.header.items[..index].iter().sum();
        self.tokens(documents + before, self.header.items[index])
    }

    fn tokens(&self, before: usize, count: usize) -> Result<Vec<u32>, EvalError> {
        let mut bytes = vec![0; count * TOKEN_BYTES as usize];
        self.file
            .read_exact_at(&mut bytes, self.tokens_at + before as u64 * TOKEN_BYTES)
            .map_err(EvalError::system("reading tokens from the scratch file"))?;
        Ok(bytes
            .chunks_exact(TOKEN_BYTES as usize)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    fn logits_offset(&self, document: usize, position: usize) -> u64 {
        let before: usize = self.header.documents[..document]
            .iter()
            .map(|tokens| tokens - 1)
            .sum();
        let row = self.header.vocabulary as u64 * LOGIT_BYTES;
        self.logits_at + (before + position) as u64 * row
    }

    /// Keeps the oracle's logits of a position.
    pub(super) fn write_logits(
        &mut self,
        document: usize,
        position: usize,
        logits: &[f32],
    ) -> Result<(), EvalError> {
        self.buffer.clear();
        self.buffer
            .extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
        let at = self.logits_offset(document, position);
        self.file
            .write_all_at(&self.buffer, at)
            .map_err(EvalError::system(
                "writing the oracle's logits to the scratch file (--scratch FOLDER puts it where there is room)",
            ))
    }

    /// The oracle's logits of a position.
    pub(super) fn read_logits(
        &mut self,
        document: usize,
        position: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), EvalError> {
        let bytes = self.header.vocabulary * LOGIT_BYTES as usize;
        self.buffer.resize(bytes, 0);
        let at = self.logits_offset(document, position);
        self.file
            .read_exact_at(&mut self.buffer, at)
            .map_err(EvalError::system(
                "reading the oracle's logits from the scratch file",
            ))?;
        logits.clear();
        logits.extend(
            self.buffer
                .chunks_exact(LOGIT_BYTES as usize)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        );
        Ok(())
    }
}

fn lengths<'a>(sequences: impl Iterator<Item = &'a Vec<u32>>) -> Vec<usize> {
    sequences.map(Vec::len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::material::{Document, TaskItem};

    #[test]
    fn another_process_finds_what_was_written() {
        let document = |tokens: &[u32]| Document {
            name: String::new(),
            tokens: tokens.to_vec(),
        };
        let item = TaskItem {
            task: "t".into(),
            name: String::new(),
            tokens: vec![9, 8],
            answer: "x".into(),
        };
        let material = Material {
            documents: vec![document(&[1, 2, 3]), document(&[4, 5])],
            items: vec![item],
        };
        let mut written = Scratch::create(None, &material, 2).unwrap();
        let mut found = Scratch::open(written.share().unwrap()).unwrap();
        assert_eq!((found.documents(), found.items()), (2, 1));
        assert_eq!(found.document(1).unwrap(), [4, 5]);
        assert_eq!(found.item(0).unwrap(), [9, 8]);
        for (document, position, logits) in
            [(0, 0, [1.5, -2.0]), (0, 1, [3.0, 4.0]), (1, 0, [5.0, 6.0])]
        {
            written.write_logits(document, position, &logits).unwrap();
        }
        let mut logits = Vec::new();
        found.read_logits(0, 1, &mut logits).unwrap();
        assert_eq!(logits, [3.0, 4.0]);
        found.read_logits(1, 0, &mut logits).unwrap();
        assert_eq!(logits, [5.0, 6.0]);
        assert!(
            found.read_logits(1, 1, &mut logits).is_err(),
            "beyond the end"
        );
    }
}
