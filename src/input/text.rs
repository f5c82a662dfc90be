//! Text files that people write, and places in them.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Place, Problem};

/// Nobody writes more than this by hand; a device or a model named by mistake must not fill the memory.
const MOST_BYTES: u64 = 16 << 20;

/// Letters of a wrong value that a message repeats.
const SHOWN_CHARS: usize = 60;

/// Syntax errors that are reported of one text: what follows the first is often its echo.
const MOST_SYNTAX_PROBLEMS: usize = 10;

/// How the parser begins its message on a value that is none.
const UNQUOTED: &str = "string values must be quoted";

/// A text file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TextFileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// A text without the byte-order mark that some editors put before its first line.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads a text file of a size that people write; a byte-order mark before its first line is no part of it.
///
/// # Errors
/// When it cannot be read, is not UTF-8 or larger than 16 MiB.
pub fn read_text(path: &Path) -> Result<String, TextFileError> {
    let failed = |reason: String| TextFileError {
        path: path.to_owned(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(format!(
            "is larger than {} MiB: not a text that this program reads",
            MOST_BYTES >> 20
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        failed(format!(
            "is not UTF-8 text (byte {})",
            error.utf8_error().valid_up_to()
        ))
    })?;
    Ok(without_mark(&text).to_owned())
}

/// A text with the name of its file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// What stands in it.
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// The place of a byte; beyond the text: its end.
    pub fn place(&self, byte: usize) -> Place {
        let mut at = byte.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        // A byte order mark is not a character that anybody sees.
        let line = before[start..].trim_start_matches('\u{feff}');
        Place {
            file: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }

    /// A problem at the start of `span`.
    pub fn problem(
        &self,
        span: &Range<usize>,
        entry: impl Into<String>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problem {
        Problem {
            place: self.place(span.start),
            entry: entry.into(),
            message: message.into(),
            hint,
        }
    }

    /// The text as TOML, every key and value with its place.
    ///
    /// # Errors
    /// Every mistake of syntax.
    pub fn toml(&self) -> Result<Spanned<DeTable<'a>>, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(table);
        }
        let mut problems: Vec<Problem> = Vec::new();
        for error in errors {
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            let rest = self.text.get(span.start..).unwrap_or_default();
            // The parser takes nothing at all for a text without quotes.
            let nothing = rest.lines().next().unwrap_or_default().trim().is_empty();
            let message = match error.message() {
                unquoted if unquoted.starts_with(UNQUOTED) && nothing => "a value is missing",
                unquoted if unquoted.starts_with(UNQUOTED) => "a text must be in quotes",
                message => message,
            };
            let problem = self.problem(&span, "", message, None);
            // Of one line only the first: the others come from what the parser made of it.
            let echo = problems
                .iter()
                .any(|before| before.place.line == problem.place.line);
            if !echo && problems.len() < MOST_SYNTAX_PROBLEMS {
                problems.push(problem);
            }
        }
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        Err(problems)
    }
}

/// A text as a message repeats it: its beginning, on one line, without what a terminal would obey.
pub fn short(text: &str) -> String {
    let mut beginning: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        beginning.push('…');
    }
    let quoted = format!("{beginning:?}");
    quoted[1..quoted.len() - 1].to_owned()
}

/// A value as a message repeats it.
pub fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", short(text)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(list) => {
            let scalars = list.len() <= 8 && !list.iter().any(|item| item.get_ref().is_table());
            let items: Vec<String> = list.iter().map(|item| shown(item.get_ref())).collect();
            if scalars {
                format!("[{}]", items.join(", "))
            } else {
                format!("a list of {}", list.len())
            }
        }
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source<'_> {
        Source {
            path: Path::new("a.toml"),
            text,
        }
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let source = source("ä = 1\nb = 2\n");
        for (byte, shown) in [
            (0, "a.toml:1:1"),
            (2, "a.toml:1:2"),
            (1, "a.toml:1:1"),
            (7, "a.toml:2:1"),
            (11, "a.toml:2:5"),
            (1000, "a.toml:3:1"),
        ] {
            assert_eq!(source.place(byte).to_string(), shown, "byte {byte}");
        }
        assert_eq!(self::source("\u{feff}x").place(3).column, 1);
    }

    #[test]
    fn every_line_of_bad_syntax_is_reported_once() {
        let problems = source("a = \nb = 1\nc = [1\nd == 2\n")
            .toml()
            .expect_err("bad");
        let lines: Vec<usize> = problems.iter().map(|problem| problem.place.line).collect();
        assert_eq!(lines[0], 1, "{problems:#?}");
        assert!(lines.len() > 1, "{problems:#?}");
        let mut once = lines.clone();
        once.dedup();
        assert_eq!(once, lines);
        assert!(source("a = 1\na = 2").toml().is_err());
        let said = |text: &str| source(text).toml().expect_err("bad")[0].to_string();
        assert_eq!(said("a = 1\nb = \n"), "a.toml:2:5: a value is missing");
        assert_eq!(said("a = slow"), "a.toml:1:5: a text must be in quotes");
    }

    #[test]
    fn values_are_repeated_shortly() {
        let long = "x".repeat(100);
        let text = format!("s = '{long}'\nl = [1, 2.5, true]\nt = {{a = 1}}");
        let table = source(&text).toml().expect("TOML").into_inner();
        let value = |key: &str| shown(table[key].get_ref());
        assert_eq!(value("s"), format!("\"{}…\"", "x".repeat(60)));
        assert_eq!(value("l"), "[1, 2.5, true]");
        assert_eq!(value("t"), "a table");
        assert_eq!(short("a\u{1b}[31m\"b\"\n"), "a\\u{1b}[31m\\\"b\\\"\\n");
    }

    #[test]
    fn devices_folders_and_bytes_are_refused() {
        assert!(read_text(Path::new("/dev/zero")).is_err());
        assert!(read_text(Path::new("/")).is_err());
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [b'a', 0xff]).expect("written");
        let error = read_text(file.path()).expect_err("bytes").to_string();
        assert!(
            error.contains("UTF-8") && error.contains("byte 1"),
            "{error}"
        );
        std::fs::write(file.path(), "\u{feff}a\u{feff}\n").expect("written");
        assert_eq!(read_text(file.path()).expect("text"), "a\u{feff}\n");
    }
}
