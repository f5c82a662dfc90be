//! The file that a run can be resumed from: a header, then a line of JSON for every document and item, and one at the
//! end of every part. What follows the last whole part is dropped when the run resumes, a torn line among it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metrics::{Answered, DocumentResult, PartConditions};
use super::{EvalError, EvalPart};

/// Of the format.
const VERSION: u32 = 1;

/// The first line: whose results these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultsHeader {
    sage_eval: u32,
    /// Fingerprint of the model.
    model: String,
    /// Digest of arms, texts, tasks and settings.
    arguments: String,
}

impl ResultsHeader {
    pub(super) fn new(model: String, arguments: String) -> Self {
        Self {
            sage_eval: VERSION,
            model,
            arguments,
        }
    }
}

/// What a part measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartResult {
    pub(super) documents: Vec<DocumentResult>,
    pub(super) items: Vec<Answered>,
    pub(super) done: PartConditions,
}

/// Finished parts by arm.
pub(super) type Results = BTreeMap<(usize, EvalPart), PartResult>;

/// What a line says of an arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ArmResult {
    Document(DocumentResult),
    Item(Answered),
    Done {
        part: EvalPart,
        under: PartConditions,
    },
}

/// Every line but the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ResultEntry {
    /// Index of the arm.
    arm: usize,
    /// Its name, for people.
    name: String,
    found: ArmResult,
}

/// The open file; without one, nothing is kept.
#[derive(Default)]
pub(super) struct ResumeFile {
    file: Option<(File, PathBuf)>,
    /// Still to be written: a run that is refused before it begins leaves an empty file, which any run may use.
    header: Option<ResultsHeader>,
}

impl ResumeFile {
    /// Opens or begins the file, and gives back what an earlier run finished; `expected` says how many documents and
    /// items a part has.
    pub(super) fn open(
        path: Option<&Path>,
        header: &ResultsHeader,
        expected: impl Fn(EvalPart) -> (usize, usize),
    ) -> Result<(Self, Results), EvalError> {
        let Some(path) = path else {
            return Ok((Self::default(), Results::new()));
        };
        let refused = |problem: String| EvalError::File {
            path: path.to_owned(),
            problem,
        };
        crate::input::check_replaceable(path).map_err(|error| refused(error.to_string()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| refused(error.to_string()))?;
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&file, lock).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => refused("another run is writing this file".into()),
            error => refused(error.to_string()),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| refused(error.to_string()))?;
        let (kept, results) = parse(path, &bytes, header, expected)?;
        file.set_len(kept)
            .and_then(|()| file.seek(SeekFrom::Start(kept)))
            .map_err(|error| refused(error.to_string()))?;
        let record = Self {
            file: Some((file, path.to_owned())),
            header: (kept == 0).then(|| header.clone()),
        };
        Ok((record, results))
    }

    /// Appends what an arm gave in a part; it is on the disk when this returns.
    pub(super) fn append(
        &mut self,
        arm: usize,
        name: &str,
        part: EvalPart,
        result: &PartResult,
    ) -> Result<(), EvalError> {
        if let Some(header) = self.header.take() {
            self.line(&header)?;
        }
        let documents = result.documents.iter().cloned().map(ArmResult::Document);
        let items = result.items.iter().cloned().map(ArmResult::Item);
        let under = result.done.clone();
        let done = std::iter::once(ArmResult::Done { part, under });
        for found in documents.chain(items).chain(done) {
            self.line(&ResultEntry {
                arm,
                name: name.to_owned(),
                found,
            })?;
        }
        match &self.file {
            Some((file, path)) => file
                .sync_data()
                .map_err(EvalError::system(format!("writing {}", path.display()))),
            None => Ok(()),
        }
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), EvalError> {
        let Some((file, path)) = &mut self.file else {
            return Ok(());
        };
        let trouble = format!("writing {}", path.display());
        let line = serde_json::to_string(value)
            .map_err(|error| EvalError::system(&trouble)(error.into()))?;
        // One write call: the line is there whole or torn.
        file.write_all(format!("{line}\n").as_bytes())
            .map_err(EvalError::system(&trouble))
    }
}

/// Bytes that stay, and the finished parts in them.
fn parse(
    path: &Path,
    bytes: &[u8],
    header: &ResultsHeader,
    expected: impl Fn(EvalPart) -> (usize, usize),
) -> Result<(u64, Results), EvalError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let Some(first) = lines.next() else {
        return Ok((0, Results::new()));
    };
    if first.last() != Some(&b'\n') {
        check_torn_header(path, first, header)?;
        return Ok((0, Results::new()));
    }
    check_header(path, first, header)?;
    let mut results = Results::new();
    let mut pending = PartResult::default();
    let (mut at, mut kept) = (first.len(), first.len());
    for (index, line) in lines.enumerate() {
        if line.last() != Some(&b'\n') {
            break;
        }
        let wrong = |problem: String| EvalError::Line {
            path: path.to_owned(),
            line: index + 2,
            problem: format!("{problem}; the file is damaged: remove it and run again"),
        };
        at += line.len();
        let entry: ResultEntry =
            serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        match entry.found {
            ArmResult::Document(document) => pending.documents.push(document),
            ArmResult::Item(item) => pending.items.push(item),
            ArmResult::Done { part, under } => {
                let found = (pending.documents.len(), pending.items.len());
                if found != expected(part) {
                    let (documents, items) = expected(part);
                    return Err(wrong(format!(
                        "{} ends after {} documents and {} items, expected {documents} and {items}",
                        entry.name, found.0, found.1
                    )));
                }
                let mut result = std::mem::take(&mut pending);
                result.done = under;
                results.insert((entry.arm, part), result);
                kept = at;
            }
        }
    }
    Ok((kept as u64, results))
}

