//! Where output goes: data to stdout, everything else to stderr, progress only to a terminal.
//!
//! Everything that is shown passes here, and what others wrote reaches no terminal raw.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::CliError;
use super::printable::{json_printable, printable};

/// Decides what is shown where and how.
#[derive(Debug, Clone)]
pub struct Printer {
    json: bool,
    terminal: bool,
    colour: bool,
}

impl Printer {
    /// A printer for this process; with `json`, data is JSON.
    pub fn new(json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            terminal,
            colour: terminal && !no_colour,
        }
    }

    /// Whether data is to be JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stderr may be coloured.
    pub(super) fn has_colour(&self) -> bool {
        self.colour
    }

    /// A line of data, to stdout.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn line(&self, text: impl Display) -> Result<(), CliError> {
        let text = text.to_string();
        Ok(writeln!(io::stdout().lock(), "{}", printable(&text))?)
    }

    /// One JSON object on a line, to stdout.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let json = serde_json::to_string(value)?;
        Ok(writeln!(io::stdout().lock(), "{}", json_printable(&json))?)
    }

    /// A table, to stdout.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn table(&self, table: &Table) -> Result<(), CliError> {
        let text = table.to_string();
        Ok(write!(io::stdout().lock(), "{}", printable(&text))?)
    }

    /// Something to know that is not data, to stderr.
    pub fn note(&self, text: impl Display) {
        self.say("", text, "");
    }

    /// A line to stderr between what turns a colour on and off.
    fn say(&self, before: &str, text: impl Display, after: &str) {
        let text = text.to_string();
        // A closed stderr is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{before}{}{after}", printable(&text));
    }

    /// Something by the way, to stderr, on a terminal only.
    pub fn aside(&self, text: impl Display) {
        if !self.terminal || self.json {
            return;
        }
        if self.colour {
            self.say("\x1b[2m", text, "\x1b[0m");
        } else {
            self.note(text);
        }
    }

    /// A piece of what a model thinks before it answers, to stderr: it is no part of the answer.
    pub fn thought(&self, text: &str) {
        if self.json {
            return;
        }
        let (begin, end) = if self.colour {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        let mut out = io::stderr().lock();
        let _ = write!(out, "{begin}{}{end}", printable(text));
        let _ = out.flush();
    }

    /// Ends what was thought, before the answer.
    pub fn end_thought(&self) {
        if !self.json {
            self.note("\n");
        }
    }

    /// Text of a line that is not yet complete, to stdout: as it is, unless that is a terminal.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn part(&self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        let shown = if out.is_terminal() {
            printable(text)
        } else {
            text.into()
        };
        out.write_all(shown.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Something to be careful about, to stderr.
    pub fn warn(&self, text: impl Display) {
        self.marked("33", "warning", text);
    }

    /// Why the command failed, to stderr.
    pub fn error(&self, error: &CliError) {
        if !matches!(error, CliError::Closed) {
            self.marked("31", "error", error);
        }
    }

    fn marked(&self, colour: &str, mark: &str, text: impl Display) {
        if self.colour {
            let before = format!("\x1b[1;{colour}m{mark}\x1b[0m: ");
            self.say(&before, text, "");
        } else {
            self.note(format_args!("{mark}: {text}"));
        }
    }

    /// A progress bar over `total_bytes`, on a terminal only.
    pub fn progress(&self, label: &'static str, total_bytes: u64) -> ProgressBar {
        let template =
            "{msg} {bar:32} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}";
        self.bar(total_bytes, template).with_message(label)
    }
}

impl Printer {
    /// A progress bar over countable steps, on a terminal only.
    pub fn steps(&self, label: &'static str, total: u64) -> ProgressBar {
        self.bar(total, "{msg} {bar:32} {pos}/{len} eta {eta}")
            .with_message(label)
    }

    /// Counts what has no known end.
    pub fn counter(&self, label: &'static str, unit: &'static str) -> ProgressBar {
        self.bar(0, "{msg} {pos} {prefix}")
            .with_message(label)
            .with_prefix(unit)
    }

    /// A line that is drawn again and again; none in a pipe or for JSON.
    pub fn live(&self) -> Option<ProgressBar> {
        (self.terminal && !self.json && io::stdout().is_terminal()).then(|| self.bar(1, "{msg}"))
    }

    /// What makes lines that are drawn again and again, for another thread; none where nobody would see them.
    pub fn line_maker(&self) -> Option<impl Fn() -> ProgressBar + Send + 'static> {
        let style = ProgressStyle::with_template("{msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        self.terminal
            .then_some(move || ProgressBar::new(1).with_style(style.clone()))
    }

    fn bar(&self, total: u64, template: &str) -> ProgressBar {
        if !self.terminal {
            return ProgressBar::hidden();
        }
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style)
    }
}

/// Rows of text in aligned columns; the first column is left-aligned, the others right-aligned.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self {
            rows: vec![titles.map(str::to_owned).into()],
        }
    }

    /// A table whose number of columns is found at run time.
    pub fn with_titles(titles: Vec<String>) -> Self {
        Self { rows: vec![titles] }
    }

    /// Adds a row to such a table.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut table = Table::new(["name", "bytes"]);
        table.row(["thinker".into(), "1".into()]);
        assert_eq!(table.to_string(), "name     bytes\nthinker      1\n");
    }
}
