//! Whose doing an error is. It decides the exit code of a command, and whether a host is to ask otherwise or to see to its machine.

use std::io;

/// Whose doing an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request's: what was asked for, or a file that was named, is not what it should be. Asking again otherwise helps.
    Request,
    /// The program's or the machine's: the request was right and could not be served.
    Run,
}

impl Fault {
    /// Of trouble with a file that was named: that it is not there, or is a folder, is the request's; what a disk does is not.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
        match error.kind() {
            NotFound | IsADirectory | NotADirectory | InvalidInput => Self::Request,
            _ => Self::Run,
        }
    }
}

/// An error that says whose doing it is. Every variant is named in the match that decides, so that a new one cannot be forgotten.
pub trait Attributed: std::error::Error {
    /// Whose doing it is.
    fn fault(&self) -> Fault;
}