fn check_header(path: &Path, line: &[u8], header: &ResultsHeader) -> Result<(), EvalError> {
    let refused = |problem: String| EvalError::File {
        path: path.to_owned(),
        problem,
    };
    let found: ResultsHeader = serde_json::from_slice(line).map_err(|_| {
        refused("no record of an evaluation; expected one, or a name that is free".into())
    })?;
    let other = |what: &str, found: &str, expected: &str| {
        Err(refused(format!(
            "results of another run: {what} {found:.12}…, expected {expected:.12}…; give --out another name, or remove the file"
        )))
    };
    if found.model != header.model {
        return other("model", &found.model, &header.model);
    }
    if found.arguments != header.arguments || found.sage_eval != header.sage_eval {
        return other("arguments", &found.arguments, &header.arguments);
    }
    Ok(())
}

/// A header that was cut short is begun again; anything else that lies there is not ours to overwrite.
fn check_torn_header(path: &Path, torn: &[u8], header: &ResultsHeader) -> Result<(), EvalError> {
    let whole = serde_json::to_vec(header).unwrap_or_default();
    if whole.starts_with(torn) {
        return Ok(());
    }
    Err(EvalError::File {
        path: path.to_owned(),
        problem: "no record of an evaluation; expected one, or a name that is free".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ResultsHeader {
        ResultsHeader::new("m".repeat(64), "a".repeat(64))
    }

    fn open(path: &Path) -> Result<(ResumeFile, Results), EvalError> {
        ResumeFile::open(Some(path), &header(), |part| match part {
            EvalPart::Text => (2, 0),
            EvalPart::Tasks => (0, 1),
        })
    }

    /// Writes two finished parts and one unfinished, and returns the bytes after each line.
    fn written(path: &Path) -> Vec<u64> {
        let mut ends = Vec::new();
        let (mut record, results) = open(path).unwrap();
        assert!(results.is_empty());
        let document = |tokens| DocumentResult {
            tokens,
            nll: 0.1 + tokens as f64 / 3.0,
            ..DocumentResult::default()
        };
        let read = PartResult {
            documents: vec![document(1), document(2)],
            ..PartResult::default()
        };
        let answered = PartResult {
            items: vec![Answered::default()],
            ..PartResult::default()
        };
        for (part, result) in [(EvalPart::Text, read), (EvalPart::Tasks, answered)] {
            record.append(0, "exact", part, &result).unwrap();
            ends.push(std::fs::metadata(path).unwrap().len());
        }
        // What an earlier version wrote line by line, and a kill cut short.
        let begun = ResultEntry {
            arm: 0,
            name: "exact".into(),
            found: ArmResult::Document(document(3)),
        };
        record.line(&begun).unwrap();
        ends
    }

    #[test]
    fn cut_anywhere_only_whole_parts_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let ends = written(&path);
        let bytes = std::fs::read(&path).unwrap();
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (_, results) = open(&path).unwrap();
            let whole = ends.iter().filter(|end| cut as u64 >= **end).count();
            assert_eq!(results.len(), whole, "cut at {cut}");
            // The header of a file that was cut within it is written with the first result.
            let header = if (cut as u64) < first { 0 } else { first };
            let kept = [header, ends[0], ends[1]][whole];
            assert_eq!(std::fs::metadata(&path).unwrap().len(), kept);
        }
        std::fs::write(&path, &bytes).unwrap();
        let (_, results) = open(&path).unwrap();
        let nll: Vec<f64> = results[&(0, EvalPart::Text)]
            .documents
            .iter()
            .map(|d| d.nll)
            .collect();
        assert_eq!(nll, [0.1 + 1.0 / 3.0, 0.1 + 2.0 / 3.0], "to the last bit");
    }

    #[test]
    fn what_is_not_this_run_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        written(&path);
        let bytes = std::fs::read(&path).unwrap();
        let ours = serde_json::to_string(&header()).unwrap();
        let other = ours.replace(&"a".repeat(64), "b") + "\n";
        let mut damaged = bytes.clone();
        damaged[ours.len() + 5] = b'!';
        for (content, message) in [
            (other.into_bytes(), "another run"),
            (b"notes of mine\n".to_vec(), "no record"),
            (b"notes".to_vec(), "no record"),
            (damaged, "line 2"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let error = open(&path).err().expect("refused").to_string();
            assert!(error.contains(message), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        std::fs::write(&path, &bytes).unwrap();
        let first = open(&path).unwrap();
        let busy = open(&path).err().expect("refused").to_string();
        assert!(busy.contains("another run is writing"), "{busy}");
        drop(first);
        assert!(open(&path).is_ok());
    }
}
