//! Reads a recording, as far as it is whole.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::record::TraceRecord;
use super::{Chain, OLDEST_SCHEMA, SCHEMA, TraceError, TraceHeader};

/// A longer line is no line of a recording, bytes.
const MOST_LINE_BYTES: u64 = 1 << 28;

/// One line of it.
#[derive(Clone, Debug)]
pub struct TraceLine {
    /// Counted from 1; the header is line 1.
    pub number: u64,
    /// The event, byte for byte.
    pub body: String,
    /// The chain's digest after it.
    pub digest: String,
}

impl TraceLine {
    /// The event.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn record(&self) -> Result<TraceRecord, serde_json::Error> {
        serde_json::from_str(&self.body)
    }
}

#[derive(Deserialize)]
struct LineFields<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
    digest: String,
}

/// A recording that is being read, plain or gzip.
pub struct TraceReader {
    path: PathBuf,
    text: Box<dyn BufRead + Send>,
    number: u64,
    chain: Chain,
    cut: bool,
}

impl TraceReader {
    /// Opens a recording and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, or does not begin with a header of this version.
    pub fn open(path: &Path) -> Result<(Self, TraceHeader), TraceError> {
        let io = |source| TraceError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(io)?);
        let zipped = file.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
        let text: Box<dyn BufRead + Send> = if zipped {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        let mut reader = Self {
            path: path.to_owned(),
            text,
            number: 0,
            chain: Chain::default(),
            cut: false,
        };
        let whole = |problem: String| TraceError::Whole {
            path: path.to_owned(),
            problem,
        };
        let line = reader.next_line()?.ok_or_else(|| {
            whole("holds no whole line; expected a recording of `sage run --record`".to_owned())
        })?;
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(&line.body)
            .map_err(|error| reader.problem(format!("{error}; expected a recording's header")))?;
        if !(OLDEST_SCHEMA..=SCHEMA).contains(&schema) {
            return Err(whole(format!(
                "is of version {schema} of the format; this program reads versions {OLDEST_SCHEMA} to {SCHEMA}"
            )));
        }
        let header = serde_json::from_str(&line.body)
            .map_err(|error| reader.problem(format!("the header: {error}")))?;
        reader.chain = Chain::default();
        Ok((reader, header))
    }

    /// The next whole line; none at the end, and where the recording was cut.
    ///
    /// # Errors
    /// When the file cannot be read, or a line within it is damaged.
    pub fn next_line(&mut self) -> Result<Option<TraceLine>, TraceError> {
        if self.cut {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read =
            std::io::Read::take(&mut self.text, MOST_LINE_BYTES).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) if bytes.last() == Some(&b'\n') => {}
            Ok(read) if read as u64 == MOST_LINE_BYTES => {
                self.number += 1;
                return Err(
                    self.problem("a line of more than 256 MiB: no line of a recording".to_owned())
                );
            }
            // A line without its end: the recording was cut in it.
            Ok(_) => {
                self.cut = true;
                return Ok(None);
            }
            // So does a gzip stream that was cut.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.cut = true;
                return Ok(None);
            }
            Err(source) => {
                return Err(TraceError::Io {
                    path: self.path.clone(),
                    source,
                });
            }
        }
        self.number += 1;
        let written: LineFields<'_> = serde_json::from_slice(&bytes).map_err(|error| {
            self.problem(format!("{error}; expected {{\"event\":…,\"digest\":…}}"))
        })?;
        let body = written.event.get().to_owned();
        self.chain = self.chain.and(body.as_bytes());
        let expected = self.chain.hex();
        if written.digest != expected {
            return Err(self.problem(format!(
                "the digest is {}; expected {expected}: this line, or one before it, was changed",
                written.digest
            )));
        }
        Ok(Some(TraceLine {
            number: self.number,
            body,
            digest: expected,
        }))
    }

    /// The chain's digest so far.
    pub fn digest(&self) -> String {
        self.chain.hex()
    }

    /// An error about the line that was read last.
    pub fn problem(&self, problem: String) -> TraceError {
        TraceError::Line {
            path: self.path.clone(),
            line: self.number,
            problem,
        }
    }
}
