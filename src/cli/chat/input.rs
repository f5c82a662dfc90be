//! Where lines come from: a terminal with editing, or a pipe; and Ctrl-C.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use super::super::{CliError, Printer};
use crate::input::without_mark;

/// A line longer than this is no line.
const MOST_LINE_BYTES: u64 = 1 << 20;

/// Ctrl-C, as it reaches a process that works: a wish, never the end.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    wished: Arc<AtomicBool>,
    news: Arc<Notify>,
}

impl Interrupts {
    /// Listens from now on. Call inside the runtime.
    pub fn listen() -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::Failed(error.into());
        let mut signals = signal(SignalKind::interrupt()).map_err(failed)?;
        let interrupts = Self::default();
        let heard = interrupts.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                heard.wished.store(true, Ordering::Relaxed);
                heard.news.notify_one();
            }
        });
        Ok(interrupts)
    }

    /// Whether there was one since the last call.
    pub fn take(&self) -> bool {
        self.wished.swap(false, Ordering::Relaxed)
    }

    /// Waits for one.
    async fn next(&self) {
        while !self.take() {
            self.news.notified().await;
        }
    }
}

/// What the input gave.
#[derive(Debug)]
pub enum InputLine {
    /// A line.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Nothing will come any more.
    End,
}

/// The input.
pub enum ChatInput {
    /// A person at a terminal.
    Terminal(Box<DefaultEditor>),
    /// A pipe or a file.
    Piped(mpsc::Receiver<Result<String, CliError>>),
}

impl ChatInput {
    /// The input of this process.
    pub fn open(printer: &Printer) -> Result<Self, CliError> {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if terminal && !printer.is_json() {
            let editor = DefaultEditor::new().map_err(|error| CliError::Failed(error.into()))?;
            return Ok(Self::Terminal(Box::new(editor)));
        }
        // One line ahead: what is not read yet stays with whoever writes it.
        let (sender, lines) = mpsc::channel(1);
        let thread = std::thread::Builder::new().name("lines".into());
        let thread = thread.spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut first = true;
            while let Some(line) = read_line(&mut stdin, first).transpose() {
                first = false;
                let failed = line.is_err();
                if sender.blocking_send(line).is_err() || failed {
                    break;
                }
            }
        });
        thread.map_err(|error| CliError::Failed(error.into()))?;
        Ok(Self::Piped(lines))
    }

    /// Whether a person sits there.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line.
    pub async fn next(&mut self, interrupts: &Interrupts) -> Result<InputLine, CliError> {
        match self {
            // Nothing else is to be done meanwhile, so that it may block.
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    if !line.trim().is_empty() {
                        editor
                            .add_history_entry(&line)
                            .map_err(|error| CliError::Failed(error.into()))?;
                    }
                    Ok(InputLine::Text(line))
                }
                Err(ReadlineError::Interrupted) => Ok(InputLine::Interrupted),
                Err(ReadlineError::Eof) => Ok(InputLine::End),
                Err(ReadlineError::Io(error)) => Err(error.into()),
                Err(error) => Err(CliError::Failed(error.into())),
            },
            Self::Piped(lines) => tokio::select! {
                biased;
                () = interrupts.next() => Ok(InputLine::Interrupted),
                line = lines.recv() => Ok(match line.transpose()? {
                    Some(line) => InputLine::Text(line),
                    None => InputLine::End,
                }),
            },
        }
    }
}

/// A line without its end, and the first one without a byte-order mark; none at the end of the input.
fn read_line(input: &mut impl BufRead, first: bool) -> Result<Option<String>, CliError> {
    let mut bytes = Vec::new();
    let read = input
        .take(MOST_LINE_BYTES + 1)
        .read_until(b'\n', &mut bytes);
    read.map_err(|error| CliError::Failed(error.into()))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 > MOST_LINE_BYTES {
        return Err(CliError::request(format!(
            "a line of the input is longer than {} MiB",
            MOST_LINE_BYTES >> 20
        )));
    }
    let line = String::from_utf8(bytes)
        .map_err(|_| CliError::request("a line of the input is not UTF-8 text"))?;
    let line = if first { without_mark(&line) } else { &line };
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_the_input_and_have_bounds() {
        let mut input = "\u{feff}a\r\n\nb".as_bytes();
        let mut next = || read_line(&mut input, true).expect("a line");
        assert_eq!(next().as_deref(), Some("a"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("b"));
        assert_eq!(next(), None);
        let marked = read_line(&mut "\u{feff}a\n".as_bytes(), false).expect("a line");
        assert_eq!(marked.as_deref(), Some("\u{feff}a"));
        assert!(read_line(&mut &[0xff, b'\n'][..], true).is_err());
        let long = vec![b'x'; (MOST_LINE_BYTES + 2) as usize];
        assert!(read_line(&mut &long[..], true).is_err());
    }
}
