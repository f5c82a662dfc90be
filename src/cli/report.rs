//! Where a run's report goes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CliError, Printer};
use crate::report::{RunReport, page};
use crate::store::write_file;

/// For people.
const PAGE: &str = "report.html";

/// For programs.
const DATA: &str = "report.json";

/// A folder that a report can be written into.
pub struct Destination {
    folder: PathBuf,
}

impl Destination {
    /// Makes the folder where it is not there, and tries whether it can be written: a long run must not end with nowhere
    /// to put its report.
    ///
    /// # Errors
    /// When it is no folder, or cannot be written.
    pub fn prepare(folder: &Path) -> Result<Self, CliError> {
        let shown = folder.display();
        if folder.exists() && !folder.is_dir() {
            return Err(CliError::request(format!(
                "--report {shown}: this is a file; expected a folder to write {PAGE} and {DATA} into"
            )));
        }
        let refused = |error: std::io::Error| {
            CliError::request(format!(
                "--report {shown}: cannot write there ({error}); expected a folder that can be made and written"
            ))
        };
        fs::create_dir_all(folder).map_err(refused)?;
        for name in [PAGE, DATA] {
            if folder.join(name).is_dir() {
                return Err(CliError::request(format!(
                    "--report {shown}: {name} in it is a folder; move it away, or name another folder"
                )));
            }
        }
        tempfile::tempfile_in(folder).map_err(refused)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Writes the report; each file appears under its name when it is whole and on disk.
    ///
    /// # Errors
    /// When the folder can no longer be written.
    pub fn write(&self, report: &RunReport, printer: &Printer) -> Result<(), CliError> {
        let page = page(report).map_err(|error| CliError::Failed(error.into()))?;
        let mut data = serde_json::to_string(report)?;
        data.push('\n');
        let path = self.folder.join(PAGE);
        for (path, text) in [(&path, page), (&self.folder.join(DATA), data)] {
            write_file(path, text.as_bytes()).map_err(|error| CliError::Failed(error.into()))?;
        }
        printer.note(format_args!("report: {}", path.display()));
        Ok(())
    }
}
