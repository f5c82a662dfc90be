//! The files of a ledger: their version and their names.

use std::path::{Path, PathBuf};

/// Version of tables, log and export. Whatever changes one of them, a field of a record included, raises it.
pub const VERSION: u32 = 2;

/// Where the log of a ledger is.
pub fn log_path(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".log");
    PathBuf::from(name)
}
