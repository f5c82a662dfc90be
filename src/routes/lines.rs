//! The lines of recordings that are text.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::trace::TraceError;

/// The longest line that is read, bytes.
const MOST_LINE_BYTES: u64 = 1 << 20;

/// Calls `each` with every line and its number.
pub(super) fn lines(
    path: &Path,
    text: &mut dyn BufRead,
    mut each: impl FnMut(u64, &str) -> Result<(), String>,
) -> Result<(), TraceError> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = text.take(MOST_LINE_BYTES).read_until(b'\n', &mut bytes);
        let read = read.map_err(|source| unreadable(path, source))?;
        if read == 0 {
            break;
        }
        let done = if read as u64 == MOST_LINE_BYTES {
            Err("a line of more than 1 MiB: not a recording of routing".to_owned())
        } else {
            let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8".to_owned());
            text.and_then(|text| each(line, text.trim_end()))
        };
        done.map_err(|problem| TraceError::Line {
            path: path.to_owned(),
            line,
            problem,
        })?;
    }
    Ok(())
}

/// Why the text of a recording cannot be had: what is compressed may end too soon, or be no such thing, which is the file's doing
/// and not the disk's.
pub(super) fn unreadable(path: &Path, source: std::io::Error) -> TraceError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let problem = match source.kind() {
        UnexpectedEof => "the compressed file ends before its text does",
        InvalidData | InvalidInput => "the compressed file is damaged",
        _ => {
            return TraceError::Io {
                path: path.to_owned(),
                source,
            };
        }
    };
    TraceError::Whole {
        path: path.to_owned(),
        problem: format!("{problem} ({source}): get the whole file again"),
    }
}

/// A whole number below `most`.
pub(super) fn number(what: &str, text: &str, most: u64) -> Result<u64, String> {
    let value = text.trim().parse::<u64>().ok();
    value
        .filter(|value| *value < most)
        .ok_or_else(|| format!("{what} is `{text}`; expected a whole number below {most}"))
}
